//! [`Mail`]: messages from one rank to another, in packets through bounded queues.

use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded};
use parking_lot::Mutex;

use super::error::CollectiveError;
use super::staging::room;
use crate::tensor::DType;

/// The bytes of a message that travel together.
pub(super) const PACKET_BYTES: usize = 128 << 10;

/// Packets that wait for a rank before who sends more has to wait too.
const QUEUE: usize = 2;

/// How long a rank waits before it looks whether the one it waits for will ever come.
const LOOK: Duration = Duration::from_millis(20);

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

/// The way from one rank to another. The words of packets that arrived go back to be filled again.
#[derive(Debug)]
struct Way {
    full: (Sender<Packet>, Receiver<Packet>),
    empty: (Sender<Vec<u64>>, Receiver<Vec<u64>>),
}

/// The ways between all ranks.
#[derive(Debug)]
pub(super) struct Mail {
    world: usize,
    ways: Vec<OnceLock<Way>>,
    /// Never carries anything; it is closed when the group fails, which wakes whoever waits.
    open: Receiver<()>,
    close: Mutex<Option<Sender<()>>>,
}

/// Why no packet moved.
pub(super) enum Stuck {
    /// The group has failed.
    Closed,
    /// The two ends do not agree.
    Disagree(CollectiveError),
    /// This rank is in a call of all ranks, and waits there for the one that waits for it.
    Crossed(usize),
}

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
    pub(super) fn new(world: usize) -> Self {
        let (close, open) = bounded(0);
        let ways = (0..world * world).map(|_| OnceLock::new()).collect();
        Self { world, ways, open, close: Mutex::new(Some(close)) }
    }

    pub(super) fn close(&self) {
        self.close.lock().take();
    }

    fn way(&self, from: usize, to: usize) -> &Way {
        self.ways[from * self.world + to].get_or_init(|| Way { full: bounded(QUEUE), empty: bounded(QUEUE) })
    }

    /// Sends one message and receives another at the same time, so that ranks in a circle do not wait for each
    /// other; either may be absent. Returns once both have gone through.
    ///
    /// `has_gone_on` says whether a rank has begun a call of all ranks, which it will not leave before this rank makes it too.
    pub(super) fn exchange(
        &self,
        me: usize,
        mut outgoing: Option<Outgoing<'_>>,
        mut incoming: Option<Incoming<'_>>,
        has_gone_on: impl Fn(usize) -> bool,
    ) -> Result<(), Stuck> {
        let mut filled = None;
        let mut crossed = None;
        loop {
            if filled.is_none()
                && let Some(message) = &mut outgoing
            {
                filled = Some(self.fill(me, message));
            }
            let mut moved = false;
            if let (Some(packet), Some(message)) = (filled.take(), &outgoing) {
                match self.way(me, message.to).full.0.try_send(packet) {
                    Ok(()) => {
                        moved = true;
                        outgoing = outgoing.filter(|message| !message.bytes.is_empty());
                    }
                    // This end holds the other end of the queue, too.
                    Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) => {
                        filled = Some(packet);
                    }
                }
            }
            if let Some(message) = &mut incoming {
                match self.way(message.from, me).full.1.try_recv() {
                    Ok(packet) => {
                        moved = true;
                        self.unpack(me, message, packet)?;
                        incoming = incoming.filter(|message| !message.bytes.is_empty());
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
                }
            }
            match (&outgoing, &incoming) {
                (None, None) => return Ok(()),
                _ if moved => crossed = None,
                // What was sent before the group failed has been received by now.
                _ if self.open.try_recv() == Err(TryRecvError::Disconnected) => return Err(Stuck::Closed),
                (outgoing, incoming) => {
                    if let Some(other) = crossed {
                        return Err(Stuck::Crossed(other));
                    }
                    if !self.wait(me, outgoing.as_ref(), incoming.as_ref()) {
                        // What it had sent before it went on is there now, so we look for that once more.
                        let partners = [outgoing.as_ref().map(|o| o.to), incoming.as_ref().map(|i| i.from)];
                        crossed = partners.into_iter().flatten().find(|&rank| has_gone_on(rank));
                    }
                }
            }
        }
    }

    /// Waits until a packet can move or the group has failed; `false` if that has not come for a while.
    fn wait(&self, me: usize, outgoing: Option<&Outgoing<'_>>, incoming: Option<&Incoming<'_>>) -> bool {
        let mut select = Select::new();
        select.recv(&self.open);
        if let Some(message) = outgoing {
            select.send(&self.way(me, message.to).full.0);
        }
        if let Some(message) = incoming {
            select.recv(&self.way(message.from, me).full.1);
        }
        select.ready_timeout(LOOK).is_ok()
    }

    /// The next packet of a message; an empty message is one empty packet.
    fn fill(&self, me: usize, message: &mut Outgoing<'_>) -> Packet {
        let (now, rest) = message.bytes.split_at(message.bytes.len().min(PACKET_BYTES));
        message.bytes = rest;
        let mut words = self.way(me, message.to).empty.1.try_recv().unwrap_or_default();
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
        // Where enough empty ones wait already, this one is freed.
        let _ = self.way(message.from, me).empty.0.try_send(packet.words);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn header() -> Header {
        Header { dtype: DType::U8, len: 3 }
    }

    fn receive(mail: &Mail, has_gone_on: impl Fn(usize) -> bool) -> Result<[u8; 3], Stuck> {
        let mut into = [0; 3];
        let incoming = Incoming { from: 1, header: header(), bytes: &mut into };
        mail.exchange(0, None, Some(incoming), has_gone_on)?;
        Ok(into)
    }

    #[test]
    fn what_was_sent_just_before_its_sender_went_on_arrives() {
        let mail = Mail::new(2);
        let asked = Cell::new(0);
        let received = receive(&mail, |rank| {
            asked.set(asked.get() + 1);
            let outgoing = Outgoing { to: 0, header: header(), bytes: &[1, 2, 3] };
            assert!(mail.exchange(rank, Some(outgoing), None, |_| false).is_ok());
            true
        });
        assert!(matches!(received, Ok([1, 2, 3])));
        assert_eq!(asked.get(), 1);
        assert!(matches!(receive(&mail, |_| true), Err(Stuck::Crossed(1))));
    }
}
