//! [`Staging`]: the memory through which the ranks of a group pass values to each other.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::CollectiveError;
use super::number::{Number, ReduceOp};

/// The bytes of one rank's buffer that are under way in one step. Larger buffers go through in blocks of this
/// size, small enough for the blocks of a few ranks to stay in a core's cache.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// What a rank called; the same on all ranks, or the group is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Barrier,
    AllReduce { op: ReduceOp, len: usize, element: &'static str },
    AllGather { len: usize, element: &'static str },
    Broadcast { root: usize, len: usize, element: &'static str },
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barrier => write!(f, "barrier"),
            Self::AllReduce { op, len, element } => write!(f, "all_reduce({op:?}) of {len} {element}"),
            Self::AllGather { len, element } => write!(f, "all_gather of {len} {element}"),
            Self::Broadcast { root, len, element } => {
                write!(f, "broadcast from rank {root} of {len} {element}")
            }
        }
    }
}

/// What one rank shows the others for one step.
#[derive(Debug)]
pub(super) struct Slot {
    call: Call,
    /// A block of the rank's own values. Words, so that it is aligned for every [`Number`].
    block: Vec<u64>,
    /// The rank's share of an earlier block, reduced over all ranks.
    share: Vec<u64>,
}

impl Slot {
    pub(super) fn announce(&mut self, call: Call) {
        self.call = call;
    }

    pub(super) fn block<T: Number>(&self) -> &[T] {
        bytemuck::cast_slice(&self.block)
    }

    pub(super) fn share<T: Number>(&self) -> &[T] {
        bytemuck::cast_slice(&self.share)
    }

    /// Room for `len` values of the rank's own. Values of an earlier step are still in it.
    pub(super) fn block_mut<T: Number>(&mut self, len: usize) -> &mut [T] {
        room(&mut self.block, len)
    }

    /// Room for `len` reduced values.
    pub(super) fn share_mut<T: Number>(&mut self, len: usize) -> &mut [T] {
        room(&mut self.share, len)
    }
}

fn room<T: Number>(words: &mut Vec<u64>, len: usize) -> &mut [T] {
    let needed = (len * size_of::<T>()).div_ceil(size_of::<u64>());
    if words.len() < needed {
        words.resize(needed, 0);
    }
    &mut bytemuck::cast_slice_mut(words)[..len]
}

/// Two slots a rank.
///
/// The locks are never contended, because the steps keep readers and writers apart; they are what lets the
/// compiler see that this is so.
#[derive(Debug)]
pub(super) struct Staging {
    slots: Vec<[RwLock<Slot>; 2]>,
}

impl Staging {
    pub(super) fn new(world: usize) -> Self {
        let slot = || RwLock::new(Slot { call: Call::Barrier, block: Vec::new(), share: Vec::new() });
        Self { slots: (0..world).map(|_| [slot(), slot()]).collect() }
    }

    /// The slot that `rank` may write in `step`.
    pub(super) fn write(&self, rank: usize, step: u64) -> RwLockWriteGuard<'_, Slot> {
        self.slots[rank][(step % 2) as usize].write()
    }

    /// What `rank` wrote in the step before `step`.
    pub(super) fn read(&self, rank: usize, step: u64) -> RwLockReadGuard<'_, Slot> {
        self.slots[rank][((step + 1) % 2) as usize].read()
    }

    /// What all ranks wrote in the step before `step`, in order.
    pub(super) fn read_all(&self, step: u64) -> Vec<RwLockReadGuard<'_, Slot>> {
        (0..self.slots.len()).map(|rank| self.read(rank, step)).collect()
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let words = |slot: &RwLock<Slot>| slot.read().block.capacity() + slot.read().share.capacity();
        self.slots.iter().flatten().map(words).sum::<usize>() * size_of::<u64>()
    }

    /// Fails if the calls announced in the step before `step` were not all the same. All ranks see the same slots,
    /// so all come to the same verdict.
    pub(super) fn check_calls(&self, step: u64) -> Result<(), CollectiveError> {
        let expected = self.read(0, step).call;
        for rank in 1..self.slots.len() {
            let found = self.read(rank, step).call;
            if found != expected {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(CollectiveError::Mismatch { rank, expected, found });
            }
        }
        Ok(())
    }
}
