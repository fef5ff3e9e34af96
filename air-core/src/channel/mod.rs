//! Channels bounded in items and in bytes, for streams of tensors, blocks and other payloads.
//!
//! [`bounded`] makes one. A sender waits while the channel holds as many items, or as many bytes, as its [`Limit`]
//! allows; so a fast stage can never bury a slow one. Both ends can be cloned; each has blocking, immediate,
//! deadline and async verbs, and the kinds may be mixed on one channel. The queue underneath is crossbeam's.
//!
//! ```
//! use air_core::channel::{self, Limit};
//! use air_core::tensor::Tensor;
//!
//! # fn main() -> Result<(), air_core::BoxError> {
//! let (tx, rx) = channel::bounded(Limit { items: 64, bytes: 256 << 20 });
//! let producer = std::thread::spawn(move || {
//!     for i in 0..3u8 {
//!         let batch = Tensor::full(f32::from(i), &[1024, 1024])?; // 4 MiB, which never moves
//!         tx.send(batch)?;
//!     }
//!     Ok::<_, air_core::BoxError>(())
//! });
//! let sums: Vec<f32> = rx.iter().map(|t| t.view::<f32>().map(|v| v.sum())).collect::<Result<_, _>>()?;
//! assert_eq!(sums.len(), 3);
//! # producer.join().map_err(|_| "producer panicked")??;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants (the first four are checked in every interleaving of small cases by the model beside `gate.rs`):
//!
//! 1. The channel never holds more than its limit, except one item alone that is heavier than the byte limit.
//! 2. Places are given in the order in which senders came: many light items cannot hold up a heavy one for ever.
//! 3. `queued_bytes` is the sum of the weights inside. An item that is just being received may still be counted;
//!    one that is inside is never left out.
//! 4. No wake-up is lost: while an item and a receiver, or room and a sender, are there, one of them runs.
//! 5. An item that was not sent comes back to its sender, and a cancelled receive loses none. Items that wait to enter
//!    belong to a call in progress, one each: nothing here grows without bound.
//! 6. When every sender is gone, receivers drain the channel and then get [`RecvError::Disconnected`]. When every
//!    receiver is gone, senders get [`SendError::Disconnected`], and what is inside is dropped.

mod error;
mod gate;
mod limit;
pub mod pool;
mod receiver;
mod sender;
mod shared;
mod weigh;

use std::sync::Arc;

pub use error::{RecvError, SendError};
pub use limit::{Limit, MAX_ITEMS};
pub use receiver::{IntoIter, Items, Iter, Receiver, Receiving};
pub use sender::{Sender, Sending};
pub use weigh::Weigh;

/// A channel that holds what `limit` allows.
///
/// `limit.items` is brought into `1..=`[`MAX_ITEMS`]; the slots for them are allocated here.
pub fn bounded<T: Weigh>(limit: Limit) -> (Sender<T>, Receiver<T>) {
    let (shared, queue) = shared::Shared::new(limit.in_range());
    let shared = Arc::new(shared);
    (Sender::new(Arc::clone(&shared)), Receiver::new(shared, queue))
}
