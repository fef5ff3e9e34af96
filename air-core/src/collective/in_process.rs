//! Ranks that are threads of one process.

use std::ops::Range;
use std::sync::Arc;

use super::barrier::Barrier;
use super::error::CollectiveError;
use super::number::{Number, ReduceOp};
use super::staging::{BLOCK_BYTES, Call, Staging};

/// Up to this many bytes over all ranks together, every rank reduces everything for itself: reading it all costs
/// less than meeting a second time.
const WHOLE_BYTES: usize = 128 << 10;

/// How often a rank looks before it parks, where every rank can have a core: some ten microseconds.
const SPINS: u32 = 1000;

/// The values reduced at a time: few enough for the intermediate result to stay in the nearest cache.
const STRIP: usize = 2048;

/// Makes a group of `world` ranks that share memory; the handles are in the order of their ranks, one for each
/// thread.
pub fn in_process(world: usize) -> Vec<Collective> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spins = if world <= cores { SPINS } else { 0 };
    let group = Arc::new(Group { barrier: Barrier::new(world, spins), staging: Staging::new(world) });
    (0..world).map(|rank| Collective { rank, world, step: 0, group: Arc::clone(&group) }).collect()
}

#[derive(Debug)]
struct Group {
    barrier: Barrier<CollectiveError>,
    staging: Staging,
}

/// One rank's handle on its group. All ranks must make the same calls in the same order.
///
/// Dropping a handle leaves the group: for the other ranks this rank is lost.
#[derive(Debug)]
pub struct Collective {
    rank: usize,
    world: usize,
    /// How many times this rank has met the others; the same on all ranks between calls.
    step: u64,
    group: Arc<Group>,
}

/// Ends a group from outside, for whoever watches over its ranks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Aborter {
    group: Arc<Group>,
}

impl Aborter {
    /// Declares `rank` lost: every pending and later call of the group returns [`CollectiveError::Lost`]. The first
    /// reason given for a group stays; returns whether it was this one.
    pub fn abort(&self, rank: usize, reason: impl Into<String>) -> bool {
        self.group.barrier.fail(CollectiveError::Lost { rank, reason: reason.into() })
    }
}

impl Collective {
    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn world(&self) -> usize {
        self.world
    }

    /// Leaves the group with a reason; see [`CollectiveError::Lost`].
    pub fn abort(&self, reason: impl Into<String>) {
        self.aborter().abort(self.rank, reason);
    }

    /// A handle that can end the group from another thread.
    pub fn aborter(&self) -> Aborter {
        Aborter { group: Arc::clone(&self.group) }
    }

    /// Why the group is finished, if it is.
    pub fn failure(&self) -> Option<CollectiveError> {
        self.group.barrier.cause()
    }

    /// Waits for all ranks.
    pub fn barrier(&mut self) -> Result<(), CollectiveError> {
        self.announce(Call::Barrier);
        self.meet_first()
    }

    /// Combines the buffers of all ranks, element by element, and leaves the result in each of them. All buffers
    /// have the same length.
    pub fn all_reduce<T: Number>(&mut self, data: &mut [T], op: ReduceOp) -> Result<(), CollectiveError> {
        self.announce(Call::AllReduce { op, len: data.len(), element: T::NAME });
        if self.world == 1 {
            // Every operation over one rank leaves the values as they are.
            return self.meet_first();
        }
        if size_of_val(data).saturating_mul(self.world) <= WHOLE_BYTES {
            self.reduce_whole(data, op)
        } else {
            self.reduce_in_blocks(data, op)
        }
    }

