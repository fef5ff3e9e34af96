//! What waits for a worker: bounded, and older than any one life of it.
//!
//! A sender first takes room (a permit of a fair semaphore), then puts its envelope in; taking an envelope out gives the room back. The
//! worker of one *generation* takes; when that life ends the queue stays as it is and the next generation goes on where the last one
//! stopped. Closing is the only way envelopes leave unhandled, and it hands them all to the closer: whoever puts later gets its own
//! envelope back. Put, take and close meet under one lock, so an envelope is handled, handed to the closer or given back: never two
//! of these, never none.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use tokio::sync::{Semaphore, TryAcquireError};

use super::sync::Mutex;

/// Holds items of type `T`; `E` is why it was closed.
pub(super) struct Queue<T, E> {
    state: Mutex<State<T, E>>,
    room: Semaphore,
}

struct State<T, E> {
    items: VecDeque<T>,
    /// The life that may take; 0 is none.
    owner: u64,
    /// Whether the owner is to stop after its current message, leaving what waits.
    interrupted: bool,
    /// Whether nothing new is let in, and the owner ends once it has handled what waits.
    finishing: bool,
    /// Why there will be no further life.
    closed: Option<E>,
    taker: Option<Waker>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Closed,
}

impl<T, E: Clone> Queue<T, E> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            owner: 0,
            interrupted: false,
            finishing: false,
            closed: None,
            taker: None,
        };
        Self { state: Mutex::new(state), room: Semaphore::new(capacity) }
    }

    /// Takes room, waiting for it in the order of arrival. Room taken must be [`put`](Self::put) to use or given back.
    pub(super) async fn room(&self) -> Result<(), NoRoom> {
        match self.room.acquire().await {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(_) => Err(NoRoom::Closed),
        }
    }

    pub(super) fn try_room(&self) -> Result<(), NoRoom> {
        match self.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(NoRoom::Full),
            Err(TryAcquireError::Closed) => Err(NoRoom::Closed),
        }
    }

    /// Puts an item into room taken before; gives it back when the queue has been closed meanwhile.
    pub(super) fn put(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed.is_some() || state.finishing {
            return Err(item);
        }
        state.items.push_back(item);
        let taker = state.taker.take();
        drop(state);
        if let Some(waker) = taker {
            waker.wake();
        }
        Ok(())
    }

    /// The next item for this generation; `None` once it is to stop.
    pub(super) fn poll_take(&self, generation: u64, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        if state.owner != generation || state.interrupted {
            return Poll::Ready(None);
        }
        if let Some(item) = state.items.pop_front() {
            drop(state);
            self.room.add_permits(1);
            return Poll::Ready(Some(item));
        }
        if state.finishing {
            return Poll::Ready(None);
        }
        if state.taker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.taker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// From now on this generation takes.
    pub(super) fn own(&self, generation: u64) {
        let mut state = self.state.lock();
        state.owner = generation;
        state.interrupted = false;
        state.taker = None;
    }

    /// Whether this generation still may take: an abandoned or closed-upon life may not.
    pub(super) fn owned_by(&self, generation: u64) -> bool {
        self.state.lock().owner == generation
    }

    /// Tells the owner to stop after its current message; what waits stays.
    pub(super) fn interrupt(&self) {
        let mut state = self.state.lock();
        state.interrupted = true;
        let taker = state.taker.take();
        drop(state);
        if let Some(waker) = taker {
            waker.wake();
        }
    }

    /// Lets nothing new in; the owner ends when it has handled what waits.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.finishing = true;
        let taker = state.taker.take();
        drop(state);
        self.room.close();
        if let Some(waker) = taker {
            waker.wake();
        }
    }

    /// Whether [`finish`](Self::finish) was called.
    pub(super) fn finishing(&self) -> bool {
        self.state.lock().finishing
    }

    /// Closes for good and returns what waited. The first closer's reason stays.
    pub(super) fn close(&self, why: E) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed.get_or_insert(why);
        state.owner = 0;
        let items = std::mem::take(&mut state.items);
        let taker = state.taker.take();
        drop(state);
        self.room.close();
        if let Some(waker) = taker {
            waker.wake();
        }
        items.into()
    }

    /// Why it is closed, if it is.
    pub(super) fn closed(&self) -> Option<E> {
        self.state.lock().closed.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }
}
