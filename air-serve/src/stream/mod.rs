//! Answers that come one item at a time, and models that work on many of them in each step.
//!
//! | file | idea |
//! |---|---|
//! | `generate` | what a user implements, and the model made of it |
//! | `each` | one of a function that gives an iterator |
//! | `items` | what a reader holds |
//! | `raw` | items that are bytes |
//! | `pipe` | what lies between the two |
//! | `buffer` | what a pipe holds, and who may go on: pure |
//! | `watch` | when a stream has stood still for too long: pure |
//!
//! A deployment knows its streams only as [`Stream`]s, whatever their items are.

mod buffer;
mod each;
mod generate;
mod items;
mod pipe;
mod raw;
mod watch;

use std::sync::Arc;

pub use each::{StreamEach, stream_each};
pub use generate::{Generate, Generator, Running};
pub(crate) use items::Chunk;
pub use items::Items;
pub use raw::Raw;
pub(crate) use watch::{Limits, Progress, Watch};

use crate::error::CallError;

/// One stream, for the replica whose model writes to it.
pub(crate) trait Stream: Send + Sync {
    /// Ties it to its replica; it holds so many items that nobody has taken yet.
    fn attach(&self, host: Arc<dyn Host>, capacity: usize);
    /// Ends it with an error, after the items that are there, unless it has ended.
    fn fail(&self, error: CallError);
    /// Whether it has ended, or nobody reads it any more.
    fn is_over(&self) -> bool;
    fn progress(&self) -> Progress;
    /// Throws away whatever is written to it from now on.
    fn discard(&self);
    /// Why it failed, if it has.
    fn failure(&self) -> Option<CallError>;
}

/// What a stream tells its replica.
pub(crate) trait Host: Send + Sync {
    fn replica(&self) -> Arc<str>;
    /// A stream that was left out of a step has room again, or is over.
    fn poke(&self);
    /// The first item is there.
    fn first(&self);
    /// It has ended after so many items.
    fn over(&self, items: u64);
}
