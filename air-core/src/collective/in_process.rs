//! [`InProcess`]: the calls of ranks that are threads of one process.
//!
//! See the [module](super) for how it works.

use std::sync::Arc;

use super::backend::{Backend, Data, Fate};
use super::call::{Call, Verb};
use super::collect::{collect, strides};
use super::error::{CollectiveError, Waiting};
use super::exchange::Exchange;
use super::group::{Group, Lane};
use super::loan::Borrowed;
use super::mail::{Circle, Incoming, Outgoing, Stuck};
use super::number::ReduceOp;
use super::reduce::reduce_in_place;

/// Up to this many bytes over all ranks together, values are copied to where the others read them: that costs less than
/// meeting a second time.
pub(super) const STAGED_BYTES: usize = 4 << 10;

/// Parts that ranks reduce are cut at multiples of this: a cache line, which two ranks should not write to at once.
const LINE_BYTES: usize = 64;

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

impl Backend for InProcess {
    fn run(&mut self, call: Call, data: Data<'_>) -> Result<()> {
        self.go_on()?;
        let (me, Data { input, output }) = (self.rank, data);
        let staged = call.shown_bytes(self.world).saturating_mul(self.world) <= STAGED_BYTES;
        match call.verb {
            Verb::Barrier => self.meet(call, &[]),
            // Every operation over one rank leaves the values as they are.
            Verb::AllReduce(_) if self.world == 1 => self.meet(call, &[]),
            Verb::AllReduce(_) if staged => {
                self.meet(call, output)?;
                self.collect_staged(call, output);
                Ok(())
            }
            Verb::AllReduce(op) => self.reduce_lent(call, op, output),
            Verb::Broadcast { root } if root == me => self.pass_on(call, staged, output, &mut []),
            Verb::Broadcast { .. } => self.pass_on(call, staged, &[], output),
            _ => self.pass_on(call, staged, input, output),
        }
    }

