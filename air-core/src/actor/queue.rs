//! What waits for a worker: bounded, and older than any one life of it.
//!
//! A sender puts its item in if there is room; if not it stands in line, and room that comes free is kept for the first in line. The
//! worker of one *generation* takes; when that life ends the queue stays as it is and the next generation goes on where the last one
//! stopped. Closing is the only way items leave unhandled, and it hands them all to the closer: whoever puts later gets its own item
//! back. Everything meets under one lock, so an item is handled, handed to the closer or given back: never two of these, never none.
//!
//! Items are taken in the order of arrival, with two exceptions. Urgent items go before normal ones, but after [`JUMPS`] of them in a
//! row a normal one has its turn, so that no flood of urgent items starves the others. And a taker may be full for some *groups* of
//! items, which then wait for it while the others pass. Notices of the runtime go before everything.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sync::{AtomicUsize, Mutex, Ordering};

/// Urgent items that may be taken in a row while a normal one waits.
pub(super) const JUMPS: usize = 16;

/// How an item is put in. Each lane has room of its own, and its own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) group: usize,
    pub(super) urgent: bool,
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
    state: Mutex<State<T, E>>,
    /// Raised by whatever could change the answer of an empty take, so that a taker can wait awake without the lock.
    news: AtomicUsize,
}

struct State<T, E> {
    items: Items<T>,
    /// How many each lane holds.
    capacity: usize,
    /// The life that may take; 0 is none.
    owner: u64,
    /// Why the owner is to stop after its current message, leaving what waits.
    interrupted: Option<E>,
    /// Whether nothing new is let in, and the owner ends once it has handled what waits.
    finishing: bool,
    /// Why there will be no further life.
    closed: Option<E>,
    taker: Option<Waker>,
}

struct Items<T> {
    /// At most one for each watch, so they need no room.
    notices: VecDeque<T>,
    /// For each group, normal items and urgent ones.
    groups: Box<[[Waiting<T>; 2]]>,
    arrived: u64,
    /// Urgent items taken in a row while a normal one waited.
    jumped: usize,
    /// The lane of the item taken last; none for a notice.
    last: Option<Lane>,
}

/// What waits in one lane, and for it.
struct Waiting<T> {
    /// With numbers in the order of arrival.
    items: VecDeque<(u64, T)>,
    /// Room kept for senders who were in line.
    reserved: usize,
    line: Line,
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
    /// A queue whose lanes, a normal and an urgent one for each group, hold so many items each.
    pub(super) fn new(capacity: usize, groups: usize) -> Self {
        let state = State {
            items: Items::new(groups),
            capacity,
            owner: 0,
            interrupted: None,
            finishing: false,
            closed: None,
            taker: None,
        };
        Self { state: Mutex::new(state), news: AtomicUsize::new(0) }
    }

    /// Puts an item in if there is room now.
    pub(super) fn offer(&self, lane: Lane, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state.lock();
        if state.is_shut() {
            return Err(Refused::Closed(item));
        }
        if !state.has_room(lane) {
            return Err(Refused::Full(item));
        }
        state.items.push(lane, item);
        let taker = state.taker.take();
        drop(state);
        self.tell_taker(taker);
        Ok(())
    }

    /// Puts a notice before everything else. Notices take no room: the caller sees to it that they are few.
    pub(super) fn notify(&self, notice: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.is_shut() {
            return Err(notice);
        }
        state.items.notices.push_back(notice);
        let taker = state.taker.take();
        drop(state);
        self.tell_taker(taker);
        Ok(())
    }

