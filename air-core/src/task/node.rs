//! [`Node`]: one task, from its start to its result. Task, result and place in the graph are one allocation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::alarm::Alarm;
use super::args::Args;
use super::blocked::{Blocked, try_blocked};
use super::context::{self, Running};
use super::countdown::Countdown;
use super::delay::Delayed;
use super::job::{Job, Priority, Ran};
use super::pool::Shared;
use super::retry::Retry;
use crate::BoxError;
use crate::clock::Clock;
use crate::device::Device;
use crate::object::{Cell, Dependant, Name, Object, ObjectError, ObjectSlot, Outcome, Slot, settle};
use crate::resource::{Lease, ResourceError, Resources};
use crate::trace::Origin;

/// What a task is besides its body and arguments.
pub(super) struct Plan {
    pub(super) name: Name,
    pub(super) priority: Priority,
    /// Rarely there, so kept apart.
    pub(super) extra: Option<Box<Extra>>,
}

#[derive(Default)]
pub(super) struct Extra {
    pub(super) retry: Option<Retry>,
    pub(super) timeout: Option<Duration>,
    pub(super) resources: Option<Resources>,
}

pub(super) struct Node<B, A, T> {
    slot: ObjectSlot<T>,
    stage: Mutex<Stage<B, A>>,
    countdown: Countdown,
    plan: Plan,
    shared: Arc<Shared>,
}

struct Stage<B, A> {
    at: At,
    /// Body and arguments, while nobody runs them.
    work: Option<(B, A)>,
    attempts: u32,
    alarm: Option<Arc<Alarm>>,
    /// Whether its time was over while it ran, so that its thread does not count any more.
    overdue: bool,
    /// What it may use until it is over, where it asked for something.
    lease: Option<Lease>,
    /// The span it was started in, while it is not over and nobody runs it.
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Waits for arguments, for resources, or to be tried again.
    Held,
    /// In a queue.
    Ready,
    Running,
    Over,
}

/// Starts a task; its result.
pub(super) fn start<B, A, T>(shared: &Arc<Shared>, plan: Plan, args: A, body: B) -> Object<T>
where
    B: FnMut(A::Given) -> Result<T, BoxError> + Send + 'static,
    A: Args,
    T: Send + Sync + 'static,
{
    shared.enter();
    let count = args.count();
    let waits = count > 0 || plan.extra.as_ref().is_some_and(|extra| extra.resources.is_some());
    let watched = (count > 0).then(|| args.clone());
    let node = Arc::new(Node {
        slot: Slot::empty(),
        stage: Mutex::new(Stage {
            at: if waits { At::Held } else { At::Ready },
            work: Some((body, args)),
            attempts: 0,
            alarm: None,
            overdue: false,
            lease: None,
            origin: Origin::here(),
        }),
        // One more than there are arguments: nothing begins before all of them are watched.
        countdown: Countdown::new(count + 1),
        plan,
        shared: Arc::clone(shared),
    });
    match watched {
        None if waits => Arc::clone(&node).admit(),
        None => shared.push(Arc::clone(&node) as _),
        Some(args) => {
            let dependant: Arc<dyn Dependant> = node.clone();
            args.watch(&dependant);
            dependant.arrived(false);
        }
    }
    Object::new(node)
}

