//! [`DeviceCollective`]: ranks whose values are on devices, one on each, by NCCL.
//!
//! Ranks first agree on a call as ranks of one process do, on the host: so a wrong call, a circle of waiting ranks or a lost rank is
//! the same typed error as there, and what cannot fit never begins on the devices. Then each queues its part.

use std::sync::Arc;

use super::backend::{Backend, Fate};
use super::call::{Call, Verb};
use super::error::CollectiveError;
use super::group::Group;
use super::handle::Aborter;
use super::in_process::InProcess;
use super::mail::{Header, Incoming, Outgoing};
use super::member::Member;
use super::number::ReduceOp;
use super::plan::plan;
use crate::device::cuda::{Communicator, Operand, Operands, Pauses, Step, communicators};
use crate::device::{Device, Event, Stream};
use crate::tensor::{DType, Tensor, TensorError};

type Result<T> = std::result::Result<T, CollectiveError>;

/// One rank's handle on a group whose ranks are on devices. All ranks must make the same calls in the same order.
///
/// The verbs are those of [`Collective`](super::Collective), over tensors on the rank's device: contiguous, of `f32`, `f64`, `f16`, `bf16` or
/// `i64`, and those that are written held by their handle alone. A call returns once it is queued on the stream; what uses the tensors later,
/// on whatever stream, comes after it. [`wait`](Self::wait) says whether it was done.
///
/// The order in which values are added up is NCCL's: the same on all ranks, not the one of the ranks.
///
/// A wrong call, an error of a device, [`abort`](Self::abort) and a panic end the group: what is under way stops on every device,
/// and every rank gets the error. Dropping a handle waits for its calls; for later calls of others this rank is lost.
#[derive(Debug)]
pub struct DeviceCollective {
    rank: usize,
    world: usize,
    /// On which the ranks agree.
    host: InProcess,
    group: Arc<Group>,
    fate: Arc<dyn Fate>,
    communicator: Arc<Communicator>,
    /// Behind the last call.
    last: Option<Event>,
}

/// Ends the group on the host, and what is under way on the devices.
#[derive(Debug)]
struct OnDevices {
    group: Arc<Group>,
    communicators: Vec<Arc<Communicator>>,
}

impl Fate for OnDevices {
    fn fail(&self, cause: CollectiveError) -> bool {
        let is_first = self.group.fail(cause);
        // Also after a rank has left, which ends nothing that is under way.
        for communicator in &self.communicators {
            communicator.abort();
        }
        is_first
    }

    fn cause(&self) -> Option<CollectiveError> {
        self.group.cause()
    }
}

/// Makes a group with a rank on each of `devices`, in this order; the handles go to the workers of the devices. Needs NCCL 2.17 or newer.
///
/// # Errors
/// [`CollectiveError::Device`] with what is missing: the driver, a device, the library, or a device of its own for each rank.
pub fn on_devices(devices: &[Device]) -> Result<Vec<DeviceCollective>> {
    let world = devices.len();
    let communicators = communicators(devices)
        .map_err(|(rank, error)| CollectiveError::Device { rank, source: error.into() })?;
    let group = Arc::new(Group::of_devices(world));
    let fate: Arc<dyn Fate> =
        Arc::new(OnDevices { group: Arc::clone(&group), communicators: communicators.clone() });
    let handle = |(rank, communicator)| DeviceCollective {
        rank,
        world,
        host: InProcess::with_fate(rank, world, 0, &group, Arc::clone(&fate)),
        group: Arc::clone(&group),
        fate: Arc::clone(&fate),
        communicator,
        last: None,
    };
    Ok(communicators.into_iter().enumerate().map(handle).collect())
}

impl DeviceCollective {
    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn world(&self) -> usize {
        self.world
    }

    /// The device that this rank's tensors and streams are on.
    pub fn device(&self) -> Device {
        self.communicator.device()
    }

    /// Leaves the group with a reason; see [`CollectiveError::Lost`].
    pub fn abort(&self, reason: impl Into<String>) {
        self.aborter().abort(self.rank, reason);
    }

    /// A handle that can end the group from another thread.
    pub fn aborter(&self) -> Aborter {
        Aborter::of(Arc::clone(&self.fate))
    }

    /// Why the group is finished, if it is.
    pub fn failure(&self) -> Option<CollectiveError> {
        self.fate.cause()
    }

    /// Waits until the device has done all calls of this rank. What they left in tensors counts only if this is no error.
    pub fn wait(&mut self) -> Result<()> {
        const WAITING: &str = "waiting for a collective call";
        let Some(event) = self.last.take() else { return Ok(()) };
        let mut pauses = Pauses::default();
        while !event.is_done().or_else(|error| self.fail(error.into()))? {
            self.communicator.state(WAITING).or_else(|error| self.fail(error.into()))?;
            pauses.next();
        }
        // Where it ended meanwhile, the work may be done because it was stopped.
        self.communicator.state(WAITING).map(drop).or_else(|error| self.fail(error.into()))
    }

