//! [`InProcess`]: the calls of ranks that are threads of one process.
//!
//! See the [module](super) for the steps and the pipeline.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

use super::backend::{Backend, Data, Fate};
use super::buffer::{cut, joined};
use super::call::{Call, Verb};
use super::error::CollectiveError;
use super::group::{Group, Lane};
use super::mail::{Header, Incoming, Outgoing, Stuck};
use super::number::ReduceOp;
use super::reduce::{reduce, reduce_in_place};
use super::staging::{BLOCK_BYTES, LAG, Slot, Staging};

/// Up to this many bytes over all ranks together, every rank reduces everything for itself: reading it all costs
/// less than meeting a second time.
const WHOLE_BYTES: usize = 128 << 10;

type Result<T> = std::result::Result<T, CollectiveError>;

#[derive(Debug)]
pub(super) struct InProcess {
    rank: usize,
    world: usize,
    lane: usize,
    /// The steps this rank has passed; the same on all ranks between calls.
    step: u64,
    group: Arc<Group>,
    fate: Arc<dyn Fate>,
}

/// What the ranks showed in one step.
struct Shown<'a> {
    staging: &'a Staging,
    step: u64,
}

impl Shown<'_> {
    fn by(&self, rank: usize) -> parking_lot::RwLockReadGuard<'_, Slot> {
        self.staging.read(rank, self.step)
    }
}

impl Backend for InProcess {
    fn run(&mut self, call: Call, mut data: Data<'_>) -> Result<()> {
        self.go_on()?;
        let (me, world, data) = (self.rank, self.world, &mut data);
        match call.verb {
            Verb::Barrier => self.flow(call, 1, data, |_, _, _| {}, |_, _, _| {}),
            Verb::AllReduce(op) | Verb::AllReduceOwned(op) => self.all_reduce(call, op, data.output),
            Verb::Broadcast { root } => {
                let blocks = Blocks::of(data.output.len(), 1);
                let stage = |slot: &mut Slot, data: &Data, k| {
                    if me == root {
                        let from = &data.output[blocks.range(k)];
                        slot.block_mut(from.len()).copy_from_slice(from);
                    }
                };
                let collect = |shown: &Shown, data: &mut Data, k| {
                    if me != root {
                        let into = &mut data.output[blocks.range(k)];
                        into.copy_from_slice(&shown.by(root).block()[..into.len()]);
                    }
                };
                self.flow(call, blocks.count(), data, stage, collect)
            }
            Verb::AllGather | Verb::Gather { .. } => {
                let len = data.input.len();
                let blocks = Blocks::of(len, 1);
                let wanted = !matches!(call.verb, Verb::Gather { root } if root != me);
                let stage = |slot: &mut Slot, data: &Data, k| {
                    let from = &data.input[blocks.range(k)];
                    slot.block_mut(from.len()).copy_from_slice(from);
                };
                let collect = |shown: &Shown, data: &mut Data, k| {
                    for rank in (0..world).filter(|_| wanted) {
                        let range = blocks.range(k);
                        let into = &mut data.output[rank * len..][range.clone()];
                        if rank == me {
                            into.copy_from_slice(&data.input[range]);
                        } else {
                            into.copy_from_slice(&shown.by(rank).block()[..into.len()]);
                        }
                    }
                };
                self.flow(call, blocks.count(), data, stage, collect)
            }
            Verb::Scatter { .. } | Verb::AllToAll | Verb::ReduceScatter(_) => self.spread(call, data),
        }
    }

    fn run_owned(&mut self, call: Call, data: BytesMut) -> Result<BytesMut> {
        self.go_on()?;
        let Verb::AllReduceOwned(op) = call.verb else {
            return Ok(data);
        };
        let (me, world) = (self.rank, self.world);
        for (rank, piece) in cut(data, world).into_iter().enumerate() {
            self.lane().lend(me, rank, piece);
        }
        self.meet(call)?;
        let lane = self.lane();
        let mut pieces: Vec<BytesMut> = (0..world).map(|owner| lane.take(owner, me)).collect();
        let mut values: Vec<&mut [u8]> = pieces.iter_mut().map(|piece| &mut piece[..]).collect();
        reduce_in_place(call.dtype, op, &mut values, || !lane.meeting.has_failed());
        for (owner, piece) in pieces.into_iter().enumerate() {
            lane.lend(owner, me, piece);
        }
        self.meet(call)?;
        Ok(joined((0..world).map(|rank| self.lane().take(me, rank))))
    }