    /// Waits for room, in the order of arrival.
    pub(super) fn room(&self, lane: Lane) -> Room<'_, T, E> {
        Room { queue: self, lane, ticket: None }
    }

    /// The next item for this generation that is of none of the groups it is full for, if one is there; `Ready(None)` once it is to
    /// stop.
    pub(super) fn take(&self, generation: u64, full: Full) -> Poll<Option<T>> {
        self.take_or(generation, full, |_| {})
    }

    /// As [`take`](Self::take), and wakes the taker when there is something new.
    pub(super) fn poll_take(&self, generation: u64, full: Full, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.take_or(generation, full, |taker| {
            if taker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *taker = Some(cx.waker().clone());
            }
        })
    }

    fn take_or(
        &self,
        generation: u64,
        full: Full,
        empty: impl FnOnce(&mut Option<Waker>),
    ) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        if state.owner != generation || state.interrupted.is_some() {
            return Poll::Ready(None);
        }
        if let Some(item) = state.items.next(full) {
            let next = state.items.last.and_then(|lane| state.items.lane(lane).pass_room_on());
            drop(state);
            wake(next);
            return Poll::Ready(Some(item));
        }
        // Also when all is drained: the taker may go on with what it has taken, and can still be interrupted.
        empty(&mut state.taker);
        if state.finishing && state.items.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Further items of the lane that was taken from last, as long as they are `alike`, at most `most`. The order is kept: the first
    /// one that is not alike ends it.
    pub(super) fn take_alike(&self, generation: u64, most: usize, alike: impl Fn(&T) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        let Some(lane) = state.items.last else { return Vec::new() };
        if state.owner != generation || state.interrupted.is_some() {
            return Vec::new();
        }
        // Its neighbours are those that came next in any group, so that nothing is overtaken.
        let limit = state.items.others_first(lane);
        let waiting = state.items.lane(lane);
        let is_next = |(number, item): &&(u64, T)| limit.is_none_or(|limit| *number < limit) && alike(item);
        let run = waiting.items.iter().take(most).take_while(is_next).count();
        let taken: Vec<T> = waiting.items.drain(..run).map(|(_, item)| item).collect();
        let line: Vec<_> = (0..run).map_while(|_| waiting.pass_room_on()).collect();
        drop(state);
        line.into_iter().for_each(Waker::wake);
        taken
    }

    /// A number that changes with whatever could change the answer of an empty take.
    pub(super) fn news(&self) -> usize {
        self.news.load(Ordering::Acquire)
    }

    fn tell_taker(&self, taker: Option<Waker>) {
        self.news.fetch_add(1, Ordering::Release);
        wake(taker);
    }

    /// From now on this generation takes, unless the queue is closed.
    pub(super) fn own(&self, generation: u64) {
        let mut state = self.state.lock();
        state.owner = if state.closed.is_some() { 0 } else { generation };
        state.interrupted = None;
        state.taker = None;
        drop(state);
        // A life left behind may be waiting awake.
        self.tell_taker(None);
    }

    /// Whether this generation still may take: an abandoned or closed-upon life may not.
    pub(super) fn owned_by(&self, generation: u64) -> bool {
        self.state.lock().owner == generation
    }

    /// Tells the owner to stop after its current message; what waits stays. The first reason counts.
    pub(super) fn interrupt(&self, why: E) {
        let mut state = self.state.lock();
        state.interrupted.get_or_insert(why);
        let taker = state.taker.take();
        drop(state);
        self.tell_taker(taker);
    }

    /// Why there was nothing more for this generation, unless it had handled everything or was left behind.
    pub(super) fn why_stopped(&self, generation: u64) -> Option<E> {
        let state = self.state.lock();
        if state.owner == generation { state.interrupted.clone() } else { state.closed.clone() }
    }

    /// Whether this generation has taken all that was let in before [`finish`](Self::finish).
    pub(super) fn drained_by(&self, generation: u64) -> bool {
        let state = self.state.lock();
        let stopped = state.owner != generation || state.interrupted.is_some();
        !stopped && state.finishing && state.items.is_empty()
    }

    /// Lets nothing new in; the owner ends when it has handled what waits.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.finishing = true;
        let (taker, line) = (state.taker.take(), state.items.send_away());
        drop(state);
        self.tell_taker(taker);
        line.into_iter().for_each(Waker::wake);
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
        let items = state.items.drain();
        let (taker, line) = (state.taker.take(), state.items.send_away());
        drop(state);
        self.tell_taker(taker);
        line.into_iter().for_each(Waker::wake);
        items
    }

    /// Why it is closed, if it is.
    pub(super) fn closed(&self) -> Option<E> {
        self.state.lock().closed.clone()
    }

    /// How many wait, notices aside.
    pub(super) fn len(&self) -> usize {
        self.state.lock().items.groups.iter().flatten().map(|lane| lane.items.len()).sum()
    }
}

impl<T, E> State<T, E> {
    fn is_shut(&self) -> bool {
        self.closed.is_some() || self.finishing
    }

    fn has_room(&mut self, lane: Lane) -> bool {
        let waiting = self.items.lane(lane);
        waiting.items.len() + waiting.reserved < self.capacity
    }
}

impl<T> Items<T> {
    fn new(groups: usize) -> Self {
        let lane = || Waiting { items: VecDeque::new(), reserved: 0, line: Line::default() };
        let groups = (0..groups).map(|_| [lane(), lane()]).collect();
        Self { notices: VecDeque::new(), groups, arrived: 0, jumped: 0, last: None }
    }

