//! [`Object`]: a handle on a value that is there or will be.

use std::fmt;
use std::hint::spin_loop;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::{Either, select};

use super::value::Held;
use super::{ObjectError, ObjectFuture, ObjectSlot, Outcome, Slot, Value, settle};
use crate::block_on;
use crate::clock::Clock;
use crate::task::Blocked;

/// How often a caller looks before it parks: a small task that is being run ends sooner than a thread can be woken.
const SPINS: u32 = 200;

/// Where an object lives: with its task, or alone.
pub(crate) trait Cell<T>: Send + Sync {
    fn slot(&self) -> &ObjectSlot<T>;

    /// Runs the task on this thread if nobody has begun it: whoever would only wait does better.
    fn run_here(self: Arc<Self>) {}

    /// Says that this thread is about to wait for it; an error where it may not.
    fn may_wait(&self) -> Result<Option<Blocked>, ObjectError> {
        Ok(None)
    }

    /// Ends the task with `Cancelled`; whether it was open.
    fn cancel(&self) -> bool {
        false
    }

    fn clock(&self) -> Option<&Clock> {
        None
    }
}

/// A handle on a value that is there or will be. Cheap to clone; dropping the last one frees the value.
pub struct Object<T> {
    cell: Arc<dyn Cell<T>>,
}

impl<T: Send + Sync + 'static> Object<T> {
    pub(crate) fn new(cell: Arc<dyn Cell<T>>) -> Self {
        Self { cell }
    }

    /// One that is there.
    pub(crate) fn settled(outcome: Outcome<T>) -> Self {
        let promise = Promise::empty();
        settle(&promise.slot, outcome);
        Self::new(Arc::new(promise))
    }

    /// The value; blocks this thread until it is there.
    ///
    /// A task that no thread has begun yet is run by the caller, which would only wait otherwise. Inside a task, other tasks go on while
    /// this one waits. In async code, await the object instead.
    ///
    /// # Errors
    /// What kept the task, or one it depends on, from giving a value.
    pub fn get(&self) -> Result<Value<T>, ObjectError> {
        if !self.is_ready() {
            Arc::clone(&self.cell).run_here();
        }
        for _ in 0..SPINS {
            if self.is_ready() {
                return self.value();
            }
            spin_loop();
        }
        let _blocked = self.cell.may_wait()?;
        block_on(ObjectFuture::new(self.clone()))
    }

    /// As [`get`](Self::get), and [`ObjectError::Expired`] where the value is not there in time. The task goes on.
    pub fn get_within(&self, limit: Duration) -> Result<Value<T>, ObjectError> {
        let Some(clock) = self.cell.clock() else { return self.get() };
        if self.is_ready() {
            return self.value();
        }
        let _blocked = self.cell.may_wait()?;
        match block_on(select(ObjectFuture::new(self.clone()), clock.sleep(limit))) {
            Either::Left((value, _)) => value,
            Either::Right(_) if self.is_ready() => self.value(),
            Either::Right(_) => Err(ObjectError::Expired { waited: limit }),
        }
    }

    /// The value if it is there.
    pub fn try_get(&self) -> Option<Result<Value<T>, ObjectError>> {
        self.is_ready().then(|| self.value())
    }

    /// Whether a value, or an error in its place, is there.
    pub fn is_ready(&self) -> bool {
        self.cell.slot().get().is_some()
    }

    /// Ends the task whose result this is, with [`ObjectError::Cancelled`]; tasks that depend on it do not run. Whether it had no
    /// result yet.
    ///
    /// A task that has begun is told ([`task::is_cancelled`](crate::task::is_cancelled)), and what it returns is dropped.
    pub fn cancel(&self) -> bool {
        self.cell.cancel()
    }

    /// The outcome of a settled object; reads it back if it is on disk.
    pub(crate) fn value(&self) -> Result<Value<T>, ObjectError> {
        match self.cell.slot().get() {
            Some(Outcome::Plain(_)) => Ok(Value::new(Held::Plain(Arc::clone(&self.cell)))),
            Some(Outcome::Stored(stored)) => {
                let (value, pin) = stored.get()?;
                Ok(Value::new(Held::Stored(value, pin)))
            }
            Some(Outcome::Failed(error)) => Err(error.clone()),
            // Asked too early; nobody does.
            None => Err(ObjectError::Expired { waited: Duration::ZERO }),
        }
    }
}

impl<T> Object<T> {
    pub(crate) fn slot(&self) -> &ObjectSlot<T> {
        self.cell.slot()
    }
}

impl<T> Clone for Object<T> {
    fn clone(&self) -> Self {
        Self { cell: Arc::clone(&self.cell) }
    }
}

impl<T> fmt::Debug for Object<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.slot().get() {
            None => "waiting",
            Some(Outcome::Failed(_)) => "failed",
            Some(_) => "ready",
        };
        f.debug_tuple("Object").field(&state).finish()
    }
}

/// An object that is settled by hand: at once, or as one result of a task with several.
pub struct Promise<T> {
    pub(crate) slot: ObjectSlot<T>,
    /// The task that settles it.
    pub(crate) parent: OnceLock<Object<()>>,
}

impl<T> Promise<T> {
    pub(crate) fn empty() -> Self {
        Self { slot: Slot::empty(), parent: OnceLock::new() }
    }
}

impl<T: Send + Sync> Cell<T> for Promise<T> {
    fn slot(&self) -> &ObjectSlot<T> {
        &self.slot
    }

    fn run_here(self: Arc<Self>) {
        if let Some(parent) = self.parent.get() {
            Arc::clone(&parent.cell).run_here();
        }
    }

    fn may_wait(&self) -> Result<Option<Blocked>, ObjectError> {
        self.parent.get().map_or(Ok(None), |parent| parent.cell.may_wait())
    }

    fn cancel(&self) -> bool {
        self.parent.get().is_some_and(Object::cancel)
    }

    fn clock(&self) -> Option<&Clock> {
        self.parent.get().and_then(|parent| parent.cell.clock())
    }
}
