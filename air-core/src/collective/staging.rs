//! [`Staging`]: the memory through which the ranks of a group pass values to each other.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::call::Call;
use super::error::CollectiveError;

/// The bytes of one rank's buffer that are under way in one step. Larger buffers go through in blocks of about this
/// size, small enough for the blocks of a few ranks to stay in a core's cache.
pub(super) const BLOCK_BYTES: usize = 128 << 10;

/// How many steps a rank may be ahead of the others before it waits for them.
///
/// What was written in one step is read this many steps later, so in a steady flow nobody waits for a rank that is
/// a little slower in this step and faster in the next.
pub(super) const LAG: u64 = 2;

/// Slots a rank: what was written in step *t* is read up to step *t* + `LAG`, by ranks that may be `LAG` steps behind.
const SLOTS: u64 = 2 * LAG;

/// What one rank shows the others for one step.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) call: Call,
    /// Values of the rank's own. Words, so that they are aligned for every element type.
    block: Vec<u64>,
    /// The rank's share of an earlier block, reduced over all ranks.
    share: Vec<u64>,
}

impl Slot {
    pub(super) fn block(&self) -> &[u8] {
        bytemuck::cast_slice(&self.block)
    }

    pub(super) fn share(&self) -> &[u8] {
        bytemuck::cast_slice(&self.share)
    }

    /// Room for so many bytes of the rank's own. Values of an earlier step are still in it.
    pub(super) fn block_mut(&mut self, len: usize) -> &mut [u8] {
        room(&mut self.block, len)
    }

    /// Room for so many reduced bytes.
    pub(super) fn share_mut(&mut self, len: usize) -> &mut [u8] {
        room(&mut self.share, len)
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
        let slot = |_| RwLock::new(Slot { call: Call::BARRIER, block: Vec::new(), share: Vec::new() });
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
        let words = |slot: &RwLock<Slot>| slot.read().block.capacity() + slot.read().share.capacity();
        self.slots.iter().flatten().map(words).sum::<usize>() * size_of::<u64>()
    }
}
