//! Supervised workers: the actor runtime.
//!
//! | file | idea |
//! |---|---|
//! | `message` | what users write: `Message`, `Worker`, `Handle` |
//! | `mailbox` | how a worker is reached; `ending`: how it is ended |
//! | `call` | one message on its way, and the answer on its way back; `pending`: as its sender holds it |
//! | `how` | the ways a worker handles a message: one by one, in batches, concurrently; `flight`: calls in progress |
//! | `queue` | what waits for a worker and what it has in hand, older than any one life of it |
//! | `cell` | one life of a worker: the actix actor |
//! | `exit` | why it ended |
//! | `watch` | being told of another worker's end: monitors and links |
//! | `names` | finding a worker by name |
//! | `timer` | messages a worker sends itself |
//! | `restart` | what to do about it: pure decisions |
//! | `supervisor` | doing it; `order`: what it is told, `member`: the lives of whom it supervises |
//! | `places` | the threads workers live on |
//! | `system` | the thread supervisors live on |
//! | `group` | ranked workers; `map`: work streamed over them |
//! | `bare` | plain actix, the floor of the measurements |
//!
//! Invariants:
//!
//! 1. actix is named in this folder only (A2).
//! 2. A message is handled by one life of the worker, or goes back to its sender, or is a dead letter: one of these, once.
//! 3. [`AskError::Undelivered`] means the message never ran; every other error means it may have.
//! 4. A restart builds a fresh worker; the mailbox and what waits in it stay.
//! 5. A worker that does not return is left behind: it takes no more messages, and what it replies goes nowhere.
//! 6. Supervisors run no user code, so no worker can hold up another's restart.

pub(crate) mod bare;
mod call;
mod cell;
mod child;
mod core;
mod cx;
mod ending;
mod error;
mod exit;
mod flight;
mod group;
mod how;
mod mailbox;
mod map;
mod member;
mod message;
mod names;
mod order;
mod park;
mod pending;
mod places;
mod queue;
#[cfg(test)]
mod queue_tests;
mod restart;
mod shared;
mod spec;
mod supervisor;
mod system;
mod timer;
mod watch;

/// What the model checker replaces.
mod sync {
    pub(super) use parking_lot::Mutex;
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

pub use child::{ExitState, WorkerPhase, WorkerState};
pub use core::{Counters, DeadLetter};
pub use cx::Cx;
pub use error::{AskError, Reason, SendError};
pub use exit::{Exit, ExitRecord};
pub use group::{Group, Rank};
pub use how::{Concurrently, InBatches, OneByOne, Takes};
pub use mailbox::Mailbox;
pub use map::{AsCompleted, Map};
pub use member::LeftBehind;
pub use message::{Handle, HandleAsync, HandleBatch, Message, Worker};
pub use park::block_on;
pub use pending::Pending;
pub use restart::{Backoff, Restart, Strategy};
pub use spec::{GroupSpec, Spec, SupervisorSpec};
pub use system::Supervisor;
pub(crate) use system::{System, SystemHandle};
pub use timer::Timer;
pub use watch::Ended;
