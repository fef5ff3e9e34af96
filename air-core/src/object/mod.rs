//! Objects: values that are there or will be, shared without copying.
//!
//! An [`Object`] is a handle on a value somebody put ([`put`](crate::RuntimeHandle::put)) or on the result of a
//! [task](crate::RuntimeHandle::task). Everyone with a clone of the handle may [`get`](Object::get) it, await it, or give it to a task as an
//! argument. What `get` returns is a [`Value`]: shared access to the value where it lies.
//!
//! ```
//! # use air_core::{BoxError, Runtime};
//! # use std::time::Duration;
//! let runtime = Runtime::start()?;
//! let rows = runtime.put(vec![0_u8; 1 << 20])?;
//! assert_eq!(rows.get()?.len(), 1 << 20); // no copy
//!
//! let squares: Vec<_> = (0..8_u64).map(|n| runtime.task("square").spawn(move || Ok(n * n))).collect();
//! let three = runtime.wait(&squares, 3, Some(Duration::from_secs(60)));
//! assert!(three.len() >= 3);
//! # Ok::<(), BoxError>(())
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `slot` | the one moment in which an object is settled |
//! | `handle` | `Object`: what users hold; `value`, `future`, `wait`: how they get at the value |
//! | `error` | why there is no value |
//! | `spill` | what can go to disk and come back |
//! | `ledger` | what goes next: pure decisions |
//! | `store`, `stored`, `file` | doing it |
//!
//! Invariants:
//!
//! 1. An object is settled once; everyone sees the same outcome.
//! 2. Dropping the last handle frees memory and disk at once.
//! 3. Of values that can spill, `in_memory_bytes` and `spilled_bytes` are the exact sums at every moment.
//! 4. While somebody holds a [`Value`] it does not spill. Above the budget there is only what is held, or cannot be written.
//! 5. A value that cannot be written stays in memory: a full disk loses nothing.

mod config;
mod error;
mod file;
mod future;
mod handle;
mod ledger;
mod slot;
mod spill;
mod store;
mod stored;
mod value;
mod wait;

/// What the model checker replaces.
mod sync {
    pub(super) use parking_lot::Mutex;
    pub(super) use std::sync::OnceLock;
}

use std::fmt;
use std::sync::Arc;

pub use config::ObjectConfig;
pub use error::ObjectError;
pub use future::ObjectFuture;
pub use handle::Object;
pub use spill::Spill;
pub use store::ObjectStats;
pub use value::Value;

pub(crate) use error::Name;
pub(crate) use handle::{Cell, Promise};
pub(crate) use sealed::Dependant;
pub(crate) use slot::Slot;
pub(crate) use store::Store;
pub(crate) use wait::wait;

use stored::Stored;

/// What became of an object.
pub(crate) enum Outcome<T> {
    Plain(T),
    Stored(Arc<Stored<T>>),
    Failed(ObjectError),
}

mod sealed {
    /// Who is told when an object is settled.
    pub trait Dependant: Send + Sync {
        fn arrived(self: std::sync::Arc<Self>, failed: bool);
    }
}

pub(crate) type ObjectSlot<T> = Slot<Outcome<T>, Arc<dyn Dependant>>;

/// Settles an object and tells who depends on it; whether it was open.
pub(crate) fn settle<T>(slot: &ObjectSlot<T>, outcome: Outcome<T>) -> bool {
    let failed = matches!(outcome, Outcome::Failed(_));
    match slot.settle(outcome) {
        Ok(dependants) => {
            for dependant in dependants {
                dependant.arrived(failed);
            }
            true
        }
        Err(_late) => false,
    }
}

/// A value that could not be put, and why: the budget is exceeded, and what could make room cannot be written to disk.
pub struct PutError<T> {
    /// The value.
    pub value: T,
    /// What could not be written.
    pub source: ObjectError,
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for the object: {}", self.source)
    }
}

impl<T> std::error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.source)
    }
}

impl<T> From<PutError<T>> for crate::CoreError {
    /// Drops the value.
    fn from(error: PutError<T>) -> Self {
        Self::Object(error.source)
    }
}
