use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crossbeam_channel as queue;
use futures::Stream;

use super::gate::Parcel;
use super::shared::Shared;
use super::{Limit, RecvError};

/// The receiving end of a [channel](super::bounded). Cloning it makes another; each item goes to one of them.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    queue: queue::Receiver<Parcel<T>>,
}

impl<T> Receiver<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, queue: queue::Receiver<Parcel<T>>) -> Self {
        Receiver { shared, queue }
    }

    /// Receives, blocking the thread until there is an item. In async code use [`recv_async`](Self::recv_async).
    pub fn recv(&self) -> Result<T, RecvError> {
        let parcel = self.queue.recv().map_err(|_| RecvError::Disconnected)?;
        Ok(self.shared.received(parcel, None))
    }

    /// Receives, blocking the thread until there is an item or `deadline` has passed.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
        let parcel = self.queue.recv_deadline(deadline).map_err(|error| match error {
            queue::RecvTimeoutError::Timeout => RecvError::Expired,
            queue::RecvTimeoutError::Disconnected => RecvError::Disconnected,
        })?;
        Ok(self.shared.received(parcel, None))
    }

    /// Receives if there is an item now.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        let parcel = self.queue.try_recv().map_err(|error| match error {
            queue::TryRecvError::Empty => RecvError::Empty,
            queue::TryRecvError::Disconnected => RecvError::Disconnected,
        })?;
        Ok(self.shared.received(parcel, None))
    }

    /// Receives, waiting for an item without blocking the thread. A dropped future loses no item.
    pub fn recv_async(&self) -> Receiving<'_, T> {
        Receiving { receiver: self, place: Place::default() }
    }

    /// Items until every sender is gone, blocking the thread for each.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Items until every sender is gone, as an asynchronous stream.
    pub fn into_stream(self) -> Items<T> {
        Items { receiver: self, place: Place::default() }
    }

    /// Items in the channel now, those that wait to enter not counted.
    pub fn queued_items(&self) -> usize {
        self.shared.queued().0
    }

    /// Bytes in the channel now, those that wait to enter not counted.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued().1
    }

    /// The bounds of the channel.
    pub fn limit(&self) -> Limit {
        self.shared.limit()
    }

    fn poll(&self, place: &mut Place, cx: &Context<'_>) -> Poll<Result<T, RecvError>> {
        // Without the lock first: under load there is an item.
        if let Ok(parcel) = self.queue.try_recv() {
            return Poll::Ready(Ok(self.shared.received(parcel, place.0.take())));
        }
        match self.shared.receive_or_wait(&self.queue, place.0.take(), cx.waker().clone()) {
            Ok(item) => Poll::Ready(Ok(item)),
            Err(None) => Poll::Ready(Err(RecvError::Disconnected)),
            Err(ticket) => {
                place.0 = ticket;
                Poll::Pending
            }
        }
    }

    fn leave(&self, place: &mut Place) {
        if let Some(ticket) = place.0.take() {
            self.shared.give_up_receiving(ticket);
        }
    }
}

/// The ticket of a receiver that waits.
#[derive(Default)]
struct Place(Option<u64>);

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.add_receiver();
        Receiver { shared: Arc::clone(&self.shared), queue: self.queue.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.drop_receiver(&self.queue);
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (items, bytes) = self.shared.queued();
        write!(f, "Receiver({items} items, {bytes} bytes queued)")
    }
}

/// A receive in progress; see [`Receiver::recv_async`].
#[must_use = "nothing is received until it is awaited"]
pub struct Receiving<'a, T> {
    receiver: &'a Receiver<T>,
    place: Place,
}

impl<T> Future for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.receiver.poll(&mut this.place, cx)
    }
}

impl<T> Drop for Receiving<'_, T> {
    fn drop(&mut self) {
        self.receiver.leave(&mut self.place);
    }
}

/// Items as a stream; see [`Receiver::into_stream`].
pub struct Items<T> {
    receiver: Receiver<T>,
    place: Place,
}

// No item is ever pinned here.
impl<T> Unpin for Items<T> {}

impl<T> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        this.receiver.poll(&mut this.place, cx).map(Result::ok)
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        self.receiver.leave(&mut self.place);
    }
}

/// Items as they come; see [`Receiver::iter`].
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// Items as they come, until every sender is gone.
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
