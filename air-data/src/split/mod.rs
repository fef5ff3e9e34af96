//! `streaming_split`: one run of a dataset, its rows dealt to several trainers as they come.
//!
//! | file | idea |
//! |---|---|
//! | `shard` | [`DataShard`]: a rank's share, epoch after epoch |
//! | `epochs` | which epochs are under way; a rank begins one, the first to do so starts its run |
//! | `dealer` | the task that deals one epoch's rows into a lane for each rank |
//! | `equal` | how a batch is cut so that every rank has as many rows; pure |
//!
//! Invariants:
//!
//! 1. With [`SplitOptions::equal`] every rank gets equally many rows, to the row, and fewer rows than there are ranks are left out.
//!    Without it every row goes to one rank.
//! 2. A rank's lane is bounded; a rank that runs ahead waits. A rank that is dropped gives back what its lane held and holds up nobody.
//! 3. A rank that waits in vain for others is told which one it waits for, after [`SplitOptions::wait_limit`].

mod dealer;
mod epochs;
mod equal;
mod shard;

pub use shard::{DataShard, SplitOptions};
