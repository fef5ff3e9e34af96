//! [`Mail`]: messages from one rank to another, in packets through bounded queues.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::CollectiveError;
use super::exchange::Exchange;
use super::staging::room;
use super::ways::{Needs, Ways};
use crate::tensor::DType;

/// Packets that wait for a rank before who sends more has to wait too.
pub(super) const QUEUE: usize = 2;

/// The bytes of a message that travel together.
pub(super) const PACKET_BYTES: usize = 128 << 10;

/// What a message is, as both ends must agree on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) len: usize,
}

#[derive(Debug)]
struct Packet {
    header: Header,
    words: Vec<u64>,
    bytes: usize,
}

/// The ways between all ranks, and a bell for each.
#[derive(Debug)]
pub(super) struct Mail {
    spins: u32,
    /// Ranks that are blocked, for those who only look whether there are any.
    blocked: AtomicUsize,
    bells: Box<[Bell]>,
    state: Mutex<State>,
}

/// What a rank waits at.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bell {
    is_blocked: AtomicBool,
    rings: Condvar,
}

#[derive(Debug)]
struct State {
    ways: Ways<Packet>,
    /// What each blocked rank has called.
    calls: Vec<Exchange>,
    /// The words of packets that arrived, to be filled again.
    empty: Vec<Vec<u64>>,
    is_closed: bool,
}

/// Why no packet moved.
pub(super) enum Stuck {
    /// The group has failed.
    Closed,
    /// The two ends do not agree.
    Disagree(CollectiveError),
    /// Ranks wait for each other in a circle.
    Crossed(Circle),
}

/// Ranks of which each waits for the next, and the last for the first: with its message, or in a call of all ranks.
pub(super) type Circle = Vec<(usize, Option<Exchange>)>;

/// A message on its way out: to whom, and what is left of it.
pub(super) struct Outgoing<'a> {
    pub(super) to: usize,
    pub(super) header: Header,
    pub(super) bytes: &'a [u8],
}

/// A message on its way in: from whom, and the room that is left.
pub(super) struct Incoming<'a> {
    pub(super) from: usize,
    pub(super) header: Header,
    pub(super) bytes: &'a mut [u8],
}

impl Mail {
    /// Mail between `world` ranks, each of which looks `spins` times before it parks. On each way there may be `room` packets.
    pub(super) fn new(world: usize, spins: u32, room: usize) -> Self {
        let calls = vec![Exchange::default(); world];
        let state = State { ways: Ways::new(world, room), calls, empty: Vec::new(), is_closed: false };
        let bells = (0..world).map(|_| Bell::default()).collect();
        Self { spins, blocked: AtomicUsize::new(0), bells, state: Mutex::new(state) }
    }

