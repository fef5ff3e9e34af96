//! [`Communicator`]: a device among others that work on one thing together, by NCCL.
//!
//! No call blocks while it holds the communicator, so whoever learns that a rank is lost can [`abort`](Communicator::abort) it at any
//! moment: what is under way on the device ends, and every later call is an error.
#![allow(unsafe_code)]

mod library;

use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use self::library::{Comm, Config, Library, UniqueId};
use super::memory::Memory;
use super::opened::Opened;
use super::stream::Stream;
use crate::collective::ReduceOp;
use crate::device::uses::Access;
use crate::device::{Device, DeviceError};
use crate::tensor::DType;

const OPENING: &str = "opening a communicator";

const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;

/// One thing that a device does in a call; all of a call go together. Ranges are bytes of what a rank gives or gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    AllReduce(ReduceOp),
    ReduceScatter(ReduceOp),
    AllGather,
    Broadcast { root: usize },
    Send { to: usize, range: Range<usize> },
    Receive { from: usize, range: Range<usize> },
}

/// Bytes of a device that a call reads or writes.
pub(crate) type Operand<'a> = (&'a Memory, Range<usize>);

/// What a call works on.
pub(crate) struct Operands<'a> {
    pub(crate) dtype: DType,
    /// Values in the buffer, or the part of one, that is equally long on every rank.
    pub(crate) len: usize,
    pub(crate) input: Option<Operand<'a>>,
    /// A call in place has its values here.
    pub(crate) output: Option<Operand<'a>>,
}

/// One rank's end, on its device.
pub(crate) struct Communicator {
    library: &'static Library,
    opened: Arc<Opened>,
    /// Nothing once it was aborted or destroyed.
    comm: Mutex<Option<Handle>>,
}

#[derive(Clone, Copy)]
struct Handle(Comm);

// SAFETY: NCCL lets any thread use a communicator, one at a time, which the lock around it sees to.
unsafe impl Send for Handle {}

/// Communicators of a new group with a rank on each of `devices`; the error is of the rank it names.
pub(crate) fn communicators(devices: &[Device]) -> Result<Vec<Arc<Communicator>>, (usize, DeviceError)> {
    let mut ranks: Vec<Arc<Opened>> = Vec::with_capacity(devices.len());
    for (second, &device) in devices.iter().enumerate() {
        if let Some(first) = devices[..second].iter().position(|other| *other == device) {
            return Err((second, DeviceError::TwoRanks { device, first, second }));
        }
        ranks.push(Opened::open(device, OPENING).map_err(|error| (second, error))?);
    }
    let library = Library::load().map_err(|error| (0, error))?;
    let ranks: Vec<_> = ranks
        .into_iter()
        .map(|opened| Arc::new(Communicator { library, opened, comm: Mutex::new(None) }))
        .collect();
    let opened = open_all(library, &ranks);
    if opened.is_err() {
        // Those that were opened wait for those that were not.
        for rank in &ranks {
            rank.abort();
        }
    }
    opened.map(|()| ranks)
}

fn open_all(library: &Library, ranks: &[Arc<Communicator>]) -> Result<(), (usize, DeviceError)> {
    let of = |rank: usize| move |error| (rank, error);
    let Some(first) = ranks.first() else { return Ok(()) };
    let mut id = std::mem::MaybeUninit::<UniqueId>::uninit();
    // SAFETY: writes the 128 bytes of an id through a valid pointer.
    first.check(OPENING, unsafe { (library.unique_id)(id.as_mut_ptr()) }).map_err(of(0))?;
    // SAFETY: written by the call above, which succeeded.
    let id = unsafe { id.assume_init() };
    // SAFETY: begins a group of calls, which is ended below on every path, by this thread.
    first.check(OPENING, unsafe { (library.group_start)() }).map_err(of(0))?;
    let begun = ranks
        .iter()
        .enumerate()
        .try_for_each(|(number, rank)| rank.begin(id, number, ranks.len()).map_err(of(number)));
    // SAFETY: ends the group begun above.
    let ended = first.check(OPENING, unsafe { (library.group_end)() }).map_err(of(0));
    begun.and(ended)?;
    ranks.iter().enumerate().try_for_each(|(number, rank)| rank.settle(OPENING).map_err(of(number)))
}

