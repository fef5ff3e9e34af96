//! A queue from one producer to one consumer, whose places are given by an [`Account`]. The loom model in `tests/it/exchange_loom.rs` compiles this
//! file and those of the account, and explores the interleavings.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::memory::{Account, Charge, Entering, Parcel};
use super::sync::Mutex;

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
