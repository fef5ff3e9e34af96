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
//!    [`CollectiveError::Length`]; where there is no such rank, [`CollectiveError::NoSuchRank`]. Ranks that wait for each
//!    other in a circle all get [`CollectiveError::Crossed`] as soon as the circle is closed, and nobody else ever does.
//! 4. The memory a group holds does not depend on the size of what passes through it.
//! 5. Calls in the background and in the foreground do not wait for each other.
//!
//! # How it works
//!
//! | file | idea |
//! |---|---|
//! | `handle` | the verbs, typed; `member`: what one rank can check by itself |
//! | `call` | a call as data, which ranks compare |
//! | `backend` | what another way to carry out calls has to implement |
//! | `in_process` | carrying them out between threads; `group`: what these share |
//! | `meeting` | waiting for each other, or for the end |
//! | `staging` | what each rank shows the others: its call, and few values |
//! | `loan` | many values, used where they lie |
//! | `collect` | what a rank takes of what is shown; `reduce`: the arithmetic; `number`: on what |
//! | `mail` | between two ranks; `exchange`: the words for it |
//! | `ways` | what is on its way between ranks, and who waits for whom in a circle |
//! | `on_devices` | the verbs over tensors on devices, by NCCL; `plan`: what a device does for a call |
//! | `background` | calls that go on while their rank computes |
//!
//! Each rank counts the steps it has passed; to wait is to look at the others' counts. Few values are copied to a slot
//! of their rank's own, and after one step every rank takes what it needs of all slots. A rank has two slots, used in
//! turn, so what it writes in one step may still be read while it writes in the next.
//!
//! Many values are lent: the ranks meet, every rank reads the others' slices where they lie, or reduces its own part of
//! all of them and leaves the result in each, and they meet again. No rank has its slice back before nobody uses it any more,
//! also when the group ends in between.
//!
//! # The limit
//!
//! An all-reduce in place must read and write every buffer once: twice its bytes a rank, over the bandwidth that all
//! ranks have together. [`Collective::all_reduce`] of many values does no more than this.

mod backend;
mod background;
mod call;
mod collect;
mod error;
mod exchange;
mod group;
mod handle;
mod in_process;
mod loan;
#[cfg(test)]
mod loan_tests;
mod mail;
mod meeting;
mod member;
mod number;
mod on_devices;
mod plan;
mod reduce;
mod staging;
mod sync;
mod ways;

pub use background::Pending;
pub use error::{CollectiveError, Waiting};
pub use group::in_process;
pub use handle::{Aborter, Collective};
pub use number::{Number, ReduceOp};
pub use on_devices::{DeviceCollective, on_devices};