    fn exchange(&mut self, out: Option<Outgoing<'_>>, into: Option<Incoming<'_>>) -> Result<()> {
        if out.is_some() {
            self.go_on()?;
        }
        let described = Exchange::of(out.as_ref(), into.as_ref());
        let lane = self.lane();
        // Between calls all ranks have passed the same steps, so one that has passed more is in a call that this rank has not made.
        let has_gone_on = |rank| lane.meeting.passed(rank) > self.step;
        match lane.mail.exchange(self.rank, out, into, has_gone_on) {
            Ok(()) => Ok(()),
            Err(Stuck::Crossed(other)) => {
                let other_call = lane.staging.read(other, self.step).call.to_string();
                self.fail(CollectiveError::Crossed {
                    rank: self.rank,
                    call: described.to_string(),
                    other,
                    other_call,
                })
            }
            Err(Stuck::Disagree(error)) => self.fail(error),
            // Closed after the cause was set.
            Err(Stuck::Closed) => self.go_on(),
        }
    }

    fn fate(&self) -> &Arc<dyn Fate> {
        &self.fate
    }
}

impl InProcess {
    pub(super) fn new(rank: usize, world: usize, lane: usize, group: &Arc<Group>) -> Self {
        let (group, fate) = (Arc::clone(group), Arc::clone(group) as Arc<dyn Fate>);
        Self { rank, world, lane, step: 0, group, fate }
    }

