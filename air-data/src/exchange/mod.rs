//! The exchange: where width changes, batches wait in [`lane`]s, bounded in bytes by the lane and by the session's
//! [`Budget`](crate::memory::Budget).
//!
//! | file | idea |
//! |---|---|
//! | `lane` | a queue from one producer to one consumer |
//! | `ordered` | many partitions in, one stream out, in their order where it means something |
//! | `incoming` | a stream under way on the session's threads, taken from any thread |
//!
//! A producer whose lane is full, or whose session is over its budget, pauses; an empty lane takes one item whatever its size, so
//! there is nothing to deadlock on. A consumer that goes away gives back what its lane held, and its producer ends.

mod incoming;
mod lane;
#[cfg(test)]
mod lane_tests;
mod ordered;
/// What `lane.rs` stands on. The loom model compiles it against loom's in their place.
mod sync {
    pub(super) use parking_lot::Mutex;
}

use crate::memory;

pub(crate) use incoming::Incoming;
pub(crate) use lane::{Receiver, Sender, lane};
pub(crate) use ordered::{Room, ordered, ordered_blocks};
