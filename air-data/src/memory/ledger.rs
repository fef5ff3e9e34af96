//! The books of a budget: decisions without a clock, a thread or a lock.
//!
//! Whoever makes room lets in who waits, so a grant is never promised to someone who does not come. `W` is what wakes a waiter; it is
//! user code, so it goes back to the caller, who wakes it after letting go of the lock.

use std::collections::{BTreeMap, HashMap};

use super::parcel::{Parcel, Part};

/// Items a queue holds at most; it keeps items of no weight from piling up.
const MAX_ITEMS: usize = 4096;

/// A queue's number in the books.
pub(super) type QueueId = u64;

/// Where a waiter stands: its queue's stage first, then who came first.
type Turn = (usize, u64);

/// What became of a parcel that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// It was let in, and is charged.
    In,
    Pending,
    /// The queue's consumer went away.
    Closed,
}

#[derive(Debug)]
pub(super) struct Ledger<W> {
    limit: usize,
    held: HashMap<usize, Held>,
    /// Bytes of allocations that only queues hold.
    queued: usize,
    /// Bytes of allocations that are kept, whether they are queued too or not.
    kept: usize,
    spilling: usize,
    rigid: usize,
    spillers: usize,
    mergers: usize,
    peak: usize,
    queues: HashMap<QueueId, Queue>,
    next: u64,
    waiting: BTreeMap<Turn, Waiting<W>>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    queued: usize,
    kept: usize,
}

#[derive(Debug)]
struct Queue {
    stage: usize,
    limit: usize,
    items: usize,
    bytes: usize,
    closed: bool,
    /// Of the one parcel that may wait for this queue.
    pending: Pending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    Waits(Turn),
    Granted,
}

#[derive(Debug)]
struct Waiting<W> {
    queue: QueueId,
    parcel: Parcel,
    waker: W,
}

