//! What is in use, what is kept, and which of it serves next: decided and counted without touching memory.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Block;
use crate::device::uses::{Fence, StreamId, Uses};

/// The least that is asked of a driver, and the alignment it gives.
const LEAST_BYTES: usize = 512;
/// So many of a size are looked at for one that is done.
const LOOK_AT: usize = 8;

/// What asking for memory comes to.
pub(super) enum Answer<F> {
    /// This serves, after the uses that go on.
    Reuse(Block, Uses<F>),
    /// Nothing kept serves; so much may be asked of the source, whose answer is to be told.
    Allocate,
    /// That would be more than the limit.
    Full,
}

/// The memory of a device that this process has, in bytes as rounded for its allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Held by tensors.
    pub in_use_bytes: u64,
    /// Kept for the next of their size.
    pub cached_bytes: u64,
    /// The most that were held by tensors at once.
    pub peak_bytes: u64,
    /// What both together may be; absent where only the device limits them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// How often the driver was asked for memory.
    pub allocations: u64,
    /// How often it need not be, because memory that was kept served.
    pub reuses: u64,
}

/// What an allocation of `bytes` takes: an eighth of a power of two more at most, so that sizes that differ little share memory.
pub(super) fn rounded(bytes: usize) -> usize {
    if bytes <= LEAST_BYTES {
        return LEAST_BYTES;
    }
    // The power of two at or below `bytes - 1`, in eight steps, none of them below the least.
    let step = (1_usize << (usize::BITS - 1 - (bytes - 1).leading_zeros())) / 8;
    bytes.checked_next_multiple_of(step.max(LEAST_BYTES)).unwrap_or(bytes)
}

pub(super) struct Books<F> {
    /// By size; of a size, the one that was let go of last at the back.
    kept: BTreeMap<usize, VecDeque<(Block, Uses<F>)>>,
    /// Asked of the source, which has not answered yet.
    pending_bytes: u64,
    now: MemoryUse,
}

impl<F: Fence> Books<F> {
    pub(super) fn new(limit_bytes: Option<u64>) -> Self {
        let now = MemoryUse { limit_bytes, ..MemoryUse::default() };
        Self { kept: BTreeMap::new(), pending_bytes: 0, now }
    }

    /// Asks for memory of a rounded size for a stream, or for the host, which can use it only when nobody else does.
    pub(super) fn ask(&mut self, bytes: usize, stream: Option<StreamId>) -> Answer<F> {
        if let Some((block, uses)) = self.reuse(bytes, stream) {
            return Answer::Reuse(block, uses);
        }
        let fits = |limit: u64| self.total().checked_add(bytes as u64).is_some_and(|then| then <= limit);
        if !self.now.limit_bytes.is_none_or(fits) {
            return Answer::Full;
        }
        self.ask_beyond_limit(bytes)
    }

    /// Asks for new memory whatever the limit.
    pub(super) fn ask_beyond_limit(&mut self, bytes: usize) -> Answer<F> {
        self.pending_bytes += bytes as u64;
        Answer::Allocate
    }

    /// The source has answered: whether it gave what it was asked for.
    pub(super) fn allocated(&mut self, bytes: usize, given: bool) {
        self.pending_bytes -= bytes as u64;
        if given {
            self.now.allocations += 1;
            self.begin(bytes);
        }
    }

    /// The one of this size that was let go of first, whether it is done or not.
    pub(super) fn oldest(&mut self, bytes: usize) -> Option<(Block, Uses<F>)> {
        self.unkeep(bytes, 0)
    }

    /// Keeps what is no longer held; what comes back is not to be kept.
    #[must_use]
    pub(super) fn put(&mut self, block: Block, uses: Uses<F>) -> Vec<(Block, Uses<F>)> {
        self.now.in_use_bytes -= block.bytes as u64;
        self.now.cached_bytes += block.bytes as u64;
        self.kept.entry(block.bytes).or_default().push_back((block, uses));
        self.beyond_limit()
    }

    /// Keeps nothing any more.
    #[must_use]
    pub(super) fn empty(&mut self) -> Vec<(Block, Uses<F>)> {
        self.now.cached_bytes = 0;
        std::mem::take(&mut self.kept).into_values().flatten().collect()
    }

    /// Sets the limit; what comes back is not to be kept.
    #[must_use]
    pub(super) fn limit(&mut self, limit_bytes: Option<u64>) -> Vec<(Block, Uses<F>)> {
        self.now.limit_bytes = limit_bytes;
        self.beyond_limit()
    }

    pub(super) fn now(&self) -> MemoryUse {
        self.now
    }

    fn reuse(&mut self, bytes: usize, stream: Option<StreamId>) -> Option<(Block, Uses<F>)> {
        let kept = self.kept.get(&bytes)?;
        // What the stream itself used last needs no asking, and is warm. Else what was let go of longest ago is done first.
        let own = kept.iter().rev().take(LOOK_AT).position(|(_, uses)| uses.all_by(stream));
        let place = match own {
            Some(from_the_back) => kept.len() - 1 - from_the_back,
            None => kept.iter().take(LOOK_AT).position(|(_, uses)| uses.free_for(stream))?,
        };
        self.unkeep(bytes, place)
    }

    /// Takes one that is kept into use.
    fn unkeep(&mut self, bytes: usize, place: usize) -> Option<(Block, Uses<F>)> {
        let kept = self.kept.get_mut(&bytes)?;
        let found = kept.remove(place)?;
        if kept.is_empty() {
            self.kept.remove(&bytes);
        }
        self.now.cached_bytes -= bytes as u64;
        self.now.reuses += 1;
        self.begin(bytes);
        Some(found)
    }

    fn total(&self) -> u64 {
        self.now.in_use_bytes + self.now.cached_bytes + self.pending_bytes
    }

    fn begin(&mut self, bytes: usize) {
        self.now.in_use_bytes += bytes as u64;
        self.now.peak_bytes = self.now.peak_bytes.max(self.now.in_use_bytes);
    }

    /// Stops keeping what is too much, the largest first. What work goes on with stays: nobody is to wait for it here.
    fn beyond_limit(&mut self) -> Vec<(Block, Uses<F>)> {
        let Some(limit) = self.now.limit_bytes else { return Vec::new() };
        let mut over = self.total().saturating_sub(limit);
        let mut gone = Vec::new();
        for (&bytes, kept) in self.kept.iter_mut().rev() {
            while over > 0
                && let Some((block, uses)) = kept.pop_front_if(|(_, uses)| uses.free_for(None))
            {
                over = over.saturating_sub(bytes as u64);
                self.now.cached_bytes -= bytes as u64;
                gone.push((block, uses));
            }
        }
        self.kept.retain(|_, kept| !kept.is_empty());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_by_an_eighth_at_most() {
        assert_eq!([0, 1, 512, 513, 4096, 4097].map(rounded), [512, 512, 512, 1024, 4096, 4608]);
        assert_eq!(rounded(64 << 20), 64 << 20);
        assert_eq!(rounded((64 << 20) + 1), 72 << 20);
        let mut bytes = 1_usize;
        while bytes < isize::MAX as usize {
            for asked in [bytes - 1, bytes, bytes + 1] {
                let rounded = rounded(asked);
                assert!(rounded >= asked && rounded.is_multiple_of(LEAST_BYTES), "{asked}: {rounded}");
                assert!(rounded - asked <= LEAST_BYTES.max(asked / 8 + 1), "{asked}: {rounded}");
                assert_eq!(super::rounded(rounded), rounded, "{asked}");
            }
            bytes *= 2;
        }
        assert!(rounded(isize::MAX as usize) >= isize::MAX as usize);
    }
}
