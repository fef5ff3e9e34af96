//! [`Collective`]: one rank's handle on its group, with the verbs.

use std::sync::Arc;

use super::backend::{Backend, Data, Fate};
use super::background::{Background, Pending};
use super::call::{Call, Verb};
use super::error::CollectiveError;
use super::mail::{Header, Incoming, Outgoing};
use super::member::Member;
use super::number::{Number, ReduceOp};

type Result<T> = std::result::Result<T, CollectiveError>;

/// One rank's handle on its group. All ranks must make the same calls in the same order.
///
/// Every verb returns a [`CollectiveError`] once the group has ended, whether it was waiting or comes later. A verb that
/// fails leaves in its output what had arrived.
///
/// Dropping a handle leaves the group: for the other ranks this rank is lost. A call that was complete for this rank
/// is complete for all of them.
#[derive(Debug)]
pub struct Collective {
    rank: usize,
    world: usize,
    backend: Box<dyn Backend>,
    background: Background,
}

/// Ends a group from outside, for whoever watches over its ranks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Aborter {
    fate: Arc<dyn Fate>,
}

impl Aborter {
    pub(super) fn of(fate: Arc<dyn Fate>) -> Self {
        Self { fate }
    }

    /// Declares `rank` lost: every pending and later call of the group returns [`CollectiveError::Lost`]. The first
    /// reason given for a group stays; returns whether it was this one.
    pub fn abort(&self, rank: usize, reason: impl Into<String>) -> bool {
        self.fate.fail(CollectiveError::Lost { rank, reason: reason.into() })
    }
}

