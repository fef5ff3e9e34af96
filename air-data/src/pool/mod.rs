//! Worker pools: `map_batches` with a state of its own in each of several workers.
//!
//! | file | idea |
//! |---|---|
//! | `options` | [`Pool`]: how many workers, what each has of the machine, what happens to a batch that fails |
//! | `decide` | whose turn it is, what becomes of a failed batch, when to grow; pure |
//! | `rebatch` | engine batches into the size asked for, with where their rows came from |
//! | `crew` | the workers: supervised, restarted with a fresh state |
//! | `drive` | batches in, batches out |
//! | `runtime` | the runtime they live in |
//!
//! Invariants:
//!
//! 1. Every batch comes out once, in its turn (or as it is done, where that was asked for), is listed as skipped, or ends the run with an
//!    error that says which rows and why.
//! 2. A worker that failed is not used again: the batch runs anew in a fresh life of it, whose state is built anew.
//! 3. Batches under way and results that wait for their turn are within bounds: two for each worker and one more, and
//!    [`prefetch_bytes`](crate::SessionConfig::prefetch_bytes).
//! 4. A run that ends or is dropped ends its workers.

mod crew;
mod decide;
mod drive;
mod options;
mod rebatch;
mod runtime;

pub(crate) use drive::{Drive, Report, drive};
pub(crate) use options::{Live, Stateful};
pub use options::{Pool, SkippedBatch, WorkerContext};
pub(crate) use runtime::Workers;
