//! [`Collective`]: ranks that work on one thing together: all-reduce, broadcast, gather, meet.
//!
//! [`in_process`] makes a group of ranks that share memory; each rank's handle goes to its own thread. All ranks
//! make the same calls in the same order.
//!
//! ```
//! use air_core::collective::{self, ReduceOp};
//!
//! let ranks = collective::in_process(4);
//! let sums: Vec<f32> = std::thread::scope(|scope| {
//!     let threads: Vec<_> = ranks.into_iter().map(|mut rank| scope.spawn(move || {
//!         let mut gradient = [rank.rank() as f32; 3];
//!         rank.all_reduce(&mut gradient, ReduceOp::Sum).map(|()| gradient[0])
//!     })).collect();
//!     threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
//! });
//! assert_eq!(sums, [6.0; 4]);
//! ```
//!
//! Invariants, each held by a test in `tests/it/collective.rs`:
//!
//! 1. Values are combined in the order of the ranks, whatever the timing: equal input gives results equal to the
//!    bit, on every rank and in every run.
//! 2. When a rank is lost (its handle dropped, its thread panicked, [`Collective::abort`]), every pending and
//!    later call on every rank returns [`CollectiveError::Lost`], naming the rank and the reason. Nobody hangs.
//! 3. Ranks that make different calls all get [`CollectiveError::Mismatch`].
//! 4. The memory a group holds does not depend on the size of what passes through it.
//!
//! # How it works
//!
//! Time is cut into steps by a barrier. Each rank owns two staging slots, used in turn: in
//! step *t* a rank writes its slot of parity *t* and reads anyone's slot of parity *t − 1*. So no slot is ever
//! written and read at once, and one barrier a step is enough. A small buffer is staged whole, and after one
//! barrier every rank reduces all of it for itself. A large one goes through in blocks that fit a cache, as a
//! pipeline: in one step a rank stages block *k*, reduces its own share of block *k − 1*, and copies the shares
//! the others reduced of block *k − 2*.

mod barrier;
mod error;
mod in_process;
mod number;
mod staging;
mod sync;

pub use error::CollectiveError;
pub use in_process::{Aborter, Collective, in_process};
pub use number::{Number, ReduceOp};
