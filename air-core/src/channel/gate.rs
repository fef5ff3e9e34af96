//! Who may enter a channel, and when: the decisions, without queue, lock or clock.
//!
//! A parcel that does not fit waits *here*, and whoever makes room lets it in; its sender need not run for that. So
//! places are given strictly in the order of arrival (a heavy parcel is never overtaken by light ones), no room is ever
//! promised to a sender that does not come, and a sender that gives up takes its parcel out again.
//!
//! The caller holds a lock around each call and pushes parcels to the queue where `push` is called. Wakers are user code,
//! and the drop of one may run the drop of a whole task: so every waker that is done with comes back to the caller, who wakes
//! or drops it after it has let go of the lock.

use std::collections::VecDeque;

use super::Limit;

/// An item and what it weighed when it was sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Parcel<T> {
    pub(super) item: T,
    pub(super) weight_bytes: usize,
}

/// What became of a parcel that asked to enter.
pub(super) enum Entry<T, W> {
    /// It was pushed; wake this receiver.
    Inside(Option<W>),
    /// There is no room, or others wait before it.
    Full(Parcel<T>),
    /// There are no receivers.
    Closed(Parcel<T>),
}

/// What became of a parcel that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited<T> {
    /// It was let in.
    Inside,
    /// It still waits.
    Pending,
    /// The receivers went away; here is the item.
    Closed(T),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Waiting<T, W> {
    ticket: u64,
    parcel: Parcel<T>,
    waker: W,
}

/// The state of a channel's bounds and of those who wait. `W` is what wakes a waiter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Gate<T, W> {
    max_items: usize,
    max_bytes: usize,
    /// Parcels pushed and not yet reported by `leave`.
    items: usize,
    bytes: usize,
    closed: bool,
    next_ticket: u64,
    /// By ticket, ascending.
    senders: VecDeque<Waiting<T, W>>,
    receivers: VecDeque<(u64, W)>,
}

impl<T, W> Gate<T, W> {
    pub(super) fn new(limit: Limit) -> Self {
        Gate {
            max_items: limit.items,
            max_bytes: limit.bytes,
            items: 0,
            bytes: 0,
            closed: false,
            next_ticket: 0,
            senders: VecDeque::new(),
            receivers: VecDeque::new(),
        }
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn limit(&self) -> Limit {
        Limit { items: self.max_items, bytes: self.max_bytes }
    }

    /// Pushes the parcel if it fits and nobody waits before it.
    pub(super) fn enter(&mut self, parcel: Parcel<T>, push: impl FnOnce(Parcel<T>)) -> Entry<T, W> {
        if self.closed {
            return Entry::Closed(parcel);
        }
        if !self.senders.is_empty() || !self.fits(parcel.weight_bytes) {
            return Entry::Full(parcel);
        }
        self.count_in(parcel.weight_bytes);
        push(parcel);
        Entry::Inside(self.next_receiver())
    }

    /// Puts a parcel that `enter` found no room for at the end of the line.
    pub(super) fn wait(&mut self, parcel: Parcel<T>, waker: W) -> u64 {
        let ticket = self.ticket();
        self.senders.push_back(Waiting { ticket, parcel, waker });
        ticket
    }

    /// What became of the parcel with this ticket; if it still waits, `waker` is exchanged for the one it gave.
    pub(super) fn check(&mut self, ticket: u64, waker: &mut W) -> Waited<T> {
        let Some(place) = self.place(ticket) else {
            return Waited::Inside;
        };
        if !self.closed {
            std::mem::swap(&mut self.senders[place].waker, waker);
            return Waited::Pending;
        }
        match self.senders.remove(place) {
            Some(waiting) => {
                *waker = waiting.waker; // what this drops is the caller's own, which it still has
                Waited::Closed(waiting.parcel.item)
            }
            None => Waited::Inside,
        }
    }

    /// Takes a waiting parcel out of the line; `None` where it has been let in already.
    ///
    /// Those behind it may fit where it did not.
    pub(super) fn withdraw(
        &mut self,
        ticket: u64,
        push: impl FnMut(Parcel<T>),
        wakes: &mut Vec<W>,
    ) -> Option<(T, W)> {
        let waiting = self.senders.remove(self.place(ticket)?)?;
        self.admit(push, wakes);
        Some((waiting.parcel.item, waiting.waker))
    }

    /// A parcel was taken from the queue; those who wait for room are let in.
    pub(super) fn leave(&mut self, weight_bytes: usize, push: impl FnMut(Parcel<T>), wakes: &mut Vec<W>) {
        self.items -= 1;
        self.bytes -= weight_bytes;
        self.admit(push, wakes);
    }

    /// A receiver found the queue empty and waits. If it waits already it keeps its ticket and place, and the waker it
    /// gave before comes back.
    pub(super) fn wait_to_receive(&mut self, ticket: Option<u64>, waker: W) -> (u64, Option<W>) {
        if let Some(ticket) = ticket
            && let Some(mine) = self.receivers.iter_mut().find(|(other, _)| *other == ticket)
        {
            return (ticket, Some(std::mem::replace(&mut mine.1, waker)));
        }
        let ticket = self.ticket();
        self.receivers.push_back((ticket, waker));
        (ticket, None)
    }

    /// A waiting receiver has what it wanted; its waker, if it was not woken.
    pub(super) fn received(&mut self, ticket: u64) -> Option<W> {
        let place = self.receivers.iter().position(|(other, _)| *other == ticket)?;
        self.receivers.remove(place).map(|(_, waker)| waker)
    }

    /// A waiting receiver gives up. `Ok` is its own waker; `Err` is that of the one to wake in its place, as it
    /// had been woken already.
    pub(super) fn give_up_receiving(&mut self, ticket: u64) -> Result<W, Option<W>> {
        match self.received(ticket) {
            Some(waker) => Ok(waker),
            None => Err(self.next_receiver()),
        }
    }

    /// The last receiver is gone. Waiting parcels stay for their senders to collect by `check` or `withdraw`.
    pub(super) fn close(&mut self) -> impl Iterator<Item = &W> {
        self.closed = true;
        self.senders.iter().map(|waiting| &waiting.waker)
    }

    /// The last sender is gone: every waiting receiver shall look again.
    pub(super) fn release_receivers(&mut self) -> VecDeque<(u64, W)> {
        std::mem::take(&mut self.receivers)
    }

    fn admit(&mut self, mut push: impl FnMut(Parcel<T>), wakes: &mut Vec<W>) {
        while !self.closed
            && let Some(first) = self.senders.front()
            && self.fits(first.parcel.weight_bytes)
            && let Some(Waiting { parcel, waker, .. }) = self.senders.pop_front()
        {
            self.count_in(parcel.weight_bytes);
            push(parcel);
            wakes.push(waker);
            wakes.extend(self.next_receiver());
        }
    }

    /// An empty channel takes anything, so that nothing is too heavy to pass.
    fn fits(&self, weight_bytes: usize) -> bool {
        let within = |bytes: usize| bytes <= self.max_bytes;
        self.items == 0
            || (self.items < self.max_items && self.bytes.checked_add(weight_bytes).is_some_and(within))
    }

    fn count_in(&mut self, weight_bytes: usize) {
        self.items += 1;
        self.bytes += weight_bytes;
    }

    fn next_receiver(&mut self) -> Option<W> {
        self.receivers.pop_front().map(|(_, waker)| waker)
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.senders.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

// Thousands of states, and no unsafe code: nothing for Miri.
#[cfg(all(test, not(miri)))]
#[path = "gate_model.rs"]
mod model;