impl Collective {
    pub(super) fn new(
        rank: usize,
        world: usize,
        backend: Box<dyn Backend>,
        background: Option<Box<Collective>>,
    ) -> Self {
        Self { rank, world, backend, background: Background::new(background) }
    }

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
        Aborter::of(Arc::clone(self.backend.fate()))
    }

    /// Why the group is finished, if it is.
    pub fn failure(&self) -> Option<CollectiveError> {
        self.backend.fate().cause()
    }

    /// Waits for all ranks.
    pub fn barrier(&mut self) -> Result<()> {
        self.backend.run(Call::BARRIER, Data { input: &[], output: &mut [] })
    }

    /// Combines the buffers of all ranks, element by element, and leaves the result in each of them. All buffers
    /// have the same length.
    pub fn all_reduce<T: Number>(&mut self, data: &mut [T], op: ReduceOp) -> Result<()> {
        self.run(Verb::AllReduce(op), data.len(), &[], data)
    }

    /// Combines the buffers of all ranks and leaves in `part` this rank's part of the result. `data` is as long as the
    /// parts of all ranks together.
    pub fn reduce_scatter<T: Number>(&mut self, data: &[T], part: &mut [T], op: ReduceOp) -> Result<()> {
        self.member().has_length("reduce_scatter", data.len(), part.len().saturating_mul(self.world))?;
        self.run(Verb::ReduceScatter(op), part.len(), data, part)
    }

    /// Collects the buffers of all ranks in `all`, one after another in the order of the ranks. All have the same length.
    pub fn all_gather<T: Number>(&mut self, data: &[T], all: &mut [T]) -> Result<()> {
        self.member().has_length("all_gather", all.len(), data.len().saturating_mul(self.world))?;
        self.run(Verb::AllGather, data.len(), data, all)
    }

    /// Copies the buffer of rank `root` into those of all other ranks. All buffers have the same length.
    pub fn broadcast<T: Number>(&mut self, data: &mut [T], root: usize) -> Result<()> {
        self.member().has_rank("broadcast", root)?;
        self.run(Verb::Broadcast { root }, data.len(), &[], data)
    }

    /// Collects the buffers of all ranks in `all` on rank `root`; on other ranks `all` is empty. All buffers
    /// have the same length.
    pub fn gather<T: Number>(&mut self, data: &[T], all: &mut [T], root: usize) -> Result<()> {
        self.member().has_rank("gather", root)?;
        self.member().has_length("gather", all.len(), self.member().on_root(root, data.len()))?;
        self.run(Verb::Gather { root }, data.len(), data, all)
    }

    /// Hands out the parts of `all` on rank `root`, one to each rank's `part`; on other ranks `all` is empty. All
    /// parts have the same length.
    pub fn scatter<T: Number>(&mut self, all: &[T], part: &mut [T], root: usize) -> Result<()> {
        self.member().has_rank("scatter", root)?;
        self.member().has_length("scatter", all.len(), self.member().on_root(root, part.len()))?;
        self.run(Verb::Scatter { root }, part.len(), all, part)
    }

    /// Each rank hands out the parts of `data`, one to each rank, and collects in `all` the parts it is handed, in the
    /// order of the ranks. All buffers have the same length, a multiple of the number of ranks.
    pub fn all_to_all<T: Number>(&mut self, data: &[T], all: &mut [T]) -> Result<()> {
        let part = data.len() / self.world;
        self.member().has_length("all_to_all", data.len(), part * self.world)?;
        self.member().has_length("all_to_all", all.len(), data.len())?;
        self.run(Verb::AllToAll, part, data, all)
    }

    /// Sends values to one other rank, which [receives](Self::recv) as many. Returns once they are on their way: up to
    /// 256 KiB wait there, more wait here. Messages between two ranks keep their order.
    pub fn send<T: Number>(&mut self, data: &[T], to: usize) -> Result<()> {
        self.member().has_partner("send", to)?;
        self.backend.exchange(Some(outgoing(data, to)), None)
    }

    /// Receives values from one other rank. What was sent before that rank left still arrives. Where ranks wait for each other in a
    /// circle, all are told [`CollectiveError::Crossed`].
    pub fn recv<T: Number>(&mut self, data: &mut [T], from: usize) -> Result<()> {
        self.member().has_partner("recv", from)?;
        self.backend.exchange(None, Some(incoming(data, from)))
    }

    /// Sends to one rank while it receives from another, so that ranks in a circle do not wait for each other.
    pub fn send_recv<T: Number>(&mut self, data: &[T], to: usize, into: &mut [T], from: usize) -> Result<()> {
        self.member().has_rank("send_recv", to)?;
        self.member().has_rank("send_recv", from)?;
        self.backend.exchange(Some(outgoing(data, to)), Some(incoming(into, from)))
    }

    /// Makes calls in the background, on this rank's own second thread and one after another, while this thread
    /// computes. Values go there and come back by being moved:
    ///
    /// ```
    /// # use air_core::collective::{in_process, ReduceOp, CollectiveError};
    /// # let mut rank = in_process(1).pop().unwrap();
    /// let mut gradient = vec![1.0_f32; 1000];
    /// let pending = rank.start(move |rank| {
    ///     rank.all_reduce(&mut gradient, ReduceOp::Mean)?;
    ///     Ok(gradient)
    /// });
    /// // … the next layer's gradient …
    /// let gradient = pending.wait()?;
    /// # assert_eq!(gradient[0], 1.0);
    /// # Ok::<(), CollectiveError>(())
    /// ```
    ///
    /// All ranks start the same calls in the same order; how these fall between the calls in the foreground does not
    /// matter. Up to 64 wait for their turn; then this waits. A call that panics ends the group.
    pub fn start<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Collective) -> Result<R> + Send + 'static,
    ) -> Pending<R> {
        if self.background.is_here() {
            let result = call(self);
            return Pending::ready(self.rank, result);
        }
        let aborter = self.aborter();
        self.background.start(self.rank, aborter, call)
    }

    /// [`all_reduce`](Self::all_reduce) in the [background](Self::start).
    pub fn start_all_reduce<T: Number>(&mut self, mut data: Vec<T>, op: ReduceOp) -> Pending<Vec<T>> {
        self.start(move |rank| rank.all_reduce(&mut data, op).map(|()| data))
    }

    fn run<T: Number>(&mut self, verb: Verb, len: usize, input: &[T], output: &mut [T]) -> Result<()> {
        let call = Call { verb, dtype: T::DTYPE, len };
        let data = Data { input: bytemuck::cast_slice(input), output: bytemuck::cast_slice_mut(output) };
        self.backend.run(call, data)
    }

    fn member(&self) -> Member<'_> {
        Member { rank: self.rank, world: self.world, fate: &**self.backend.fate() }
    }
}

fn outgoing<T: Number>(data: &[T], to: usize) -> Outgoing<'_> {
    let header = Header { dtype: T::DTYPE, len: data.len() };
    Outgoing { to, header, bytes: bytemuck::cast_slice(data) }
}

fn incoming<T: Number>(data: &mut [T], from: usize) -> Incoming<'_> {
    let header = Header { dtype: T::DTYPE, len: data.len() };
    Incoming { from, header, bytes: bytemuck::cast_slice_mut(data) }
}

impl Drop for Collective {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { "its thread panicked" } else { "its handle was dropped" };
        self.abort(reason);
        // What is under way in the background ends with the group.
        self.background.join();
    }
}