    /// Waits for all ranks to make this call. What is queued on their streams may go on.
    pub fn barrier(&mut self) -> Result<()> {
        self.host.agree(Call::BARRIER)
    }

    /// Combines the tensors of all ranks, element by element, and leaves the result in each of them.
    pub fn all_reduce(&mut self, stream: &Stream, data: &mut Tensor, op: ReduceOp) -> Result<()> {
        let len = data.len();
        self.run(Verb::AllReduce(op), len, stream, None, Some(data))
    }

    /// Combines the tensors of all ranks and leaves in `part` this rank's part of the result. `data` has as many elements as the parts of
    /// all ranks together.
    pub fn reduce_scatter(
        &mut self,
        stream: &Stream,
        data: &Tensor,
        part: &mut Tensor,
        op: ReduceOp,
    ) -> Result<()> {
        let len = part.len();
        self.member().has_length("reduce_scatter", data.len(), len.saturating_mul(self.world))?;
        self.run(Verb::ReduceScatter(op), len, stream, Some(data), Some(part))
    }

    /// Collects the tensors of all ranks in `all`, one after another in the order of the ranks.
    pub fn all_gather(&mut self, stream: &Stream, data: &Tensor, all: &mut Tensor) -> Result<()> {
        self.member().has_length("all_gather", all.len(), data.len().saturating_mul(self.world))?;
        self.run(Verb::AllGather, data.len(), stream, Some(data), Some(all))
    }

    /// Copies the tensor of rank `root` into those of all other ranks.
    pub fn broadcast(&mut self, stream: &Stream, data: &mut Tensor, root: usize) -> Result<()> {
        self.member().has_rank("broadcast", root)?;
        let len = data.len();
        self.run(Verb::Broadcast { root }, len, stream, None, Some(data))
    }

    /// Collects the tensors of all ranks in `all` on rank `root`; on other ranks `all` is `None`.
    pub fn gather(
        &mut self,
        stream: &Stream,
        data: &Tensor,
        all: Option<&mut Tensor>,
        root: usize,
    ) -> Result<()> {
        let member = self.member();
        member.has_rank("gather", root)?;
        let found = all.as_ref().map_or(0, |all| all.len());
        member.has_length("gather", found, member.on_root(root, data.len()))?;
        self.run(Verb::Gather { root }, data.len(), stream, Some(data), all)
    }

    /// Hands out the parts of `all` on rank `root`, one to each rank's `part`; on other ranks `all` is `None`.
    pub fn scatter(
        &mut self,
        stream: &Stream,
        all: Option<&Tensor>,
        part: &mut Tensor,
        root: usize,
    ) -> Result<()> {
        let (member, len) = (self.member(), part.len());
        member.has_rank("scatter", root)?;
        member.has_length("scatter", all.map_or(0, Tensor::len), member.on_root(root, len))?;
        self.run(Verb::Scatter { root }, len, stream, all, Some(part))
    }

    /// Each rank hands out the parts of `data`, one to each rank, and collects in `all` the parts it is handed, in the
    /// order of the ranks.
    pub fn all_to_all(&mut self, stream: &Stream, data: &Tensor, all: &mut Tensor) -> Result<()> {
        let (member, part) = (self.member(), data.len() / self.world);
        member.has_length("all_to_all", data.len(), part * self.world)?;
        member.has_length("all_to_all", all.len(), data.len())?;
        self.run(Verb::AllToAll, part, stream, Some(data), Some(all))
    }

    /// Sends a tensor to one other rank, which [receives](Self::recv) it. Returns once that rank has made its call and this one is queued.
    pub fn send(&mut self, stream: &Stream, data: &Tensor, to: usize) -> Result<()> {
        self.member().has_partner("send", to)?;
        self.exchange("send", stream, Some((data, to)), None)
    }

    /// Receives a tensor from one other rank.
    pub fn recv(&mut self, stream: &Stream, data: &mut Tensor, from: usize) -> Result<()> {
        self.member().has_partner("recv", from)?;
        self.exchange("recv", stream, None, Some((data, from)))
    }

    /// Sends to one rank while it receives from another, so that ranks in a circle do not wait for each other.
    pub fn send_recv(
        &mut self,
        stream: &Stream,
        data: &Tensor,
        to: usize,
        into: &mut Tensor,
        from: usize,
    ) -> Result<()> {
        let member = self.member();
        if to == from {
            member.has_rank("send_recv", to)?;
        } else {
            // What is sent to oneself is received in the same call, or never.
            member.has_partner("send_recv", to)?;
            member.has_partner("send_recv", from)?;
        }
        self.exchange("send_recv", stream, Some((data, to)), Some((into, from)))
    }

