use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use super::gate::Waited;
use super::shared::{Sent, Shared};
use super::{Limit, SendError, Weigh};

/// The sending end of a [channel](super::bounded). Cloning it makes another.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Sender { shared }
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
}

impl<T: Weigh> Sender<T> {
    /// Sends, blocking the thread until there is room. In async code use [`send_async`](Self::send_async).
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.send_until(item, None)
    }

    /// Sends, blocking the thread until there is room or `deadline` has passed.
    pub fn send_deadline(&self, item: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.send_until(item, Some(deadline))
    }

    /// Sends if there is room now and nobody waits for it.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        let weight_bytes = item.weight_bytes();
        match self.shared.send(item, weight_bytes, None) {
            Sent::Inside | Sent::Waiting(_) => Ok(()),
            Sent::Full(item) => Err(SendError::Full(item)),
            Sent::Closed(item) => Err(SendError::Disconnected(item)),
        }
    }

    /// Sends, waiting for room without blocking the thread.
    ///
    /// A future that is dropped before it is ready takes its item along, unless the item was let in meanwhile;
    /// [`Sending::cancel`] gives the item back instead.
    pub fn send_async(&self, item: T) -> Sending<'_, T> {
        let weight_bytes = item.weight_bytes();
        Sending { shared: &self.shared, stage: Stage::New(item, weight_bytes) }
    }

    fn send_until(&self, item: T, deadline: Option<Instant>) -> Result<(), SendError<T>> {
        let weight_bytes = item.weight_bytes();
        // The usual case is room at once: no waker is made for it.
        let item = match self.shared.send(item, weight_bytes, None) {
            Sent::Inside | Sent::Waiting(_) => return Ok(()),
            Sent::Closed(item) => return Err(SendError::Disconnected(item)),
            Sent::Full(item) => item,
        };
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let ticket = match self.shared.send(item, weight_bytes, Some(waker.clone())) {
            Sent::Inside => return Ok(()),
            Sent::Closed(item) => return Err(SendError::Disconnected(item)),
            Sent::Full(item) => return Err(SendError::Full(item)),
            Sent::Waiting(ticket) => ticket,
        };
        loop {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                Some(_) => {
                    return match self.shared.withdraw(ticket) {
                        Some(item) => Err(SendError::Expired(item)),
                        None => Ok(()),
                    };
                }
            }
            match self.shared.check(ticket, &waker) {
                Waited::Inside => return Ok(()),
                Waited::Closed(item) => return Err(SendError::Disconnected(item)),
                Waited::Pending => {}
            }
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.add_sender();
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.drop_sender();
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (items, bytes) = self.shared.queued();
        write!(f, "Sender({items} items, {bytes} bytes queued)")
    }
}

/// A send in progress; see [`Sender::send_async`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Sending<'a, T> {
    shared: &'a Shared<T>,
    stage: Stage<T>,
}

enum Stage<T> {
    New(T, usize),
    Waiting(u64),
    Done,
}

// The item is never pinned: it only ever moves into the channel or back out.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Sending<'_, T> {
    /// Gives up: the item, or `None` where it was sent.
    pub fn cancel(mut self) -> Option<T> {
        self.take_back()
    }

    fn take_back(&mut self) -> Option<T> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::New(item, _) => Some(item),
            Stage::Waiting(ticket) => self.shared.withdraw(ticket),
            Stage::Done => None,
        }
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (next, ready) = match std::mem::replace(&mut this.stage, Stage::Done) {
            Stage::New(item, weight_bytes) => {
                match this.shared.send(item, weight_bytes, Some(cx.waker().clone())) {
                    Sent::Inside => (Stage::Done, Some(Ok(()))),
                    Sent::Waiting(ticket) => (Stage::Waiting(ticket), None),
                    Sent::Full(item) => (Stage::Done, Some(Err(SendError::Full(item)))),
                    Sent::Closed(item) => (Stage::Done, Some(Err(SendError::Disconnected(item)))),
                }
            }
            Stage::Waiting(ticket) => match this.shared.check(ticket, cx.waker()) {
                Waited::Inside => (Stage::Done, Some(Ok(()))),
                Waited::Pending => (Stage::Waiting(ticket), None),
                Waited::Closed(item) => (Stage::Done, Some(Err(SendError::Disconnected(item)))),
            },
            // Polled again after it was ready: the item is in the channel or with the caller.
            Stage::Done => (Stage::Done, Some(Ok(()))),
        };
        this.stage = next;
        ready.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