    /// Carries `blocks` blocks from where `stage` writes them to where `collect`, `LAG` steps later, reads them.
    ///
    /// Nothing is read before it is known that all ranks made the same call, and nobody is through before all
    /// ranks have made it.
    fn flow<'a>(
        &mut self,
        call: Call,
        blocks: usize,
        data: &mut Data<'a>,
        stage: impl Fn(&mut Slot, &Data<'a>, usize),
        collect: impl Fn(&Shown, &mut Data<'a>, usize),
    ) -> Result<()> {
        if blocks == 1 {
            self.meet_with(call, |slot| stage(slot, data, 0))?;
            collect(&self.shown(self.step - 1), data, 0);
            return Ok(());
        }
        let lag = LAG as usize;
        for k in 0..blocks + lag {
            self.keep_up()?;
            if k < blocks {
                let mut slot = self.lane().staging.write(self.rank, self.step);
                slot.call = call;
                stage(&mut slot, data, k);
            }
            if k == lag {
                self.check_calls(self.step - LAG)?;
            }
            if k >= lag {
                collect(&self.shown(self.step - LAG), data, k - lag);
            }
            self.pass();
        }
        Ok(())
    }

    /// The verbs in which every rank has a part for each rank: what a rank stages is a piece of each part.
    fn spread(&mut self, call: Call, data: &mut Data<'_>) -> Result<()> {
        let (me, world) = (self.rank, self.world);
        let blocks = Blocks::of(call.len * call.dtype.size_bytes(), world);
        let root = if let Verb::Scatter { root } = call.verb { Some(root) } else { None };
        let part = move |rank: usize, k: usize| {
            let Range { start, end } = blocks.range(k);
            rank * blocks.len + start..rank * blocks.len + end
        };
        let stage = |slot: &mut Slot, data: &Data, k| {
            if root.is_none_or(|root| root == me) {
                let len = blocks.range(k).len();
                let staged = slot.block_mut(len * world);
                for rank in (0..world).filter(|rank| *rank != me) {
                    staged[rank * len..][..len].copy_from_slice(&data.input[part(rank, k)]);
                }
            }
        };
        let collect = |shown: &Shown, data: &mut Data, k| {
            let range = blocks.range(k);
            let mine = me * range.len()..(me + 1) * range.len();
            let own = |input: &[u8], into: &mut [u8]| into.copy_from_slice(&input[part(me, k)]);
            match call.verb {
                Verb::Scatter { root } if root == me => own(data.input, &mut data.output[range]),
                Verb::Scatter { root } => {
                    data.output[range].copy_from_slice(&shown.by(root).block()[mine]);
                }
                Verb::ReduceScatter(op) => {
                    let slots: Vec<_> = (0..world).map(|rank| (rank != me).then(|| shown.by(rank))).collect();
                    let own = &data.input[part(me, k)];
                    let sources: Vec<&[u8]> = slots
                        .iter()
                        .map(|slot| slot.as_ref().map_or(own, |slot| &slot.block()[mine.clone()]))
                        .collect();
                    reduce(call.dtype, op, &sources, &mut data.output[range]);
                }
                _ => {
                    for rank in 0..world {
                        let into = &mut data.output[part(rank, k)];
                        if rank == me {
                            own(data.input, into);
                        } else {
                            into.copy_from_slice(&shown.by(rank).block()[mine.clone()]);
                        }
                    }
                }
            }
        };
        self.flow(call, blocks.count(), data, stage, collect)
    }

    fn all_reduce(&mut self, call: Call, op: ReduceOp, data: &mut [u8]) -> Result<()> {
        if self.world == 1 {
            // Every operation over one rank leaves the values as they are.
            return self.meet(call);
        }
        if data.len().saturating_mul(self.world) <= WHOLE_BYTES {
            self.reduce_whole(call, op, data)
        } else {
            self.reduce_in_blocks(call, op, data)
        }
    }

    /// One meeting: every rank stages everything and reduces everything.
    fn reduce_whole(&mut self, call: Call, op: ReduceOp, data: &mut [u8]) -> Result<()> {
        self.meet_with(call, |slot| slot.block_mut(data.len()).copy_from_slice(data))?;
        let staging = &self.lane().staging;
        let slots: Vec<_> = (0..self.world).map(|rank| staging.read(rank, self.step - 1)).collect();
        let sources: Vec<&[u8]> = slots.iter().map(|slot| &slot.block()[..data.len()]).collect();
        reduce(call.dtype, op, &sources, data);
        Ok(())
    }

    /// The pipeline: stage a block, reduce the own share of an earlier one, collect the shares of a still earlier one.
    fn reduce_in_blocks(&mut self, call: Call, op: ReduceOp, data: &mut [u8]) -> Result<()> {
        let (blocks, lag) = (Blocks::of(data.len(), 1), LAG as usize);
        let width = call.dtype.size_bytes();
        let (staged, reduced) = (0..blocks.count(), lag..blocks.count() + lag);
        for k in 0..blocks.count() + 2 * lag {
            self.keep_up()?;
            if staged.contains(&k) {
                self.stage_for_others(call, &data[blocks.range(k)]);
            }
            if k == lag {
                self.check_calls(self.step - LAG)?;
            }
            if reduced.contains(&k) {
                self.reduce_share(call, op, &mut data[blocks.range(k - lag)]);
            }
            if k >= 2 * lag {
                self.collect_shares(width, &mut data[blocks.range(k - 2 * lag)]);
            }
            self.pass();
        }
        Ok(())
    }

    /// Stages a block except this rank's own share of it, which nobody else reads.
    fn stage_for_others(&self, call: Call, values: &[u8]) {
        let own = share(values.len(), call.dtype.size_bytes(), self.rank, self.world);
        let mut slot = self.lane().staging.write(self.rank, self.step);
        slot.call = call;
        let staged = slot.block_mut(values.len());
        staged[..own.start].copy_from_slice(&values[..own.start]);
        staged[own.end..].copy_from_slice(&values[own.end..]);
    }

    /// Reduces this rank's share of the block all ranks staged `LAG` steps ago: in place, and for the others to see.
    fn reduce_share(&self, call: Call, op: ReduceOp, block: &mut [u8]) {
        let share = share(block.len(), call.dtype.size_bytes(), self.rank, self.world);
        let staging = &self.lane().staging;
        let slots: Vec<_> = (0..self.world)
            .map(|rank| (rank != self.rank).then(|| staging.read(rank, self.step - LAG)))
            .collect();
        let own = &block[share.clone()];
        let sources: Vec<&[u8]> =
            slots.iter().map(|slot| slot.as_ref().map_or(own, |slot| &slot.block()[share.clone()])).collect();
        let mut slot = staging.write(self.rank, self.step);
        let result = slot.share_mut(share.len());
        reduce(call.dtype, op, &sources, result);
        block[share].copy_from_slice(result);
    }

    /// Copies the shares the other ranks reduced `LAG` steps ago.
    fn collect_shares(&self, width: usize, block: &mut [u8]) {
        for rank in (0..self.world).filter(|rank| *rank != self.rank) {
            let share = share(block.len(), width, rank, self.world);
            let from = self.lane().staging.read(rank, self.step - LAG);
            block[share.clone()].copy_from_slice(&from.share()[..share.len()]);
        }
    }

    fn shown(&self, step: u64) -> Shown<'_> {
        Shown { staging: &self.lane().staging, step }
    }