    /// Copies the buffer of rank `root` into those of all other ranks. All buffers have the same length.
    pub fn broadcast<T: Number>(&mut self, data: &mut [T], root: usize) -> Result<(), CollectiveError> {
        if root >= self.world {
            self.abort(format!("it called broadcast from rank {root} in a group of {}", self.world));
        }
        self.announce(Call::Broadcast { root, len: data.len(), element: T::NAME });
        let blocks = Blocks::of::<T>(data.len());
        for k in 0..=blocks.count() {
            if self.rank == root && k < blocks.count() {
                self.stage(&data[blocks.range(k)]);
            }
            if self.rank != root && k > 0 {
                let block = &mut data[blocks.range(k - 1)];
                let from = self.group.staging.read(root, self.step);
                block.copy_from_slice(&from.block()[..block.len()]);
            }
            self.meet_unless_last(k, blocks.count())?;
        }
        Ok(())
    }

    /// Collects the buffers of all ranks, which have the same length, in the order of the ranks.
    pub fn all_gather<T: Number>(&mut self, data: &[T]) -> Result<Vec<T>, CollectiveError> {
        self.announce(Call::AllGather { len: data.len(), element: T::NAME });
        let mut gathered = Vec::new();
        let blocks = Blocks::of::<T>(data.len());
        for k in 0..=blocks.count() {
            if k < blocks.count() {
                self.stage(&data[blocks.range(k)]);
            }
            if k > 0 {
                // Only now is it certain that the ranks agree on the length.
                gathered.resize(data.len() * self.world, T::zeroed());
                let range = blocks.range(k - 1);
                for (into, from) in
                    gathered.chunks_exact_mut(data.len().max(1)).zip(self.group.staging.read_all(self.step))
                {
                    into[range.clone()].copy_from_slice(&from.block()[..range.len()]);
                }
            }
            self.meet_unless_last(k, blocks.count())?;
        }
        Ok(gathered)
    }

    /// One meeting: every rank stages everything and reduces everything.
    fn reduce_whole<T: Number>(&mut self, data: &mut [T], op: ReduceOp) -> Result<(), CollectiveError> {
        self.stage(data);
        self.meet_first()?;
        let ranks = self.group.staging.read_all(self.step);
        for start in (0..data.len()).step_by(STRIP) {
            let strip = start..data.len().min(start + STRIP);
            data[strip.clone()].copy_from_slice(&ranks[0].block()[strip.clone()]);
            for rank in &ranks[1..] {
                T::fold(op, &mut data[strip.clone()], &rank.block()[strip.clone()]);
            }
        }
        T::finish(op, data, self.world);
        Ok(())
    }

    /// The pipeline: stage block `k`, reduce the own share of block `k - 1`, collect block `k - 2`; then meet.
    fn reduce_in_blocks<T: Number>(&mut self, data: &mut [T], op: ReduceOp) -> Result<(), CollectiveError> {
        let blocks = Blocks::of::<T>(data.len());
        let last = blocks.count() + 1;
        for k in 0..=last {
            if k < blocks.count() {
                self.stage_for_others(&data[blocks.range(k)]);
            }
            if (1..=blocks.count()).contains(&k) {
                self.reduce_share(&mut data[blocks.range(k - 1)], op);
            }
            if k > 1 {
                self.collect_shares(&mut data[blocks.range(k - 2)]);
            }
            self.meet_unless_last(k, last)?;
        }
        Ok(())
    }

    /// Reduces this rank's share of the block all ranks staged last: in place, and for the others to see.
    fn reduce_share<T: Number>(&self, block: &mut [T], op: ReduceOp) {
        let share = share(block.len(), self.rank, self.world);
        let ranks: Vec<_> = (0..self.world)
            .map(|rank| (rank != self.rank).then(|| self.group.staging.read(rank, self.step)))
            .collect();
        let mut slot = self.group.staging.write(self.rank, self.step);
        let result = slot.share_mut::<T>(share.len());
        for start in (0..share.len()).step_by(STRIP) {
            let strip = start..share.len().min(start + STRIP);
            let at = share.start + strip.start..share.start + strip.end;
            let result = &mut result[strip];
            for (rank, staged) in ranks.iter().enumerate() {
                let values = match staged {
                    Some(slot) => &slot.block()[at.clone()],
                    None => &block[at.clone()],
                };
                if rank == 0 { result.copy_from_slice(values) } else { T::fold(op, result, values) }
            }
            T::finish(op, result, self.world);
            block[at].copy_from_slice(result);
        }
    }