impl<B, A, T> Node<B, A, T>
where
    B: FnMut(A::Given) -> Result<T, BoxError> + Send + 'static,
    A: Args,
    T: Send + Sync + 'static,
{
    /// Body and arguments, for whoever comes first when they are ready.
    fn claim(self: &Arc<Self>) -> Option<(B, A)> {
        let mut stage = self.stage.lock();
        if stage.at != At::Ready {
            return None;
        }
        let work = stage.work.take();
        if self.slot.get().is_some() {
            // Cancelled: it is dropped here, outside the lock.
            stage.at = At::Over;
            let (lease, origin) = (stage.lease.take(), std::mem::take(&mut stage.origin));
            drop(stage);
            drop((work, lease, origin));
            return None;
        }
        stage.at = At::Running;
        stage.attempts += 1;
        let first = stage.attempts == 1;
        drop(stage);
        if first && let Some(limit) = self.plan.extra.as_ref().and_then(|extra| extra.timeout) {
            self.set_alarm(limit);
        }
        work
    }

    fn set_alarm(self: &Arc<Self>, limit: Duration) {
        let node: Weak<Self> = Arc::downgrade(self);
        let alarm = Alarm::set(&self.shared.clock, limit, move || {
            if let Some(node) = node.upgrade() {
                node.expire(limit);
            }
        });
        self.stage.lock().alarm = Some(alarm);
    }

    /// The time is over. Runs on the clock's thread, so it drops nothing of the user's: that is left to who finds it in the queue.
    fn expire(&self, limit: Duration) {
        if settle(&self.slot, Outcome::Failed(ObjectError::TimedOut { task: self.plan.name.clone(), limit }))
        {
            let mut stage = self.stage.lock();
            if stage.at == At::Running {
                stage.overdue = true;
                drop(stage);
                self.shared.begin_wait(true);
            }
        }
    }

    fn run_claimed(self: &Arc<Self>, (mut body, args): (B, A)) -> Ran {
        let name = &self.plan.name;
        let (attempts, origin) = {
            let mut stage = self.stage.lock();
            (stage.attempts, std::mem::take(&mut stage.origin))
        };
        let began = self.shared.timeline.begin();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _span = origin.attempt(name).entered();
            let given = args
                .given()
                .map_err(|source| ObjectError::Argument { task: name.clone(), source: Arc::new(source) })?;
            let _running = context::enter(Arc::clone(self) as _);
            match body(given) {
                Ok(value) => Ok(self.shared.store.hold(value)),
                Err(error) => {
                    Err(ObjectError::Failed { task: name.clone(), attempts, source: Arc::from(error) })
                }
            }
        }));
        let result = result.unwrap_or_else(|payload| {
            Err(ObjectError::Panicked { task: name.clone(), attempts, message: message(&*payload) })
        });
        if let Some(began) = began {
            // On the line of its thread.
            let lane = std::thread::current().name().unwrap_or("tasks").into();
            self.shared.timeline.end(began, "task", name.clone(), &lane);
        }
        let again = match &result {
            Err(error) if self.slot.get().is_none() && !self.shared.closing() => self.again(attempts, error),
            _ => None,
        };
        let mut stage = self.stage.lock();
        if std::mem::take(&mut stage.overdue) {
            self.shared.end_wait();
        }
        if let Some(after) = again {
            stage.work = Some((body, args));
            stage.origin = origin;
            stage.at = At::Held;
            drop(stage);
            self.retry(after);
            return Ran::Again;
        }
        stage.at = At::Over;
        let (alarm, lease) = (stage.alarm.take(), stage.lease.take());
        drop(stage);
        drop(origin);
        if let Some(alarm) = alarm {
            alarm.put_off();
        }
        // What the closure and the arguments hold is gone before anybody sees the result.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((body, args, lease))));
        settle(&self.slot, result.unwrap_or_else(Outcome::Failed));
        if dropped.is_err() {
            tracing::error!(task = %name, "what the task held panicked when it was dropped");
        }
        Ran::Done
    }

    /// Its arguments are there: it goes into the queue as soon as it has its resources.
    fn admit(self: Arc<Self>) {
        let shared = Arc::clone(&self.shared);
        let Some(resources) = self.plan.extra.as_ref().and_then(|extra| extra.resources.clone()) else {
            self.due();
            return shared.push_next(self);
        };
        shared
            .leases
            .when_free(self.plan.name.as_ref().into(), &resources, move |granted| self.granted(granted));
    }

    /// Runs on the thread of whoever gave the resources back.
    fn granted(self: Arc<Self>, granted: Result<Lease, ResourceError>) {
        let task = self.plan.name.clone();
        match granted {
            Ok(lease) => {
                let mut stage = self.stage.lock();
                // One that was cancelled meanwhile needs nothing.
                let unused = if stage.at == At::Held { stage.lease.replace(lease) } else { Some(lease) };
                drop(stage);
                drop(unused);
            }
            Err(ResourceError::Closed) => {
                settle(&self.slot, Outcome::Failed(ObjectError::Stopped { task }));
            }
            Err(source) => {
                let source = Arc::new(source);
                settle(&self.slot, Outcome::Failed(ObjectError::Resources { task, source }));
            }
        }
        self.due();
        let shared = Arc::clone(&self.shared);
        shared.push(self);
    }

    fn again(&self, attempts: u32, error: &ObjectError) -> Option<Duration> {
        let retry = self.plan.extra.as_ref()?.retry.as_ref()?;
        let seed = self.shared.next_seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The user's predicate may panic: then it has not said yes.
        catch_unwind(AssertUnwindSafe(|| retry.decide(attempts, error, seed))).unwrap_or(None)
    }

    fn retry(self: &Arc<Self>, after: Duration) {
        tracing::debug!(task = %self.plan.name, ?after, "trying again");
        Delayed::push(&self.shared, Arc::clone(self) as _, after);
    }

    /// Settles the task with an error and drops what has not begun; whether it had no outcome yet.
    fn end(&self, error: ObjectError) -> bool {
        let open = settle(&self.slot, Outcome::Failed(error));
        if open {
            let mut stage = self.stage.lock();
            let work = stage.work.take();
            if work.is_some() {
                stage.at = At::Over;
            }
            let alarm = stage.alarm.take();
            // A body that runs goes on with what it has.
            let lease = if stage.at == At::Over { stage.lease.take() } else { None };
            let origin = std::mem::take(&mut stage.origin);
            drop(stage);
            if let Some(alarm) = alarm {
                alarm.put_off();
            }
            drop((work, lease, origin));
        }
        open
    }
}

