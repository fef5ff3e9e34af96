//! What waits for a worker: bounded, and older than any one life of it.
//!
//! A sender puts its item in if there is room; if not it stands in line, and room that comes free is kept for the first in line. The
//! worker of one *generation* takes; when that life ends the queue stays as it is and the next generation goes on where the last one
//! stopped. Closing is the only way items leave unhandled, and it hands them all to the closer: whoever puts later gets its own item
//! back.
//!
//! Senders meet at the *inbox*, the taker works from the *outbox*, each under its lock; the taker empties the inbox into the outbox when
//! it has nothing else, so that a queue that is busy costs both sides little more than a lock that nobody else wants. Whoever ends or
//! counts holds both, the outbox first: an item is handled, handed to the closer or given back: never two of these, never none.
//!
//! What was taken stays *in hand*, here, until the next take: should the taker never come back, it can be answered for it.
//!
//! Items are taken in the order of arrival, with two exceptions. Urgent items go before normal ones, but after [`JUMPS`] of them in a
//! row a normal one has its turn, so that no flood of urgent items starves the others. And a taker may be full for some *groups* of
//! items, which then wait for it while the others pass. Notices of the runtime go before everything.
//!
//! | file | idea |
//! |---|---|
//! | `lanes` | which item is next |
//! | `room` | who may put one in |
//! | `outbox` | taking, and what is in hand |

mod lanes;
mod outbox;
mod room;

use std::task::Waker;

use super::sync::{AtomicUsize, Mutex, Ordering};
use outbox::Outbox;
pub(super) use room::Room;
use room::{Gate, Taken};

/// Urgent items that may be taken in a row while a normal one waits.
pub(super) const JUMPS: usize = 16;

/// How an item is put in. Each lane has room of its own, and its own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) group: usize,
    pub(super) urgent: bool,
}

impl Lane {
    fn index(self) -> usize {
        2 * self.group + usize::from(self.urgent)
    }
}

/// The groups a taker is full for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Full(u64);

impl Full {
    /// Most groups a queue can have.
    pub(super) const GROUPS: usize = u64::BITS as usize;

    pub(super) fn set(&mut self, group: usize, full: bool) {
        let bit = 1 << group;
        self.0 = if full { self.0 | bit } else { self.0 & !bit };
    }

    fn has(self, group: usize) -> bool {
        self.0 & (1 << group) != 0
    }
}

/// Holds items of type `T`; `E` is why it was closed.
pub(super) struct Queue<T, E> {
    /// How many each lane holds.
    capacity: usize,
    inbox: Apart<Mutex<Inbox<T, E>>>,
    /// Raised by whatever could change the answer of an empty take, so that a taker can wait awake without the lock.
    news: AtomicUsize,
    /// Whether something came in that goes before what came earlier.
    hurry: AtomicUsize,
    outbox: Apart<Mutex<Outbox<T, E>>>,
    /// For each lane, how many the taker took.
    taken: Box<[Taken]>,
}

/// On cache lines of its own: what one side writes does not slow down the other.
#[repr(align(128))]
struct Apart<T>(T);

/// Where senders meet.
struct Inbox<T, E> {
    /// In the order of arrival; a notice has no lane.
    items: Vec<(Option<Lane>, T)>,
    gates: Box<[Gate]>,
    /// Whether nothing new is let in, and the owner ends once it has handled what waits.
    finishing: bool,
    /// Why there will be no further life.
    closed: Option<E>,
    taker: Option<Waker>,
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

impl<T: Clone, E: Clone> Queue<T, E> {
    /// A queue whose lanes, a normal and an urgent one for each group, hold so many items each.
    pub(super) fn new(capacity: usize, groups: usize) -> Self {
        let gates = (0..2 * groups).map(|_| Gate::default()).collect();
        let inbox = Inbox { items: Vec::new(), gates, finishing: false, closed: None, taker: None };
        Self {
            capacity,
            inbox: Apart(Mutex::new(inbox)),
            news: AtomicUsize::new(0),
            hurry: AtomicUsize::new(0),
            outbox: Apart(Mutex::new(Outbox::new(groups))),
            taken: (0..2 * groups).map(|_| Taken::new()).collect(),
        }
    }

    /// Puts an item in if there is room now.
    pub(super) fn offer(&self, lane: Lane, item: T) -> Result<(), Refused<T>> {
        let mut inbox = self.inbox.0.lock();
        if inbox.is_shut() {
            return Err(Refused::Closed(item));
        }
        if !inbox.gate(lane).is_open(self.taken(lane), self.capacity) {
            return Err(Refused::Full(item));
        }
        let taker = self.let_in(&mut inbox, lane, item);
        drop(inbox);
        wake(taker);
        Ok(())
    }

    /// Puts a notice before everything else. Notices take no room: the caller sees to it that they are few.
    pub(super) fn notify(&self, notice: T) -> Result<(), T> {
        let mut inbox = self.inbox.0.lock();
        if inbox.is_shut() {
            return Err(notice);
        }
        inbox.items.push((None, notice));
        self.hurry.store(1, Ordering::Release);
        let taker = self.tell_taker(&mut inbox);
        drop(inbox);
        wake(taker);
        Ok(())
    }

    /// Waits for room, in the order of arrival.
    pub(super) fn room(&self, lane: Lane) -> Room<'_, T, E> {
        Room { queue: self, lane, ticket: None }
    }

