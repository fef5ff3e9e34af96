//! What waits for a worker: bounded, and older than any one life of it.
//!
//! A sender puts its item in if there is room; if not it stands in line, and room that comes free is kept for the first in line. The
//! worker of one *generation* takes; when that life ends the queue stays as it is and the next generation goes on where the last one
//! stopped. Closing is the only way items leave unhandled, and it hands them all to the closer: whoever puts later gets its own item
//! back. Everything meets under one lock, so an item is handled, handed to the closer or given back: never two of these, never none.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sync::{AtomicUsize, Mutex, Ordering};

/// Holds items of type `T`; `E` is why it was closed.
pub(super) struct Queue<T, E> {
    state: Mutex<State<T, E>>,
    /// Raised by whatever could change the answer of an empty take, so that a taker can wait awake without the lock.
    news: AtomicUsize,
}

struct State<T, E> {
    items: VecDeque<T>,
    capacity: usize,
    /// Room kept for senders who were in line.
    reserved: usize,
    line: Line,
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

/// Senders that wait for room, in order of arrival. One that is not in line any more has been given room.
#[derive(Default)]
struct Line {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

/// Why an item was not let in; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// The queue lets nothing in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl<T, E: Clone> Queue<T, E> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            capacity,
            reserved: 0,
            line: Line::default(),
            owner: 0,
            interrupted: false,
            finishing: false,
            closed: None,
            taker: None,
        };
        Self { state: Mutex::new(state), news: AtomicUsize::new(0) }
    }

    /// Puts an item in if there is room now.
    pub(super) fn offer(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state.lock();
        if state.is_shut() {
            return Err(Refused::Closed(item));
        }
        if state.items.len() + state.reserved >= state.capacity {
            return Err(Refused::Full(item));
        }
        state.items.push_back(item);
        let taker = state.taker.take();
        drop(state);
        self.tell_taker(taker);
        Ok(())
    }

    /// Waits for room, in the order of arrival.
    pub(super) fn room(&self) -> Room<'_, T, E> {
        Room { queue: self, ticket: None }
    }

    /// The next item for this generation, if one is there; `Ready(None)` once it is to stop.
    pub(super) fn take(&self, generation: u64) -> Poll<Option<T>> {
        self.take_or(generation, |_| {})
    }

    /// As [`take`](Self::take), and wakes the taker when there is something new.
    pub(super) fn poll_take(&self, generation: u64, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.take_or(generation, |taker| {
            if taker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *taker = Some(cx.waker().clone());
            }
        })
    }

    fn take_or(&self, generation: u64, empty: impl FnOnce(&mut Option<Waker>)) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        if state.owner != generation || state.interrupted {
            return Poll::Ready(None);
        }
        if let Some(item) = state.items.pop_front() {
            let next = state.pass_room_on();
            drop(state);
            wake(next);
            return Poll::Ready(Some(item));
        }
        if state.finishing {
            return Poll::Ready(None);
        }
        empty(&mut state.taker);
        Poll::Pending
    }

    /// A number that changes with whatever could change the answer of an empty take.
    pub(super) fn news(&self) -> usize {
        self.news.load(Ordering::Acquire)
    }

    fn tell_taker(&self, taker: Option<Waker>) {
        self.news.fetch_add(1, Ordering::Release);
        wake(taker);
    }

    /// From now on this generation takes.
    pub(super) fn own(&self, generation: u64) {
        let mut state = self.state.lock();
        state.owner = generation;
        state.interrupted = false;
        state.taker = None;
        drop(state);
        // A life left behind may be waiting awake.
        self.tell_taker(None);
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
        self.tell_taker(taker);
    }

    /// Lets nothing new in; the owner ends when it has handled what waits.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.finishing = true;
        let (taker, line) = (state.taker.take(), std::mem::take(&mut state.line.waiting));
        drop(state);
        self.tell_taker(taker);
        for (_, waiting) in line {
            waiting.wake();
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
        let (taker, line) = (state.taker.take(), std::mem::take(&mut state.line.waiting));
        drop(state);
        self.tell_taker(taker);
        for (_, waiting) in line {
            waiting.wake();
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

impl<T, E> State<T, E> {
    fn is_shut(&self) -> bool {
        self.closed.is_some() || self.finishing
    }

    /// Keeps room that has come free for the first in line, who is to be woken.
    fn pass_room_on(&mut self) -> Option<Waker> {
        let (_, waker) = self.line.waiting.pop_front()?;
        self.reserved += 1;
        Some(waker)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A place in line; dropping it leaves the line.
pub(super) struct Room<'a, T, E: Clone> {
    queue: &'a Queue<T, E>,
    ticket: Option<u64>,
}

/// Room that is kept for an item; dropping it gives the room to the next in line.
pub(super) struct Slot<'a, T, E: Clone> {
    queue: &'a Queue<T, E>,
    used: bool,
}

impl<'a, T, E: Clone> Future for Room<'a, T, E> {
    type Output = Result<Slot<'a, T, E>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let queue = self.queue;
        let mut state = queue.state.lock();
        if let Some(ticket) = self.ticket {
            if let Ok(at) = state.line.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
                let waker = &mut state.line.waiting[at].1;
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            if !state.is_shut() {
                self.ticket = None;
                return Poll::Ready(Ok(Slot { queue, used: false }));
            }
        }
        if state.is_shut() {
            // Nobody is let in any more, so it does not matter whether room had been kept.
            self.ticket = None;
            return Poll::Ready(Err(Closed));
        }
        if state.items.len() + state.reserved < state.capacity {
            state.reserved += 1;
            return Poll::Ready(Ok(Slot { queue, used: false }));
        }
        let ticket = state.line.next;
        state.line.next += 1;
        state.line.waiting.push_back((ticket, cx.waker().clone()));
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl<T, E: Clone> Drop for Room<'_, T, E> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.queue.state.lock();
        match state.line.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            Ok(at) => drop(state.line.waiting.remove(at)),
            // Room was kept, or the line was sent away.
            Err(_) if state.is_shut() => {}
            Err(_) => {
                state.reserved -= 1;
                let next = state.pass_room_on();
                drop(state);
                wake(next);
            }
        }
    }
}

impl<T, E: Clone> Slot<'_, T, E> {
    /// Puts the item in; gives it back when the queue has been closed meanwhile.
    pub(super) fn put(mut self, item: T) -> Result<(), T> {
        self.used = true;
        let mut state = self.queue.state.lock();
        state.reserved -= 1;
        if state.is_shut() {
            return Err(item);
        }
        state.items.push_back(item);
        let taker = state.taker.take();
        drop(state);
        self.queue.tell_taker(taker);
        Ok(())
    }
}

impl<T, E: Clone> Drop for Slot<'_, T, E> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut state = self.queue.state.lock();
        state.reserved -= 1;
        let next = state.pass_room_on();
        drop(state);
        wake(next);
    }
}
