//! The memory of a process that datasets may take: one [`Budget`], on which everything draws that waits, is kept or is worked on.
//!
//! | file | idea |
//! |---|---|
//! | `ledger` | who has what and who comes next; no clock, no thread, no lock |
//! | `budget` | the same for threads and futures: accounts of queues, charges, what is kept |
//! | `parcel` | what a batch weighs, and which allocations it keeps alive |
//! | `pool` | the budget as DataFusion's memory pool |
//! | `spill` | files for what does not fit |
//! | `machine` | how much memory there is |
//! | `allocator` | what becomes of freed memory, by the budget |
//!
//! Invariants (held by the property tests beside `ledger.rs`):
//!
//! 1. An allocation is counted once, however many batches, slices and queues hold it, and no longer than one of them does.
//! 2. Queues together hold at most half of the budget, and nothing enters one while the budget is used up; except that an empty queue
//!    always takes one item, so that nothing is too large to pass and nobody waits for ever.
//! 3. Of those who wait for the budget, the one nearest to the consumer comes first, and nobody behind it overtakes it.
//! 4. Operators and what is kept have at most three quarters of the budget, and what is kept at most half of that; past that they spill.

mod allocator;
mod budget;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod machine;
mod parcel;
#[cfg(test)]
mod parcel_tests;
mod pool;
mod spill;
/// What `budget.rs` stands on. The loom model of the exchange compiles it against loom's in their place.
mod sync {
    pub(super) use parking_lot::Mutex;
}

pub(crate) use allocator::suit;
pub(crate) use budget::{Account, Charge, Entering, Kept, Watch};
pub use budget::{Budget, BudgetUse};
pub(crate) use parcel::{Parcel, batch_bytes};
pub(crate) use pool::BudgetPool;
pub(crate) use spill::SpillFiles;