    /// A number that changes with whatever could change the answer of an empty take.
    pub(super) fn news(&self) -> usize {
        self.news.load(Ordering::Acquire)
    }

    /// From now on this generation takes, unless the queue is closed.
    pub(super) fn own(&self, generation: u64) {
        let (mut outbox, mut inbox) = (self.outbox.0.lock(), self.inbox.0.lock());
        outbox.give_to(if inbox.closed.is_some() { 0 } else { generation });
        outbox.interrupted = None;
        // A life left behind may be waiting awake; its waker is of no use any more.
        drop(self.tell_taker(&mut inbox));
    }

    /// Whether this generation still may take: an abandoned or closed-upon life may not.
    pub(super) fn owned_by(&self, generation: u64) -> bool {
        self.outbox.0.lock().owner == generation
    }

    /// Tells the owner to stop after its current message; what waits stays. The first reason counts.
    pub(super) fn interrupt(&self, why: E) {
        let mut outbox = self.outbox.0.lock();
        outbox.interrupted.get_or_insert(why);
        let taker = self.tell_taker(&mut self.inbox.0.lock());
        drop(outbox);
        wake(taker);
    }

    /// Why there was nothing more for this generation, unless it had handled everything or was left behind.
    pub(super) fn why_stopped(&self, generation: u64) -> Option<E> {
        let outbox = self.outbox.0.lock();
        if outbox.owner == generation { outbox.interrupted.clone() } else { self.closed() }
    }

    /// Whether this generation has taken all that was let in before [`finish`](Self::finish).
    pub(super) fn drained_by(&self, generation: u64) -> bool {
        let (outbox, inbox) = (self.outbox.0.lock(), self.inbox.0.lock());
        outbox.is_for(generation) && inbox.finishing && inbox.items.is_empty() && outbox.lanes.is_empty()
    }

    /// Lets nothing new in; the owner ends when it has handled what waits.
    pub(super) fn finish(&self) {
        let mut inbox = self.inbox.0.lock();
        inbox.finishing = true;
        let (taker, line) = (self.tell_taker(&mut inbox), self.send_away(&mut inbox));
        drop(inbox);
        wake(taker);
        line.into_iter().for_each(Waker::wake);
    }

    /// Whether [`finish`](Self::finish) was called, or it is closed.
    pub(super) fn finishing(&self) -> bool {
        self.inbox.0.lock().finishing
    }

    /// Closes for good and returns what waited. The first closer's reason stays.
    pub(super) fn close(&self, why: E) -> Vec<T> {
        let (mut outbox, mut inbox) = (self.outbox.0.lock(), self.inbox.0.lock());
        inbox.closed.get_or_insert(why);
        inbox.finishing = true;
        outbox.give_to(0);
        self.empty(&mut inbox, &mut outbox);
        let items = outbox.lanes.drain();
        for (gate, taken) in inbox.gates.iter().zip(&self.taken) {
            taken.count(gate.len(taken));
        }
        let (taker, line) = (self.tell_taker(&mut inbox), self.send_away(&mut inbox));
        drop((outbox, inbox));
        wake(taker);
        line.into_iter().for_each(Waker::wake);
        items
    }

    /// Why it is closed, if it is.
    pub(super) fn closed(&self) -> Option<E> {
        self.inbox.0.lock().closed.clone()
    }

    /// How many wait, notices aside.
    pub(super) fn len(&self) -> usize {
        let inbox = self.inbox.0.lock();
        inbox.gates.iter().zip(&self.taken).map(|(gate, taken)| gate.len(taken)).sum()
    }

    fn taken(&self, lane: Lane) -> &Taken {
        &self.taken[lane.index()]
    }

    /// Notes an item that has room; returns the taker, to be woken.
    fn let_in(&self, inbox: &mut Inbox<T, E>, lane: Lane, item: T) -> Option<Waker> {
        inbox.gate(lane).count();
        inbox.items.push((Some(lane), item));
        if lane.urgent {
            self.hurry.store(1, Ordering::Release);
        }
        self.tell_taker(inbox)
    }

    fn tell_taker(&self, inbox: &mut Inbox<T, E>) -> Option<Waker> {
        // Only written under the inbox's lock.
        self.news.store(self.news.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        inbox.taker.take()
    }

    /// Moves what came in to where it is taken from.
    fn empty(&self, inbox: &mut Inbox<T, E>, outbox: &mut Outbox<T, E>) {
        self.hurry.store(0, Ordering::Relaxed);
        for (lane, item) in inbox.items.drain(..) {
            outbox.lanes.push(lane, item);
        }
    }

    /// Counts what was taken while the outbox is held; then whoever stands in line may have the room.
    fn took<O>(&self, outbox: O, lane: Lane, count: usize) {
        let taken = self.taken(lane);
        let awaited = taken.count(count);
        drop(outbox);
        if awaited {
            let passed = self.inbox.0.lock().gate(lane).pass_on(taken, self.capacity);
            passed.into_iter().for_each(Waker::wake);
        }
    }

    fn send_away(&self, inbox: &mut Inbox<T, E>) -> Vec<Waker> {
        inbox.gates.iter_mut().zip(&self.taken).flat_map(|(gate, taken)| gate.send_away(taken)).collect()
    }
}

impl<T, E> Inbox<T, E> {
    fn is_shut(&self) -> bool {
        self.closed.is_some() || self.finishing
    }

    fn gate(&mut self, lane: Lane) -> &mut Gate {
        &mut self.gates[lane.index()]
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
