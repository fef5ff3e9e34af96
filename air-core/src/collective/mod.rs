//! [`Collective`]: ranks that work on one thing together: all-reduce, broadcast, gather, exchange, meet.
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
//! Invariants, each held by a test in `tests/it/collective.rs` or `tests/it/collective_lost.rs`:
//!
//! 1. Values are combined in the order of the ranks, whatever the timing: equal input gives results equal to the
//!    bit, on every rank and in every run, by whichever verb.
//! 2. When a rank is lost (its handle dropped, its thread panicked, [`Collective::abort`]), every pending and
//!    later call on every rank returns [`CollectiveError::Lost`], naming the rank and the reason. Nobody hangs. A
//!    call that was complete on one rank before that is complete on all.
//! 3. Ranks that make different calls all get [`CollectiveError::Mismatch`]; where only lengths differ,
//!    [`CollectiveError::Length`]; where there is no such rank, [`CollectiveError::NoSuchRank`].
//! 4. The memory a group holds does not depend on the size of what passes through it.
//! 5. Calls in the background and in the foreground do not wait for each other.
//!
//! # How it works
//!
//! | file | idea |
//! |---|---|
//! | `handle` | the verbs, typed, and what one rank can check by itself |
//! | `call` | a call as data, which ranks compare |
//! | `backend` | what another way to carry out calls has to implement |
//! | `in_process` | carrying them out between threads; `group`: what these share |
//! | `meeting` | waiting for each other, or for the end |
//! | `staging` | memory through which values pass; `mail`: between two ranks; `buffer`: memory that is handed over |
//! | `reduce` | the arithmetic; `number`: on what |
//! | `background` | calls that go on while their rank computes |
//!
//! Each rank counts the steps it has passed; to wait is to look at the others' counts. Each rank owns four
//! staging slots, used in turn: what it writes in step *t* the others read two steps later, and it writes the same slot
//! again after four, when all have. So no slot is ever written and read at once, and a rank waits only for
//! ranks two steps behind. A small buffer is staged whole, and after one step every rank reduces all of it for
//! itself. A large one goes through in blocks that fit a cache, as a pipeline: in one step a rank stages block
//! *k*, reduces its own share of block *k − 2*, and copies the shares the others reduced of block *k − 4*.
//!
//! # The limit
//!
//! An all-reduce in place must read and write every buffer once: twice its bytes a rank, over the bandwidth that all
//! ranks have together. [`Collective::all_reduce_owned`] does no more than this: each rank reads and writes its piece of
//! every buffer where they lie. [`Collective::all_reduce`] reads and writes the borrowed buffer once, too, and
//! moves each value through the caches twice on top, because a borrowed slice cannot be shown to another thread.

mod backend;
mod background;
mod buffer;
mod call;
mod error;
mod group;
mod handle;
mod in_process;
mod mail;
mod meeting;
mod number;
mod reduce;
mod staging;
mod sync;

pub use background::Pending;
pub use buffer::Buffer;
pub use error::CollectiveError;
pub use group::in_process;
pub use handle::{Aborter, Collective};
pub use number::{Number, ReduceOp};
