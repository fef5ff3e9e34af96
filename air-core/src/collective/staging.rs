//! [`Staging`]: what each rank shows the others: its call, and values that are few enough to be copied.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::call::Call;
use super::error::CollectiveError;

/// Slots a rank, used in turn: nobody passes a step before all have passed the one before it, so when a slot is written
/// again all have read it.
const SLOTS: u64 = 2;

/// What one rank shows the others for one step.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) call: Call,
    /// Words, so that they are aligned for every element type.
    words: Vec<u64>,
    len: usize,
}

impl Slot {
    pub(super) fn show(&mut self, call: Call, values: &[u8]) {
        self.call = call;
        self.len = values.len();
        room(&mut self.words, values.len()).copy_from_slice(values);
    }

    pub(super) fn values(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

/// The first `len` bytes of `words`, which grow where they are too few.
pub(super) fn room(words: &mut Vec<u64>, len: usize) -> &mut [u8] {
    let needed = len.div_ceil(size_of::<u64>());
    if words.len() < needed {
        words.resize(needed, 0);
    }
    &mut bytemuck::cast_slice_mut(words)[..len]
}

/// The slots of all ranks.
///
/// The locks are never contended, because the steps keep readers and writers apart; they are what lets the
/// compiler see that this is so.
#[derive(Debug)]
pub(super) struct Staging {
    slots: Vec<[RwLock<Slot>; SLOTS as usize]>,
}

impl Staging {
    pub(super) fn new(world: usize) -> Self {
        let slot = |_| RwLock::new(Slot { call: Call::BARRIER, words: Vec::new(), len: 0 });
        Self { slots: (0..world).map(|_| std::array::from_fn(slot)).collect() }
    }

    /// The slot of `rank` for `step`, to write: by `rank` itself, in that step.
    pub(super) fn write(&self, rank: usize, step: u64) -> RwLockWriteGuard<'_, Slot> {
        self.slots[rank][(step % SLOTS) as usize].write()
    }

    /// What `rank` wrote in `step`.
    pub(super) fn read(&self, rank: usize, step: u64) -> RwLockReadGuard<'_, Slot> {
        self.slots[rank][(step % SLOTS) as usize].read()
    }

    /// Fails if the calls announced in `step` were not all the same. All ranks see the same slots, so all come to
    /// the same verdict.
    pub(super) fn check_calls(&self, step: u64) -> Result<(), CollectiveError> {
        let expected = self.read(0, step).call;
        (1..self.slots.len()).try_for_each(|rank| expected.agrees_with(&self.read(rank, step).call, rank))
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.slots.iter().flatten().map(|slot| slot.read().words.capacity() * size_of::<u64>()).sum()
    }
}