impl<W> Ledger<W> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            held: HashMap::new(),
            queued: 0,
            kept: 0,
            spilling: 0,
            rigid: 0,
            spillers: 0,
            mergers: 0,
            peak: 0,
            queues: HashMap::new(),
            next: 0,
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Bytes that operators have reserved.
    pub(super) fn reserved(&self) -> usize {
        self.spilling + self.rigid
    }

    pub(super) fn in_use(&self) -> usize {
        self.queued + self.kept + self.reserved()
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// What operators and kept batches may have together.
    pub(super) fn working_limit(&self) -> usize {
        self.limit / 4 * 3 + self.limit % 4
    }

    /// A queue; `stage` is its distance from the consumer, `limit` what may wait in it.
    pub(super) fn open(&mut self, stage: usize, limit: usize) -> QueueId {
        let id = self.number();
        let pending = Pending::Nothing;
        let queue = Queue { stage, limit: limit.max(1), items: 0, bytes: 0, closed: false, pending };
        self.queues.insert(id, queue);
        id
    }

    /// Items and bytes in a queue.
    pub(super) fn queue(&self, queue: QueueId) -> (usize, usize) {
        self.queues.get(&queue).map_or((0, 0), |queue| (queue.items, queue.bytes))
    }

    /// Lets a parcel in if it fits and overtakes nobody.
    pub(super) fn enter(&mut self, id: QueueId, parcel: &Parcel) -> Waited {
        let Some(queue) = self.queues.get(&id) else { return Waited::Closed };
        if queue.closed {
            return Waited::Closed;
        }
        let overtakes = || {
            let before = self.waiting.range(..=(queue.stage, u64::MAX));
            before.into_iter().any(|(_, waiting)| self.has_place(waiting.queue, &waiting.parcel))
        };
        let fits =
            queue.items == 0 || (self.has_place(id, parcel) && self.has_budget(parcel) && !overtakes());
        if !fits {
            return Waited::Pending;
        }
        self.charge(id, parcel);
        Waited::In
    }

    /// Lines a parcel up that `enter` had no room for.
    pub(super) fn wait(&mut self, id: QueueId, parcel: Parcel, waker: W) {
        let ticket = self.number();
        let Some(queue) = self.queues.get_mut(&id) else { return };
        debug_assert_eq!(queue.pending, Pending::Nothing, "a queue has one producer");
        let turn = (queue.stage, ticket);
        queue.pending = Pending::Waits(turn);
        self.waiting.insert(turn, Waiting { queue: id, parcel, waker });
    }

    /// What became of the parcel that waits for this queue; while it waits, `waker` is exchanged for the one it gave.
    pub(super) fn check(&mut self, id: QueueId, waker: &mut W) -> Waited {
        let Some(queue) = self.queues.get_mut(&id) else { return Waited::Closed };
        match queue.pending {
            Pending::Granted => {
                queue.pending = Pending::Nothing;
                Waited::In
            }
            Pending::Waits(turn) => {
                if let Some(waiting) = self.waiting.get_mut(&turn) {
                    std::mem::swap(&mut waiting.waker, waker);
                }
                Waited::Pending
            }
            Pending::Nothing => Waited::Closed,
        }
    }

    /// The producer gives up. Whether its parcel had been charged, which is then for the caller to release.
    pub(super) fn withdraw(&mut self, id: QueueId, wakes: &mut Vec<W>) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        match std::mem::replace(&mut queue.pending, Pending::Nothing) {
            Pending::Granted => true,
            Pending::Nothing => false,
            Pending::Waits(turn) => {
                // Its waker goes back too: dropping one may run anything.
                wakes.extend(self.waiting.remove(&turn).map(|waiting| waiting.waker));
                self.admit(wakes);
                false
            }
        }
    }

    /// Charges a parcel that is there already, whatever the limits say.
    pub(super) fn force(&mut self, id: QueueId, parcel: &Parcel) {
        self.charge(id, parcel);
    }

    /// A parcel has left its queue.
    pub(super) fn leave(&mut self, id: QueueId, parcel: &Parcel, wakes: &mut Vec<W>) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.items -= 1;
            queue.bytes -= parcel.weight;
        }
        for part in parcel.parts.iter() {
            self.let_go(part.address, |held| held.queued -= 1);
        }
        self.admit(wakes);
    }

    /// The consumer has gone: whoever waits to enter is told.
    pub(super) fn close(&mut self, id: QueueId, wakes: &mut Vec<W>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.closed = true;
        if let Pending::Waits(turn) = queue.pending {
            queue.pending = Pending::Nothing;
            wakes.extend(self.waiting.remove(&turn).map(|waiting| waiting.waker));
            self.admit(wakes);
        }
    }

    /// Both ends have gone, and what was inside.
    pub(super) fn remove(&mut self, id: QueueId, wakes: &mut Vec<W>) {
        self.withdraw(id, wakes);
        self.queues.remove(&id);
    }

    /// Keeps allocations, if there is room for those that are new: in half of the working share, the other half being the operators'.
    pub(super) fn keep(&mut self, parts: &[Part]) -> bool {
        let new: usize = parts.iter().filter(|part| !self.is_kept(part.address)).map(|part| part.bytes).sum();
        let working = self.working_limit();
        if self.kept + new > working / 2 || self.kept + self.reserved() + new > working {
            return false;
        }
        for part in parts {
            let held =
                self.held.entry(part.address).or_insert(Held { bytes: part.bytes, queued: 0, kept: 0 });
            if held.kept == 0 {
                self.kept += held.bytes;
                self.queued -= if held.queued > 0 { held.bytes } else { 0 };
            }
            held.kept += 1;
        }
        self.note_peak();
        true
    }

    /// Allocations that somebody else holds anyway: queueing them takes no memory.
    pub(super) fn lend(&mut self, parts: &[Part]) {
        for part in parts {
            let held = self.held.entry(part.address).or_insert(Held { bytes: 0, queued: 0, kept: 0 });
            if held.kept == 0 {
                self.kept += held.bytes;
                self.queued -= if held.queued > 0 { held.bytes } else { 0 };
            }
            held.kept += 1;
        }
    }

    /// The end of [`keep`](Self::keep) or [`lend`](Self::lend).
    pub(super) fn unkeep(&mut self, parts: &[Part], wakes: &mut Vec<W>) {
        for part in parts {
            self.let_go(part.address, |held| held.kept -= 1);
        }
        self.admit(wakes);
    }

    pub(super) fn spillers(&mut self, more: isize) {
        self.spillers = self.spillers.saturating_add_signed(more);
    }

    /// What an operator that can spill and `holds` so much may still reserve. They have half of what is not kept, and that in even
    /// shares: a sort that spills merges what it holds first, and needs as much again for that, which it cannot spill.
    pub(super) fn spiller_room(&self, holds: usize) -> usize {
        let share = self.working_limit().saturating_sub(self.kept) / 2 / self.spillers.max(1);
        share.saturating_sub(holds).min(self.rigid_room())
    }

    pub(super) fn mergers(&mut self, more: isize) {
        self.mergers = self.mergers.saturating_add_signed(more);
    }

    /// What the merge of a sort that `holds` so much may still reserve. It cannot spill, and takes what there is, to merge many runs at once; with
    /// fewer it goes over them again. So merges share the half that the sorts have not got, or the first would leave nothing for the others.
    pub(super) fn merger_room(&self, holds: usize) -> usize {
        let share = self.working_limit().saturating_sub(self.kept) / 2 / self.mergers.max(1);
        share.saturating_sub(holds).min(self.rigid_room())
    }

    /// What an operator that cannot spill may still reserve.
    pub(super) fn rigid_room(&self) -> usize {
        self.working_limit().saturating_sub(self.kept + self.reserved())
    }

    pub(super) fn reserve(&mut self, bytes: usize, spills: bool) {
        *if spills { &mut self.spilling } else { &mut self.rigid } += bytes;
        self.note_peak();
    }

    pub(super) fn unreserve(&mut self, bytes: usize, spills: bool, wakes: &mut Vec<W>) {
        let reserved = if spills { &mut self.spilling } else { &mut self.rigid };
        *reserved = reserved.saturating_sub(bytes);
        self.admit(wakes);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_kept(&self, address: usize) -> bool {
        self.held.get(&address).is_some_and(|held| held.kept > 0)
    }

    /// Whether the queue's own limits allow it.
    fn has_place(&self, id: QueueId, parcel: &Parcel) -> bool {
        self.queues.get(&id).is_none_or(|queue| {
            queue.items == 0
                || (queue.items < MAX_ITEMS && queue.bytes.saturating_add(parcel.weight) <= queue.limit)
        })
    }

    fn has_budget(&self, parcel: &Parcel) -> bool {
        let is_new = |part: &&Part| !self.held.contains_key(&part.address);
        let new: usize = parcel.parts.iter().filter(is_new).map(|part| part.bytes).sum();
        new == 0 || (self.queued + new <= self.limit / 2 && self.in_use() + new <= self.limit)
    }

    fn charge(&mut self, id: QueueId, parcel: &Parcel) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.items += 1;
            queue.bytes += parcel.weight;
        }
        for part in parcel.parts.iter() {
            let held =
                self.held.entry(part.address).or_insert(Held { bytes: part.bytes, queued: 0, kept: 0 });
            if held.queued == 0 && held.kept == 0 {
                self.queued += held.bytes;
            }
            held.queued += 1;
        }
        self.note_peak();
    }

    fn let_go(&mut self, address: usize, less: impl FnOnce(&mut Held)) {
        let Some(held) = self.held.get_mut(&address) else { return };
        let was_kept = held.kept > 0;
        less(held);
        let (bytes, is_kept, is_queued) = (held.bytes, held.kept > 0, held.queued > 0);
        match (was_kept, is_kept) {
            (true, false) => {
                self.kept -= bytes;
                self.queued += if is_queued { bytes } else { 0 };
            }
            (false, false) if !is_queued => self.queued -= bytes,
            _ => {}
        }
        if !is_kept && !is_queued {
            self.held.remove(&address);
        }
    }

    /// Lets in who fits now, the one nearest to the consumer first.
    fn admit(&mut self, wakes: &mut Vec<W>) {
        let mut used_up = false;
        let mut granted = Vec::new();
        for turn in self.waiting.keys().copied().collect::<Vec<_>>() {
            let Some(waiting) = self.waiting.get(&turn) else { continue };
            let (id, parcel) = (waiting.queue, waiting.parcel.clone());
            let is_empty = self.queues.get(&id).is_none_or(|queue| queue.items == 0);
            if !is_empty && !self.has_place(id, &parcel) {
                continue;
            }
            if !is_empty && (used_up || !self.has_budget(&parcel)) {
                used_up = true;
                continue;
            }
            self.charge(id, &parcel);
            granted.push((turn, id));
        }
        for (turn, id) in granted {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.pending = Pending::Granted;
            }
            wakes.extend(self.waiting.remove(&turn).map(|waiting| waiting.waker));
        }
    }

    fn note_peak(&mut self) {
        self.peak = self.peak.max(self.in_use());
    }
}