impl Communicator {
    pub(crate) fn device(&self) -> Device {
        self.opened.device
    }

    fn begin(&self, id: UniqueId, rank: usize, world: usize) -> Result<(), DeviceError> {
        let current = self.opened.context.bind_to_thread();
        current.map_err(|found| super::error::translate(self.device(), OPENING, found.0))?;
        let (mut comm, mut config): (Comm, _) = (std::ptr::null_mut(), Config::not_blocking());
        // SAFETY: the context of the device is current; the pointers are valid, and the configuration is copied.
        let answer = unsafe {
            (self.library.init_rank)(&raw mut comm, world as c_int, id, rank as c_int, &raw mut config)
        };
        *self.comm.lock() = (!comm.is_null()).then_some(Handle(comm));
        self.check(OPENING, answer)
    }

    /// Queues a call on the stream, after all work on what it uses; waits until it is queued, which the first time takes until all ranks
    /// have come.
    pub(crate) fn queue(
        &self,
        stream: &Stream,
        operation: &'static str,
        operands: &Operands<'_>,
        steps: &[Step],
    ) -> Result<(), DeviceError> {
        let start = |operand: &Option<Operand<'_>>| match operand {
            Some((memory, range)) => stream.address(memory, range, operation),
            None => Ok(0),
        };
        let (input, output) = (start(&operands.input)?, start(&operands.output)?);
        let reads = operands.input.iter().map(|(memory, _)| (*memory, Access::Read));
        let uses: Vec<_> =
            reads.chain(operands.output.iter().map(|(memory, _)| (*memory, Access::Write))).collect();
        stream.run(operation, &uses, || {
            {
                let comm = self.comm.lock();
                let Handle(comm) = comm.ok_or_else(|| self.ended(operation))?;
                // SAFETY: as in `open_all`.
                self.check(operation, unsafe { (self.library.group_start)() })?;
                let queue: library::CudaStream = stream.queue.cu_stream().cast();
                let queued = steps.iter().try_for_each(|step| {
                    // SAFETY: the communicator is neither aborted nor destroyed, for its lock is held; the stream is of its device. The
                    // memory is as long as the caller checked, and stays until work on it is done.
                    let answer = unsafe { self.call(comm, queue, step, operands, input, output) };
                    self.check(operation, answer)
                });
                // SAFETY: as in `open_all`.
                queued.and(self.check(operation, unsafe { (self.library.group_end)() }))?;
            }
            self.settle(operation)
        })
    }

    /// # Safety
    /// `comm` is this communicator, its lock is held, `queue` is of its device, and the operands are as long as `step` and their type say.
    unsafe fn call(
        &self,
        comm: Comm,
        queue: library::CudaStream,
        step: &Step,
        operands: &Operands<'_>,
        input: u64,
        output: u64,
    ) -> c_int {
        let at = |start: u64| std::ptr::without_provenance_mut::<c_void>(start as usize);
        let (len, width) = (operands.len, operands.dtype.size_bytes());
        // What is not reduced is copied, by the byte or by values, which is the same.
        let kind = kind(operands.dtype);
        let (from, to, library) = (at(input), at(output), self.library);
        // SAFETY: as the caller promises.
        unsafe {
            match step {
                Step::AllReduce(op) => (library.all_reduce)(to, to, len, kind, operation(*op), comm, queue),
                Step::ReduceScatter(op) => {
                    (library.reduce_scatter)(from, to, len, kind, operation(*op), comm, queue)
                }
                Step::AllGather => (library.all_gather)(from, to, len, kind, comm, queue),
                Step::Broadcast { root } => {
                    (library.broadcast)(to, to, len, kind, *root as c_int, comm, queue)
                }
                Step::Send { to, range } => {
                    let from = at(input + range.start as u64);
                    (library.send)(from, range.len() / width, kind, *to as c_int, comm, queue)
                }
                Step::Receive { from, range } => {
                    let to = at(output + range.start as u64);
                    (library.recv)(to, range.len() / width, kind, *from as c_int, comm, queue)
                }
            }
        }
    }

    /// Waits until what was begun is there, or the communicator has ended.
    fn settle(&self, operation: &'static str) -> Result<(), DeviceError> {
        let mut pauses = Pauses::default();
        while self.state(operation)? == IN_PROGRESS {
            pauses.next();
        }
        Ok(())
    }

    /// Whether it goes on: an error where it has ended, or where something went wrong on the way.
    pub(crate) fn state(&self, operation: &'static str) -> Result<c_int, DeviceError> {
        let comm = self.comm.lock();
        let Handle(handle) = comm.ok_or_else(|| self.ended(operation))?;
        let mut state = SUCCESS;
        // SAFETY: the communicator is there, for its lock is held; writes one integer through a valid pointer.
        let answer = unsafe { (self.library.async_error)(handle, &raw mut state) };
        let found = if answer == SUCCESS { state } else { answer };
        drop(comm);
        self.check(operation, found).map(|()| found)
    }

    /// Ends it from any thread: what is under way on the device stops, whatever has arrived.
    pub(crate) fn abort(&self) {
        let comm = self.comm.lock().take();
        if let Some(Handle(comm)) = comm {
            // SAFETY: taken, so nobody uses it any more, and it is freed once. Nothing can be done about a failure.
            let _ = unsafe { (self.library.abort)(comm) };
        }
    }

    /// Ends it after all its work is done.
    pub(crate) fn destroy(&self) {
        let comm = self.comm.lock().take();
        if let Some(Handle(comm)) = comm {
            // SAFETY: as in `abort`.
            let _ = unsafe { (self.library.destroy)(comm) };
        }
    }

    fn check(&self, operation: &'static str, answer: c_int) -> Result<(), DeviceError> {
        if matches!(answer, SUCCESS | IN_PROGRESS) {
            return Ok(());
        }
        // SAFETY: any communicator or none will do; the words are NCCL's, ended by a zero, and copied at once.
        let words = unsafe {
            let words = (self.library.last_error)(std::ptr::null_mut());
            if words.is_null() { String::new() } else { CStr::from_ptr(words).to_string_lossy().into_owned() }
        };
        let words = words.trim();
        let cause = format!("{}{}{words}", name(answer), if words.is_empty() { "" } else { ": " });
        Err(DeviceError::Nccl { device: self.device(), operation, cause })
    }

    fn ended(&self, operation: &'static str) -> DeviceError {
        let cause = "the communicator has ended".to_owned();
        DeviceError::Nccl { device: self.device(), operation, cause }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Communicator(on {})", self.device())
    }
}