    fn next(&mut self, full: Full) -> Option<T> {
        if let Some(notice) = self.notices.pop_front() {
            self.last = None;
            return Some(notice);
        }
        let (urgent, normal) = (self.first(true, full), self.first(false, full));
        let jumps = urgent.is_some() && (normal.is_none() || self.jumped < JUMPS);
        self.jumped = if jumps && normal.is_some() { self.jumped + 1 } else { 0 };
        let lane = if jumps { urgent } else { normal }?;
        self.last = Some(lane);
        self.lane(lane).items.pop_front().map(|(_, item)| item)
    }

    /// The lane whose first item came before the others', of the groups there is room for.
    fn first(&self, urgent: bool, full: Full) -> Option<Lane> {
        let open = self.groups.iter().enumerate().filter(|(group, _)| !full.has(*group));
        let numbers =
            open.filter_map(|(group, lanes)| Some((lanes[usize::from(urgent)].items.front()?.0, group)));
        numbers.min().map(|(_, group)| Lane { group, urgent })
    }

    /// The number of the first item of the same urgency that waits in another group.
    fn others_first(&self, lane: Lane) -> Option<u64> {
        let others = self.groups.iter().enumerate().filter(|(group, _)| *group != lane.group);
        others.filter_map(|(_, lanes)| Some(lanes[usize::from(lane.urgent)].items.front()?.0)).min()
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting<T> {
        &mut self.groups[lane.group][usize::from(lane.urgent)]
    }

    fn push(&mut self, lane: Lane, item: T) {
        self.arrived += 1;
        let number = self.arrived;
        self.lane(lane).items.push_back((number, item));
    }

    fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.groups.iter().flatten().all(|lane| lane.items.is_empty())
    }

    /// Everything: the notices, then in the order of arrival.
    fn drain(&mut self) -> Vec<T> {
        let lanes = self.groups.iter_mut().flatten();
        let mut numbered: Vec<_> = lanes.flat_map(|lane| std::mem::take(&mut lane.items)).collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        self.notices.drain(..).chain(numbered.into_iter().map(|(_, item)| item)).collect()
    }

    /// Empties the lines; who stood in them is to be woken.
    fn send_away(&mut self) -> Vec<Waker> {
        let lines = self.groups.iter_mut().flatten().map(|lane| std::mem::take(&mut lane.line.waiting));
        lines.flatten().map(|(_, waker)| waker).collect()
    }
}

impl<T> Waiting<T> {
    /// Keeps room that has come free for the first in line, who is to be woken.
    fn pass_room_on(&mut self) -> Option<Waker> {
        let (_, waker) = self.line.waiting.pop_front()?;
        self.reserved += 1;
        Some(waker)
    }

    /// Room that was kept is free again, for the next in line.
    fn give_room_back(&mut self) -> Option<Waker> {
        self.reserved -= 1;
        self.pass_room_on()
    }
}

impl Line {
    /// Where a ticket stands.
    fn place(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
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
    lane: Lane,
    ticket: Option<u64>,
}

/// Room that is kept for an item; dropping it gives the room to the next in line.
pub(super) struct Slot<'a, T, E: Clone> {
    queue: &'a Queue<T, E>,
    lane: Lane,
    used: bool,
}

impl<'a, T, E: Clone> Future for Room<'a, T, E> {
    type Output = Result<Slot<'a, T, E>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (queue, lane) = (self.queue, self.lane);
        let mut state = queue.state.lock();
        if let Some(ticket) = self.ticket {
            let line = &mut state.items.lane(lane).line;
            if let Some(at) = line.place(ticket) {
                let waker = &mut line.waiting[at].1;
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            if !state.is_shut() {
                self.ticket = None;
                return Poll::Ready(Ok(Slot { queue, lane, used: false }));
            }
        }
        if state.is_shut() {
            // Nobody is let in any more, so it does not matter whether room had been kept.
            self.ticket = None;
            return Poll::Ready(Err(Closed));
        }
        if state.has_room(lane) {
            state.items.lane(lane).reserved += 1;
            return Poll::Ready(Ok(Slot { queue, lane, used: false }));
        }
        let line = &mut state.items.lane(lane).line;
        let ticket = line.next;
        line.next += 1;
        line.waiting.push_back((ticket, cx.waker().clone()));
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl<T, E: Clone> Drop for Room<'_, T, E> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.queue.state.lock();
        let is_shut = state.is_shut();
        let waiting = state.items.lane(self.lane);
        match waiting.line.place(ticket) {
            Some(at) => drop(waiting.line.waiting.remove(at)),
            // Room was kept, or the line was sent away.
            None if is_shut => {}
            None => {
                let next = waiting.give_room_back();
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
        state.items.lane(self.lane).reserved -= 1;
        if state.is_shut() {
            return Err(item);
        }
        state.items.push(self.lane, item);
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
        let next = state.items.lane(self.lane).give_room_back();
        drop(state);
        wake(next);
    }
}
