//! A queue from one producer to one consumer, whose places are given by an [`Account`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::memory::{Account, Charge, Entering, Parcel};

/// A queue that holds what its account allows.
pub(crate) fn lane<T>(account: Arc<Account>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        account,
        state: Mutex::new(State { items: VecDeque::new(), waker: None, ended: false, gone: false }),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

struct Shared<T> {
    account: Arc<Account>,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<(T, Charge)>,
    /// The consumer's, while it waits.
    waker: Option<Waker>,
    /// There is no producer any more.
    ended: bool,
    /// There is no consumer any more.
    gone: bool,
}

impl<T> Shared<T> {
    fn push(&self, item: T, charge: Charge) -> bool {
        let waker = {
            let mut state = self.state.lock();
            if state.gone {
                return false;
            }
            state.items.push_back((item, charge));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

/// The producer's end.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Waits for room. Whether there is a consumer who will have it.
    pub(crate) async fn send(&mut self, item: T, parcel: Parcel) -> bool {
        match self.shared.account.enter(parcel).await {
            Some(charge) => self.shared.push(item, charge),
            None => false,
        }
    }

    /// A place for an item, to be [`put`](Self::put) in it. `None` when there is no consumer any more.
    pub(crate) fn enter(&self, parcel: Parcel) -> Entering {
        self.shared.account.enter(parcel)
    }

    /// Puts an item in its place. Whether there is a consumer who will have it.
    pub(crate) fn put(&mut self, item: T, charge: Charge) -> bool {
        self.shared.push(item, charge)
    }

    /// Bytes inside.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.shared.account.usage().1
    }

    /// Puts in what is there already, whatever the limits say. Whether there is a consumer who will have it.
    pub(crate) fn force(&mut self, item: T, parcel: Parcel) -> bool {
        let charge = self.shared.account.force(parcel);
        self.shared.push(item, charge)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state.lock();
            state.ended = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The consumer's end.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The next item; `None` when the producer has gone and nothing is left. A dropped future loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll(cx.waker())).await
    }

    /// [`recv`](Self::recv) as a single look: the waker is woken when another is worth it.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<T>> {
        let (taken, unused) = {
            let mut state = self.shared.state.lock();
            match state.items.pop_front() {
                Some(taken) => (Some(taken), state.waker.take()),
                None if state.ended => return Poll::Ready(None),
                None => (None, state.waker.replace(waker.clone())),
            }
        };
        drop(unused);
        // The charge goes after the lock: it lets in whoever waits.
        taken.map_or(Poll::Pending, |(item, charge)| {
            drop(charge);
            Poll::Ready(Some(item))
        })
    }

    /// Items and bytes inside.
    #[cfg(test)]
    pub(crate) fn usage(&self) -> (usize, usize) {
        self.shared.account.usage()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.state.lock();
            state.gone = true;
            std::mem::take(&mut state.items)
        };
        self.shared.account.close();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::pin;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use futures::FutureExt;

    use super::*;
    use crate::memory::Budget;

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    #[test]
    fn a_batch_over_the_bound_goes_alone_and_the_next_one_waits() {
        let budget = Budget::new(1 << 30);
        let (mut sender, mut receiver) = lane(Account::open(&budget, 0, 1 << 10, None));
        let (large, small) = (batch(100_000), batch(1));
        assert!(sender.send(0, Parcel::of(&large)).now_or_never().unwrap());
        let mut second = pin!(sender.send(1, Parcel::of(&small)));
        assert!(second.as_mut().now_or_never().is_none(), "the bound is in bytes");
        assert_eq!(receiver.recv().now_or_never(), Some(Some(0)));
        assert_eq!(second.now_or_never(), Some(true));
        assert_eq!(receiver.recv().now_or_never(), Some(Some(1)));
        assert_eq!(budget.usage().in_use_bytes, 0);
        assert!(receiver.recv().now_or_never().is_none());
    }

    #[test]
    fn an_end_is_heard_after_what_was_sent() {
        let budget = Budget::new(1 << 30);
        let (mut sender, mut receiver) = lane(Account::open(&budget, 0, 1, None));
        assert!(sender.send(7, Parcel::of(&batch(1))).now_or_never().unwrap());
        drop(sender);
        assert_eq!(receiver.recv().now_or_never(), Some(Some(7)));
        assert_eq!(receiver.recv().now_or_never(), Some(None));
    }

    #[test]
    fn a_slice_in_two_lanes_is_counted_once_until_both_let_go() {
        let budget = Budget::new(1 << 30);
        let whole = batch(1000);
        let (mut one, mut from_one) = lane(Account::open(&budget, 0, 1 << 20, None));
        let (mut two, from_two) = lane(Account::open(&budget, 0, 1 << 20, None));
        assert!(one.send((), Parcel::of(&whole.slice(0, 10))).now_or_never().unwrap());
        let counted = budget.usage().queued_bytes;
        assert!(counted >= 8000, "a slice keeps all of it");
        assert!(two.send((), Parcel::of(&whole.slice(10, 10))).now_or_never().unwrap());
        assert_eq!(budget.usage().queued_bytes, counted);
        assert_eq!(from_one.recv().now_or_never(), Some(Some(())));
        assert_eq!(budget.usage().queued_bytes, counted);
        drop(from_two);
        assert_eq!(budget.usage().queued_bytes, 0);
        assert_eq!(two.send((), Parcel::of(&whole)).now_or_never(), Some(false));
    }

    #[test]
    fn a_consumer_that_goes_wakes_its_producer_and_gives_its_budget_to_others() {
        // Half of it is the queues'.
        let budget = Budget::new(64 << 10);
        let (mut one, from_one) = lane::<u8>(Account::open(&budget, 1, 1 << 20, None));
        let (mut two, mut from_two) = lane::<u8>(Account::open(&budget, 2, 1 << 20, None));
        let full = batch(4000);
        assert!(one.send(1, Parcel::of(&full)).now_or_never().unwrap());
        assert!(two.send(1, Parcel::of(&batch(10))).now_or_never().unwrap(), "an empty lane takes one");
        let (next_of_one, next_of_two) = (batch(1000), batch(1000));
        let mut blocked = pin!(one.send(2, Parcel::of(&next_of_one)));
        let mut other = pin!(two.send(2, Parcel::of(&next_of_two)));
        assert!(blocked.as_mut().now_or_never().is_none(), "the budget is used up");
        assert!(other.as_mut().now_or_never().is_none());
        drop(from_one);
        assert_eq!(blocked.now_or_never(), Some(false));
        assert_eq!(other.now_or_never(), Some(true));
        assert_eq!((from_two.usage().0, from_two.recv().now_or_never()), (2, Some(Some(1))));
    }
}
