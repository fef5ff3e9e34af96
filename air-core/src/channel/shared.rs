//! What the two ends share: the gate and the sending side of the crossbeam queue, under one lock.
//!
//! Every push happens under the lock. So a receiver that holds it and finds the queue empty can register to be woken
//! without missing an item. Wakers run, and are dropped, after the lock is released.

use std::task::Waker;

use crossbeam_channel as queue;
use parking_lot::Mutex;

use super::Limit;
use super::gate::{Entry, Gate, Parcel, Waited};

pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    gate: Gate<T, Waker>,
    /// Taken out when the last sender goes, so that crossbeam sees the disconnection.
    queue: Option<queue::Sender<Parcel<T>>>,
    senders: usize,
    receivers: usize,
}

/// What became of an item that asked to enter.
pub(super) enum Sent<T> {
    Inside,
    Waiting(u64),
    Full(T),
    Closed(T),
}

impl<T> Shared<T> {
    pub(super) fn new(limit: Limit) -> (Shared<T>, queue::Receiver<Parcel<T>>) {
        let (sender, receiver) = queue::bounded(limit.items);
        let state = State { gate: Gate::new(limit), queue: Some(sender), senders: 1, receivers: 1 };
        (Shared { state: Mutex::new(state) }, receiver)
    }

    pub(super) fn limit(&self) -> Limit {
        self.state.lock().gate.limit()
    }

    /// Items and bytes inside.
    pub(super) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.gate.items(), state.gate.bytes())
    }

    /// Lets the item in, or lines it up if `waker` says how to wake its sender.
    pub(super) fn send(&self, item: T, weight_bytes: usize, waker: Option<Waker>) -> Sent<T> {
        let woken = {
            let mut state = self.state.lock();
            let State { gate, queue, .. } = &mut *state;
            match (gate.enter(Parcel { item, weight_bytes }, |parcel| push(queue.as_ref(), parcel)), waker) {
                (Entry::Inside(receiver), _) => receiver,
                (Entry::Closed(parcel), _) => return Sent::Closed(parcel.item),
                (Entry::Full(parcel), None) => return Sent::Full(parcel.item),
                (Entry::Full(parcel), Some(waker)) => return Sent::Waiting(gate.wait(parcel, waker)),
            }
        };
        wake_all(woken);
        Sent::Inside
    }

    pub(super) fn check(&self, ticket: u64, waker: &Waker) -> Waited<T> {
        let mut waker = waker.clone();
        self.state.lock().gate.check(ticket, &mut waker)
    }

    /// The item back, if it has not been let in.
    pub(super) fn withdraw(&self, ticket: u64) -> Option<T> {
        let mut wakes = Vec::new();
        let withdrawn = {
            let mut state = self.state.lock();
            let State { gate, queue, .. } = &mut *state;
            gate.withdraw(ticket, |parcel| push(queue.as_ref(), parcel), &mut wakes)
        };
        wake_all(wakes);
        withdrawn.map(|(item, _)| item)
    }

    /// Counts a received parcel out, and its receiver out of the line.
    pub(super) fn received(&self, parcel: Parcel<T>, ticket: Option<u64>) -> T {
        let mut wakes = Vec::new();
        let unused = self.state.lock().count_out(parcel.weight_bytes, ticket, &mut wakes);
        drop(unused);
        wake_all(wakes);
        parcel.item
    }

    /// Takes a parcel, or lines the receiver up: `Err` holds its ticket, `None` where there will never be another.
    pub(super) fn receive_or_wait(
        &self,
        from: &queue::Receiver<Parcel<T>>,
        ticket: Option<u64>,
        waker: Waker,
    ) -> Result<T, Option<u64>> {
        let mut wakes = Vec::new();
        let (unused, outcome) = {
            let mut state = self.state.lock();
            match from.try_recv() {
                Ok(parcel) => (state.count_out(parcel.weight_bytes, ticket, &mut wakes), Ok(parcel.item)),
                Err(_) if state.queue.is_none() => (None, Err(None)),
                Err(_) => {
                    let (ticket, unused) = state.gate.wait_to_receive(ticket, waker);
                    (unused, Err(Some(ticket)))
                }
            }
        };
        drop(unused);
        wake_all(wakes);
        outcome
    }

    pub(super) fn give_up_receiving(&self, ticket: u64) {
        let given_up = self.state.lock().gate.give_up_receiving(ticket);
        if let Err(next) = given_up {
            wake_all(next);
        }
    }

    pub(super) fn add_sender(&self) {
        self.state.lock().senders += 1;
    }

    pub(super) fn add_receiver(&self) {
        self.state.lock().receivers += 1;
    }

    pub(super) fn drop_sender(&self) {
        let (queue, receivers) = {
            let mut state = self.state.lock();
            state.senders -= 1;
            if state.senders > 0 {
                return;
            }
            (state.queue.take(), state.gate.release_receivers())
        };
        drop(queue);
        wake_all(receivers.into_iter().map(|(_, waker)| waker));
    }

    pub(super) fn drop_receiver(&self, from: &queue::Receiver<Parcel<T>>) {
        let wakes: Vec<Waker> = {
            let mut state = self.state.lock();
            state.receivers -= 1;
            if state.receivers > 0 {
                return;
            }
            state.gate.close().cloned().collect()
        };
        wake_all(wakes);
        // crossbeam would keep what is inside until the last sender goes. Nothing is pushed any more.
        while let Ok(parcel) = from.try_recv() {
            drop(self.received(parcel, None));
        }
    }
}

impl<T> State<T> {
    /// Returns the receiver's own waker, if it was not woken.
    fn count_out(
        &mut self,
        weight_bytes: usize,
        ticket: Option<u64>,
        wakes: &mut Vec<Waker>,
    ) -> Option<Waker> {
        let State { gate, queue, .. } = self;
        let unused = ticket.and_then(|ticket| gate.received(ticket));
        gate.leave(weight_bytes, |parcel| push(queue.as_ref(), parcel), wakes);
        unused
    }
}

/// The gate calls this only when there is room, and a receiver, and (as parcels come from senders) a sender.
fn push<T>(queue: Option<&queue::Sender<Parcel<T>>>, parcel: Parcel<T>) {
    let pushed = queue.is_some_and(|queue| queue.try_send(parcel).is_ok());
    debug_assert!(pushed, "the gate let in more than the queue holds");
}

fn wake_all(wakes: impl IntoIterator<Item = Waker>) {
    for waker in wakes {
        waker.wake();
    }
}