    fn exchange(&mut self, out: Option<Outgoing<'_>>, into: Option<Incoming<'_>>) -> Result<()> {
        if out.is_some() {
            self.go_on()?;
        }
        let Lane { mail, meeting, .. } = self.lane();
        match mail.exchange(self.rank, out, into, |rank| meeting.passed(rank)) {
            Ok(()) => Ok(()),
            Err(Stuck::Crossed(circle)) => self.crossed(circle),
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
        Self::with_fate(rank, world, lane, group, Arc::clone(group) as Arc<dyn Fate>)
    }

    /// A rank whose errors end more than the group.
    pub(super) fn with_fate(
        rank: usize,
        world: usize,
        lane: usize,
        group: &Arc<Group>,
        fate: Arc<dyn Fate>,
    ) -> Self {
        Self { rank, world, lane, step: 0, group: Arc::clone(group), fate }
    }

    /// Waits for all ranks to make this call, whose values are elsewhere.
    pub(super) fn agree(&mut self, call: Call) -> Result<()> {
        self.go_on()?;
        self.meet(call, &[])
    }

    /// The verbs in which this rank shows some values and takes others.
    fn pass_on(&mut self, call: Call, staged: bool, shows: &[u8], takes: &mut [u8]) -> Result<()> {
        if staged {
            self.meet(call, shows)?;
            self.collect_staged(call, takes);
            return Ok(());
        }
        let group = Arc::clone(&self.group);
        group.lane(self.lane).loans.to_read(self.rank, shows, || {
            self.meet(call, &[])?;
            self.collect_lent(call, takes);
            // Nobody may have the own values back while others read them.
            self.pass()
        })
    }

    fn collect_staged(&self, call: Call, output: &mut [u8]) {
        if output.is_empty() {
            return;
        }
        let staging = &self.lane().staging;
        let slots: Vec<_> = (0..self.world).map(|rank| staging.read(rank, self.step - 1)).collect();
        let shown: Vec<&[u8]> = slots.iter().map(|slot| slot.values()).collect();
        collect(call, self.rank, &shown, output, 0..call.part_bytes());
    }

    fn collect_lent(&self, call: Call, output: &mut [u8]) {
        if output.is_empty() {
            return;
        }
        let Lane { loans, meeting, .. } = self.lane();
        // Who lends nothing any more was told of the end of the group, which this rank learns when it next waits.
        let lent: Option<Vec<_>> = (0..self.world).map(|owner| loans.borrow(owner, self.rank)).collect();
        let Some(lent) = lent else { return };
        let shown: Vec<&[u8]> = lent.iter().map(Borrowed::bytes).collect();
        for range in strides(call.part_bytes()).take_while(|_| !meeting.has_failed()) {
            collect(call, self.rank, &shown, output, range);
        }
    }

    /// Every rank reduces its part of all buffers where they lie.
    fn reduce_lent(&mut self, call: Call, op: ReduceOp, data: &mut [u8]) -> Result<()> {
        let group = Arc::clone(&self.group);
        let Lane { loans, meeting, .. } = group.lane(self.lane);
        let (me, world, len) = (self.rank, self.world, data.len());
        let part = |rank| part_bytes(len, rank, world);
        loans.to_write(me, data, part, || {
            self.meet(call, &[])?;
            // As in `collect_lent`.
            let lent: Option<Vec<_>> = (0..world).map(|owner| loans.borrow(owner, me)).collect();
            if let Some(mut lent) = lent {
                let mut parts: Vec<&mut [u8]> = lent.iter_mut().map(Borrowed::bytes_mut).collect();
                reduce_in_place(call.dtype, op, &mut parts, || !meeting.has_failed());
            }
            self.pass()
        })
    }

    fn lane(&self) -> &Lane {
        self.group.lane(self.lane)
    }

    /// One step that all ranks take together and in which they announce what they call, with values to be read
    /// until this rank passes the next step.
    fn meet(&mut self, call: Call, values: &[u8]) -> Result<()> {
        self.lane().staging.write(self.rank, self.step).show(call, values);
        self.pass()?;
        self.lane().staging.check_calls(self.step - 1).or_else(|error| self.fail(error))
    }

    /// One step that all ranks take together.
    fn pass(&mut self) -> Result<()> {
        let Lane { mail, meeting, .. } = self.group.lane(self.lane);
        meeting.pass(self.rank);
        self.step += 1;
        match mail.crossed(self.rank, |rank| meeting.passed(rank)) {
            Some(circle) => self.crossed(circle),
            None => meeting.wait(self.step),
        }
    }

    /// Tells all ranks of a circle that this one has closed.
    fn crossed(&self, circle: Circle) -> Result<()> {
        let Lane { staging, meeting, .. } = self.lane();
        let next = circle.iter().cycle().skip(1).map(|(rank, _)| *rank);
        let waiting = |((rank, message), for_rank): (&(usize, Option<Exchange>), usize)| {
            // Who waits in a call of all ranks has passed the step in which it announced it.
            let announced = || staging.read(*rank, meeting.passed(*rank).saturating_sub(1)).call.to_string();
            let call = message.map_or_else(announced, |message| message.to_string());
            Waiting { rank: *rank, call, for_rank }
        };
        self.fail(CollectiveError::Crossed { circle: circle.iter().zip(next).map(waiting).collect() })
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

/// How much of a buffer of `len` bytes is the part of `rank`: whole cache lines, but for the last.
fn part_bytes(len: usize, rank: usize, world: usize) -> usize {
    let lines = len / LINE_BYTES;
    let start = |rank| if rank == world { len } else { rank * lines / world * LINE_BYTES };
    start(rank + 1) - start(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_buffer_in_whole_lines() {
        for len in [0, 8, 40, 64, 8000, 8008] {
            for world in 1..7 {
                let parts: Vec<_> = (0..world).map(|rank| part_bytes(len, rank, world)).collect();
                assert_eq!(parts.iter().sum::<usize>(), len);
                assert!(parts[..world - 1].iter().all(|part| part.is_multiple_of(LINE_BYTES)));
            }
        }
    }
}