    /// Frees whoever waits, for ever.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        for bell in &self.bells {
            bell.ring();
        }
    }

    /// Sends one message and receives another at the same time, so that ranks in a circle do not wait for each
    /// other; either may be absent. Returns once both have gone through.
    ///
    /// `passed` says how many steps a rank has passed in calls of all ranks.
    pub(super) fn exchange(
        &self,
        me: usize,
        mut outgoing: Option<Outgoing<'_>>,
        mut incoming: Option<Incoming<'_>>,
        passed: impl Fn(usize) -> u64,
    ) -> Result<(), Stuck> {
        let call = Exchange::of(outgoing.as_ref(), incoming.as_ref());
        let mut filled = None;
        while outgoing.is_some() || incoming.is_some() {
            if let (None, Some(message)) = (&filled, &mut outgoing) {
                filled = Some(self.fill(message));
            }
            let mut state = self.state.lock();
            let to = outgoing.as_ref().map(|message| message.to).filter(|to| state.ways.has_room(me, *to));
            let is_sent = to.is_some();
            if let Some(to) = to
                && let Some(packet) = filled.take()
                && state.ways.put(me, to, packet)
            {
                self.wake(to);
            }
            let taken = incoming.as_ref().and_then(|message| {
                let (packet, is_freed) = state.ways.take(message.from, me)?;
                if is_freed {
                    self.wake(message.from);
                }
                Some(packet)
            });
            if !is_sent && taken.is_none() {
                if state.is_closed {
                    // What was sent before the group failed has been received by now.
                    return Err(Stuck::Closed);
                }
                state.calls[me] = call;
                let needs = Needs {
                    room_to: outgoing.as_ref().map(|message| message.to),
                    packet_from: incoming.as_ref().map(|message| message.from),
                };
                self.wait(state, me, needs, &passed)?;
                continue;
            }
            drop(state);
            if is_sent {
                outgoing.take_if(|message| message.bytes.is_empty());
            }
            if let (Some(message), Some(packet)) = (&mut incoming, taken) {
                self.unpack(me, message, packet)?;
                incoming.take_if(|message| message.bytes.is_empty());
            }
        }
        Ok(())
    }

    /// The circle that a rank has closed by going into a call of all ranks, after it said that it has passed its step.
    pub(super) fn crossed(&self, me: usize, passed: impl Fn(usize) -> u64) -> Option<Circle> {
        // The step was followed by a fence, as is the count of the blocked: one of the two ranks sees the other.
        if self.blocked.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.state.lock().circle(me, passed)
    }

    /// Waits until a packet can move or the group has failed.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        me: usize,
        needs: Needs,
        passed: impl Fn(usize) -> u64,
    ) -> Result<(), Stuck> {
        let bell = &self.bells[me];
        if let Some(sender) = state.ways.block(me, needs) {
            self.wake(sender);
        }
        bell.is_blocked.store(true, Ordering::Relaxed);
        self.blocked.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let circle = state.circle(me, passed);
        if circle.is_none() {
            drop(state);
            let is_blocked = |_: &u32| bell.is_blocked.load(Ordering::Acquire);
            (0..self.spins).take_while(is_blocked).for_each(|_| spin_loop());
            state = self.state.lock();
            while state.ways.is_blocked(me) && !state.is_closed {
                bell.rings.wait(&mut state);
            }
        }
        if state.ways.free(me) {
            self.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        circle.map_or(Ok(()), |circle| Err(Stuck::Crossed(circle)))
    }

    /// Has a rank go on that a move has freed.
    fn wake(&self, rank: usize) {
        self.blocked.fetch_sub(1, Ordering::Relaxed);
        self.bells[rank].ring();
    }

    /// The next packet of a message; an empty message is one empty packet.
    fn fill(&self, message: &mut Outgoing<'_>) -> Packet {
        let (now, rest) = message.bytes.split_at(message.bytes.len().min(PACKET_BYTES));
        message.bytes = rest;
        let mut words = self.state.lock().empty.pop().unwrap_or_default();
        room(&mut words, now.len()).copy_from_slice(now);
        Packet { header: message.header, words, bytes: now.len() }
    }

    fn unpack(&self, me: usize, message: &mut Incoming<'_>, mut packet: Packet) -> Result<(), Stuck> {
        let (sent, wanted) = (packet.header, message.header);
        if sent.dtype != wanted.dtype {
            let text = |what: &str, header: Header| format!("{what} of {} {}", header.len, header.dtype);
            let (expected, found) = (text("send", sent), text("recv", wanted));
            return Err(Stuck::Disagree(CollectiveError::Mismatch { rank: me, expected, found }));
        }
        if sent.len != wanted.len {
            let (verb, rank) = ("recv", me);
            let (found, expected) = (wanted.len, sent.len);
            return Err(Stuck::Disagree(CollectiveError::Length { verb, rank, found, expected }));
        }
        let (now, rest) = std::mem::take(&mut message.bytes).split_at_mut(packet.bytes);
        now.copy_from_slice(room(&mut packet.words, packet.bytes));
        message.bytes = rest;
        let mut state = self.state.lock();
        // As many as a rank can have under way; where they wait already, this one is freed.
        if state.empty.len() < QUEUE * self.bells.len() {
            state.empty.push(packet.words);
        }
        Ok(())
    }
}

impl State {
    fn circle(&self, start: usize, passed: impl Fn(usize) -> u64) -> Option<Circle> {
        let circle = self.ways.circle(start, passed)?;
        let call = |rank| self.ways.is_blocked(rank).then(|| self.calls[rank]);
        Some(circle.into_iter().map(|rank| (rank, call(rank))).collect())
    }
}

impl Bell {
    fn ring(&self) {
        self.is_blocked.store(false, Ordering::Release);
        self.rings.notify_one();
    }
}
