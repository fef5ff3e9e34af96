//! Room for items: exact, and given to senders in the order in which they began to wait for it.
//!
//! Senders count what came in under the inbox's lock, the taker counts what it took in an atomic of its own, so neither writes where
//! the other does. A sender looks at what was taken only when there seems to be no room. One that stands in line marks the taker's
//! count, and a taker that finds the mark passes the room on: the mark and the count are one word, so none of them can miss the other.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::super::sync::{AtomicUsize, Ordering};
use super::{Closed, Lane, Queue, wake};

/// Items taken, times two; one more while somebody stands in line.
pub(super) struct Taken(AtomicUsize);

const MARK: usize = 1;

impl Taken {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Counts one more; says whether somebody stands in line.
    pub(super) fn count(&self, more: usize) -> bool {
        self.0.fetch_add(2 * more, Ordering::AcqRel) & MARK != 0
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire) / 2
    }

    fn mark(&self) {
        self.0.fetch_or(MARK, Ordering::AcqRel);
    }

    fn unmark(&self) {
        self.0.fetch_and(!MARK, Ordering::AcqRel);
    }
}

/// One lane as its senders see it.
#[derive(Default)]
pub(super) struct Gate {
    arrived: usize,
    /// Of those that arrived, so many were seen to be taken.
    taken: usize,
    /// Room kept for senders who were in line.
    reserved: usize,
    /// The number of the next ticket.
    next: u64,
    /// Senders that wait for room, in order of arrival. One that is not in line any more has been given room.
    line: VecDeque<(u64, Waker)>,
}

impl Gate {
    /// Whether a newcomer may come in: nobody who came before still waits.
    pub(super) fn is_open(&mut self, taken: &Taken, capacity: usize) -> bool {
        self.line.is_empty() && self.has_room(taken, capacity)
    }

    fn has_room(&mut self, taken: &Taken, capacity: usize) -> bool {
        let has_room = |gate: &Self| gate.arrived.wrapping_sub(gate.taken) + gate.reserved < capacity;
        if has_room(self) {
            return true;
        }
        self.taken = taken.get();
        has_room(self)
    }

    pub(super) fn count(&mut self) {
        self.arrived = self.arrived.wrapping_add(1);
    }

    /// How many wait.
    pub(super) fn len(&self, taken: &Taken) -> usize {
        self.arrived.wrapping_sub(taken.get())
    }

    /// Keeps what room there is for the first in line, who are to be woken.
    pub(super) fn pass_on(&mut self, taken: &Taken, capacity: usize) -> Vec<Waker> {
        let mut passed = Vec::new();
        while !self.line.is_empty() && self.has_room(taken, capacity) {
            self.reserved += 1;
            passed.extend(self.line.pop_front().map(|(_, waker)| waker));
        }
        if self.line.is_empty() {
            taken.unmark();
        }
        passed
    }

    /// Empties the line; who stood in it is to be woken.
    pub(super) fn send_away(&mut self, taken: &Taken) -> impl Iterator<Item = Waker> {
        taken.unmark();
        std::mem::take(&mut self.line).into_iter().map(|(_, waker)| waker)
    }

    /// Where a ticket stands.
    fn place(&self, ticket: u64) -> Option<usize> {
        self.line.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }
}

/// A place in line; dropping it leaves the line.
pub(in super::super) struct Room<'a, T: Clone, E: Clone> {
    pub(super) queue: &'a Queue<T, E>,
    pub(super) lane: Lane,
    pub(super) ticket: Option<u64>,
}

/// Room that is kept for an item; dropping it gives the room to the next in line.
pub(in super::super) struct Slot<'a, T: Clone, E: Clone> {
    queue: &'a Queue<T, E>,
    lane: Lane,
    used: bool,
}

impl<'a, T: Clone, E: Clone> Future for Room<'a, T, E> {
    type Output = Result<Slot<'a, T, E>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (queue, lane) = (self.queue, self.lane);
        let (taken, capacity) = (queue.taken(lane), queue.capacity);
        let mut inbox = queue.inbox.0.lock();
        let is_shut = inbox.is_shut();
        let gate = inbox.gate(lane);
        if let Some(ticket) = self.ticket {
            if let Some(at) = gate.place(ticket) {
                let waker = &mut gate.line[at].1;
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            self.ticket = None;
            // Once nobody is let in any more it does not matter whether room had been kept.
            return Poll::Ready(if is_shut { Err(Closed) } else { Ok(Slot { queue, lane, used: false }) });
        }
        if is_shut {
            return Poll::Ready(Err(Closed));
        }
        if gate.line.is_empty() {
            // From here on the taker tells of what it takes; what it took before is seen now.
            taken.mark();
            if gate.has_room(taken, capacity) {
                taken.unmark();
                gate.reserved += 1;
                return Poll::Ready(Ok(Slot { queue, lane, used: false }));
            }
        }
        let ticket = gate.next;
        gate.next += 1;
        gate.line.push_back((ticket, cx.waker().clone()));
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl<T: Clone, E: Clone> Drop for Room<'_, T, E> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut inbox = self.queue.inbox.0.lock();
        let is_shut = inbox.is_shut();
        let gate = inbox.gate(self.lane);
        match gate.place(ticket) {
            Some(at) => drop(gate.line.remove(at)),
            // The line was sent away.
            None if is_shut => return,
            None => gate.reserved -= 1,
        }
        let passed = gate.pass_on(self.queue.taken(self.lane), self.queue.capacity);
        drop(inbox);
        passed.into_iter().for_each(Waker::wake);
    }
}

impl<T: Clone, E: Clone> Slot<'_, T, E> {
    /// Puts the item in; gives it back when the queue has been closed meanwhile.
    pub(in super::super) fn put(mut self, item: T) -> Result<(), T> {
        self.used = true;
        let mut inbox = self.queue.inbox.0.lock();
        inbox.gate(self.lane).reserved -= 1;
        if inbox.is_shut() {
            return Err(item);
        }
        let taker = self.queue.let_in(&mut inbox, self.lane, item);
        drop(inbox);
        wake(taker);
        Ok(())
    }
}

impl<T: Clone, E: Clone> Drop for Slot<'_, T, E> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut inbox = self.queue.inbox.0.lock();
        let gate = inbox.gate(self.lane);
        gate.reserved -= 1;
        let passed = gate.pass_on(self.queue.taken(self.lane), self.queue.capacity);
        drop(inbox);
        passed.into_iter().for_each(Waker::wake);
    }
}