/// What a panic's payload says.
fn message(payload: &(dyn std::any::Any + Send)) -> Arc<str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .into()
}

impl<B, A, T> Job for Node<B, A, T>
where
    B: FnMut(A::Given) -> Result<T, BoxError> + Send + 'static,
    A: Args,
    T: Send + Sync + 'static,
{
    fn run(self: Arc<Self>) -> Ran {
        match self.claim() {
            Some(work) => self.run_claimed(work),
            None => Ran::Done,
        }
    }

    fn due(&self) {
        let mut stage = self.stage.lock();
        if stage.at == At::Held {
            stage.at = At::Ready;
        }
    }

    fn stop(self: Arc<Self>) {
        self.end(ObjectError::Stopped { task: self.plan.name.clone() });
    }

    fn priority(&self) -> Priority {
        self.plan.priority
    }
}

impl<B, A, T> Dependant for Node<B, A, T>
where
    B: FnMut(A::Given) -> Result<T, BoxError> + Send + 'static,
    A: Args,
    T: Send + Sync + 'static,
{
    fn arrived(self: Arc<Self>, failed: bool) {
        if !self.countdown.arrive(failed) {
            return;
        }
        if failed {
            // It will not run, so it needs no resources.
            self.due();
            let shared = Arc::clone(&self.shared);
            return shared.push_next(self);
        }
        self.admit();
    }
}

impl<B, A, T> Running for Node<B, A, T>
where
    B: Send,
    A: Send,
    T: Send + Sync,
{
    fn is_over(&self) -> bool {
        self.slot.get().is_some() || self.shared.closing()
    }

    fn attempt(&self) -> u32 {
        self.stage.lock().attempts
    }

    fn devices(&self) -> Vec<Device> {
        self.stage.lock().lease.as_ref().map_or_else(Vec::new, Lease::devices)
    }
}

impl<B, A, T> Cell<T> for Node<B, A, T>
where
    B: FnMut(A::Given) -> Result<T, BoxError> + Send + 'static,
    A: Args,
    T: Send + Sync + 'static,
{
    fn slot(&self) -> &ObjectSlot<T> {
        &self.slot
    }

    fn run_here(self: Arc<Self>) {
        let Some(_deeper) = context::deeper() else { return };
        if let Some(work) = self.claim()
            && self.run_claimed(work) == Ran::Again
        {
            // The entry in the queue is a blank now, and there is another one to come.
            self.shared.started();
        }
    }

    fn may_wait(&self) -> Result<Option<Blocked>, ObjectError> {
        try_blocked(&self.shared)
    }

    fn cancel(&self) -> bool {
        self.end(ObjectError::Cancelled { task: self.plan.name.clone() })
    }

    fn clock(&self) -> Option<&Clock> {
        Some(&self.shared.clock)
    }
}