    fn run(
        &mut self,
        verb: Verb,
        len: usize,
        stream: &Stream,
        input: Option<&Tensor>,
        output: Option<&mut Tensor>,
    ) -> Result<()> {
        let operands = self.operands(verb.name(), stream, len, input, output)?;
        let call = Call { verb, dtype: operands.dtype, len };
        self.host.agree(call)?;
        self.queue(verb.name(), stream, &operands, &plan(&call, self.rank, self.world))
    }

    fn exchange(
        &mut self,
        verb: &'static str,
        stream: &Stream,
        sends: Option<(&Tensor, usize)>,
        receives: Option<(&mut Tensor, usize)>,
    ) -> Result<()> {
        let header = |tensor: &Tensor| Header { dtype: tensor.dtype(), len: tensor.len() };
        let out = sends.map(|(data, to)| Outgoing { to, header: header(data), bytes: &[] });
        let into = receives.as_ref().map(|(data, from)| (*from, header(data)));
        let whole = |header: Header| 0..header.len * header.dtype.size_bytes();
        let send = out.as_ref().filter(|out| out.header.len > 0);
        let send = send.map(|out| Step::Send { to: out.to, range: whole(out.header) });
        let receive = into.filter(|(_, header)| header.len > 0);
        let receive = receive.map(|(from, header)| Step::Receive { from, range: whole(header) });
        let steps: Vec<_> = send.into_iter().chain(receive).collect();
        let (input, output) = (sends.map(|(data, _)| data), receives.map(|(data, _)| data));
        // By the byte: what goes out need not be of the type that comes in.
        let operands = Operands { dtype: DType::U8, ..self.operands(verb, stream, 0, input, output)? };
        let into = into.map(|(from, header)| Incoming { from, header, bytes: &mut [] });
        self.host.exchange(out, into)?;
        self.queue(verb, stream, &operands, &steps)
    }

    /// Whether these tensors can be used so.
    fn operands<'a>(
        &self,
        verb: &'static str,
        stream: &Stream,
        len: usize,
        input: Option<&'a Tensor>,
        output: Option<&'a mut Tensor>,
    ) -> Result<Operands<'a>> {
        if stream.device() != self.device() {
            let (expected, found) = (self.device(), stream.device());
            return self
                .fail(crate::device::DeviceError::WrongDevice { operation: verb, expected, found }.into());
        }
        let dtype = input.or(output.as_deref()).map_or(DType::F32, Tensor::dtype);
        let checked = |found: DType| match found {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::I64 => Ok(()),
            _ => Err(TensorError::WrongType { expected: DType::F32, found }),
        };
        let found = || -> std::result::Result<(Option<Operand<'a>>, Option<Operand<'a>>), TensorError> {
            checked(dtype)?;
            let input = input.map(|tensor| tensor.read_on(stream, verb)).transpose()?;
            let output = output.map(|tensor| {
                checked(tensor.dtype())?;
                // A message may be of another type than the one that comes; it is the others that it has to fit.
                if verb != "send_recv" && tensor.dtype() != dtype {
                    return Err(TensorError::WrongType { expected: dtype, found: tensor.dtype() });
                }
                tensor.written_on(stream, verb)
            });
            Ok((input, output.transpose()?))
        };
        match found() {
            Ok((input, output)) => Ok(Operands { dtype, len, input, output }),
            Err(error) => self.fail(error),
        }
    }

    fn queue(
        &mut self,
        verb: &'static str,
        stream: &Stream,
        operands: &Operands<'_>,
        steps: &[Step],
    ) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        // Calls of a communicator are in order also where they come on several streams.
        let ordered = self.last.take().map_or(Ok(()), |last| stream.wait_for(&last));
        let queued = ordered
            .and_then(|()| self.communicator.queue(stream, verb, operands, steps))
            .and_then(|()| stream.record());
        self.last = Some(queued.or_else(|error| self.fail(error.into()))?);
        Ok(())
    }

    fn member(&self) -> Member<'_> {
        Member { rank: self.rank, world: self.world, fate: &*self.fate }
    }

    /// Ends the group with what went wrong here, or with what ended it before.
    fn fail<T>(&self, source: TensorError) -> Result<T> {
        self.member().refuse(CollectiveError::Device { rank: self.rank, source })
    }
}

impl Drop for DeviceCollective {
    fn drop(&mut self) {
        let lost = |reason: &str| CollectiveError::Lost { rank: self.rank, reason: reason.into() };
        if std::thread::panicking() {
            self.fate.fail(lost("its thread panicked"));
            return;
        }
        // What all ranks agreed on is done yet; there is no more.
        self.group.fail(lost("its handle was dropped"));
        if self.wait().is_ok() {
            self.communicator.destroy();
        }
    }
}