    fn lane(&self) -> &Lane {
        self.group.lane(self.lane)
    }

    /// One step that all ranks take together and in which they announce what they call.
    fn meet(&mut self, call: Call) -> Result<()> {
        self.meet_with(call, |_| {})
    }

    fn meet_with(&mut self, call: Call, stage: impl FnOnce(&mut Slot)) -> Result<()> {
        self.keep_up()?;
        {
            let mut slot = self.lane().staging.write(self.rank, self.step);
            slot.call = call;
            stage(&mut slot);
        }
        self.pass();
        self.lane().meeting.wait(self.step)?;
        self.check_calls(self.step - 1)
    }

    /// Waits until no rank is so far behind that it might still read the slot this rank is about to write, and what
    /// was written `LAG` steps ago can be read.
    fn keep_up(&self) -> Result<()> {
        self.lane().meeting.wait((self.step + 1).saturating_sub(LAG))
    }

    fn pass(&mut self) {
        self.lane().meeting.pass(self.rank);
        self.step += 1;
    }

    fn check_calls(&self, step: u64) -> Result<()> {
        self.lane().staging.check_calls(step).or_else(|error| self.fail(error))
    }

    fn go_on(&self) -> Result<()> {
        self.fate.cause().map_or(Ok(()), Err)
    }

    /// Ends the group with `error`, or with what ended it before.
    fn fail<T>(&self, error: CollectiveError) -> Result<T> {
        self.fate.fail(error.clone());
        Err(self.fate.cause().unwrap_or(error))
    }
}

/// What a rank calls that sends, receives or does both; the words for it are only made where it fails.
struct Exchange {
    sends: Option<(usize, Header)>,
    receives: Option<(usize, Header)>,
}

impl Exchange {
    fn of(out: Option<&Outgoing<'_>>, into: Option<&Incoming<'_>>) -> Self {
        Self {
            sends: out.map(|message| (message.to, message.header)),
            receives: into.map(|message| (message.from, message.header)),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sends, self.receives) {
            (Some((to, sent)), Some((from, _))) => {
                write!(f, "send_recv of {} {} to rank {to} and from rank {from}", sent.len, sent.dtype)
            }
            (Some((to, sent)), None) => write!(f, "send of {} {} to rank {to}", sent.len, sent.dtype),
            (None, Some((from, wanted))) => {
                write!(f, "recv of {} {} from rank {from}", wanted.len, wanted.dtype)
            }
            (None, None) => write!(f, "nothing"),
        }
    }
}

/// How `len` bytes are cut into blocks. No bytes are one, empty, block, so that every call meets at least once.
#[derive(Clone, Copy)]
struct Blocks {
    len: usize,
    block_len: usize,
}

impl Blocks {
    /// Blocks of which `parts` together have about the size of one that is staged.
    fn of(len: usize, parts: usize) -> Self {
        // A multiple of every element's width.
        Self { len, block_len: (BLOCK_BYTES / parts).next_multiple_of(64) }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.block_len).max(1)
    }

    fn range(&self, k: usize) -> Range<usize> {
        k * self.block_len..self.len.min((k + 1) * self.block_len)
    }
}

/// The part of a block of `len` bytes that `rank` reduces. The parts cover the block and differ by one value at most.
fn share(len: usize, width: usize, rank: usize, world: usize) -> Range<usize> {
    let values = len / width;
    rank * values / world * width..(rank + 1) * values / world * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_blocks_cover_a_buffer_once() {
        for len in [0, 8, 40, 8000] {
            for world in 1..7 {
                for width in [2, 4, 8] {
                    let shares: Vec<_> = (0..world).flat_map(|rank| share(len, width, rank, world)).collect();
                    assert_eq!(shares, (0..len).collect::<Vec<_>>());
                }
            }
        }
        let blocks = Blocks::of(3 * BLOCK_BYTES + 8, 1);
        let ranges: Vec<_> = (0..blocks.count()).flat_map(|k| blocks.range(k)).collect();
        assert_eq!(ranges, (0..3 * BLOCK_BYTES + 8).collect::<Vec<_>>());
        assert_eq!(Blocks::of(0, 3).count(), 1);
    }
}