    /// Copies the shares the other ranks reduced last.
    fn collect_shares<T: Number>(&self, block: &mut [T]) {
        for rank in (0..self.world).filter(|rank| *rank != self.rank) {
            let share = share(block.len(), rank, self.world);
            let from = self.group.staging.read(rank, self.step);
            block[share.clone()].copy_from_slice(&from.share()[..share.len()]);
        }
    }

    fn announce(&self, call: Call) {
        self.group.staging.write(self.rank, self.step).announce(call);
    }

    fn stage<T: Number>(&self, values: &[T]) {
        let mut slot = self.group.staging.write(self.rank, self.step);
        slot.block_mut(values.len()).copy_from_slice(values);
    }

    /// Stages a block except this rank's own share of it, which nobody else reads.
    fn stage_for_others<T: Number>(&self, values: &[T]) {
        let own = share(values.len(), self.rank, self.world);
        let mut slot = self.group.staging.write(self.rank, self.step);
        let staged = slot.block_mut(values.len());
        staged[..own.start].copy_from_slice(&values[..own.start]);
        staged[own.end..].copy_from_slice(&values[own.end..]);
    }

    /// The first meeting of a call also finds out whether all ranks made the same call.
    fn meet_first(&mut self) -> Result<(), CollectiveError> {
        self.meet()?;
        self.group.staging.check_calls(self.step).inspect_err(|error| {
            self.group.barrier.fail(error.clone());
        })
    }

    fn meet_unless_last(&mut self, k: usize, last: usize) -> Result<(), CollectiveError> {
        match k {
            0 => self.meet_first(),
            k if k < last => self.meet(),
            _ => Ok(()),
        }
    }

    fn meet(&mut self) -> Result<(), CollectiveError> {
        self.group.barrier.wait()?;
        self.step += 1;
        Ok(())
    }
}

impl Drop for Collective {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { "its thread panicked" } else { "its handle was dropped" };
        self.abort(reason);
    }
}

/// How a buffer is cut into blocks. An empty buffer has one, empty, so that every call meets at least once.
struct Blocks {
    len: usize,
    block_len: usize,
}

impl Blocks {
    fn of<T>(len: usize) -> Self {
        Self { len, block_len: BLOCK_BYTES / size_of::<T>() }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.block_len).max(1)
    }

    fn range(&self, k: usize) -> Range<usize> {
        k * self.block_len..self.len.min((k + 1) * self.block_len)
    }
}

/// The part of a block of `len` values that `rank` reduces. The parts cover the block and differ by one at most.
fn share(len: usize, rank: usize, world: usize) -> Range<usize> {
    rank * len / world..(rank + 1) * len / world
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn shares_and_blocks_cover_a_buffer_once() {
        for len in [0, 1, 5, 1000] {
            for world in 1..7 {
                let shares: Vec<_> = (0..world).flat_map(|rank| share(len, rank, world)).collect();
                assert_eq!(shares, (0..len).collect::<Vec<_>>());
            }
        }
        let blocks = Blocks::of::<f64>(100_000);
        let ranges: Vec<_> = (0..blocks.count()).map(|k| blocks.range(k)).collect();
        assert_eq!(ranges, [0..32_768, 32_768..65_536, 65_536..98_304, 98_304..100_000]);
    }

    #[test]
    fn invariant_4_memory_does_not_grow_with_the_buffers() {
        let ranks = in_process(2);
        let group = Arc::clone(&ranks[0].group);
        std::thread::scope(|scope| {
            for mut rank in ranks {
                scope.spawn(move || {
                    let mut data = vec![1.0_f32; 4 << 20];
                    rank.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                    rank.broadcast(&mut data, 1).unwrap();
                    rank.all_gather(&data).unwrap();
                    rank.barrier().unwrap();
                });
            }
        });
        assert!(group.staging.held_bytes() <= 2 * 2 * (BLOCK_BYTES + BLOCK_BYTES / 2));
    }
}