/// Waits between two looks: longer, the more there have been.
#[derive(Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    pub(crate) fn next(&mut self) {
        self.0 = self.0.saturating_add(1);
        if self.0 < 100 { thread::yield_now() } else { thread::sleep(Duration::from_micros(50)) }
    }
}

/// `ncclDataType_t`
fn kind(dtype: DType) -> c_int {
    match dtype {
        DType::I8 => 0,
        DType::U8 | DType::Bool => 1,
        DType::I32 => 2,
        DType::U32 => 3,
        DType::I64 => 4,
        DType::F16 => 6,
        DType::F32 => 7,
        DType::F64 => 8,
        DType::BF16 => 9,
    }
}

/// `ncclRedOp_t`
fn operation(op: ReduceOp) -> c_int {
    match op {
        ReduceOp::Sum => 0,
        ReduceOp::Max => 2,
        ReduceOp::Min => 3,
        ReduceOp::Mean => 4,
    }
}

/// `ncclResult_t`
fn name(answer: c_int) -> String {
    const NAMES: [&str; 9] = [
        "ncclSuccess",
        "ncclUnhandledCudaError",
        "ncclSystemError",
        "ncclInternalError",
        "ncclInvalidArgument",
        "ncclInvalidUsage",
        "ncclRemoteError",
        "ncclInProgress",
        "ncclTimeout",
    ];
    let known = usize::try_from(answer).ok().and_then(|answer| NAMES.get(answer));
    known.map_or_else(|| format!("ncclResult_t {answer}"), |known| (*known).to_owned())
}
