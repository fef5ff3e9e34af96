#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::{CudaStream, DriverError, result};

use super::error::translate;
use super::event::Event;
use super::memory::Memory;
use super::opened::Opened;
use super::staging::{self, Arriving};
use crate::device::pool::MemoryUse;
use crate::device::spares::EventUse;
use crate::device::uses::{Access, StreamId};
use crate::device::{Device, DeviceError};

/// An ordered queue of work on one CUDA device: copies and kernels run one after another, while the caller goes on.
///
/// A worker that was given GPUs has its own, [`Cx::stream`](crate::actor::Cx::stream). Work on two streams overlaps. Tensors may
/// pass between streams, of one device and of several: each carries events of its last uses, and a stream waits for those of other
/// streams on the device, while the host goes on. An error of the device shows at the call that meets it or at the next one;
/// [`DeviceError::Lost`] is final for all that is open on the device.
pub struct Stream {
    pub(super) id: StreamId,
    pub(super) opened: Arc<Opened>,
    pub(super) queue: Arc<CudaStream>,
}

impl Stream {
    /// A new stream on `device`, which must be a CUDA device.
    pub fn new(device: Device) -> Result<Stream, DeviceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        const OPENING: &str = "opening a stream";
        let opened = Opened::open(device, OPENING)?;
        let queue = opened.context.new_stream().map_err(|found| translate(device, OPENING, found.0))?;
        Ok(Stream { id: NEXT.fetch_add(1, Ordering::Relaxed), opened, queue })
    }

    /// The device it works on.
    pub fn device(&self) -> Device {
        self.opened.device
    }

    /// Waits until all queued work is done.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.run("synchronize", &[], || {
            self.queue.synchronize().map_err(|found| self.failed("synchronize", found))
        })
    }

    /// The point behind all work queued by now.
    pub fn record(&self) -> Result<Event, DeviceError> {
        self.event("recording an event")
    }

    /// Has all work queued from now on wait for `event`, on the device: it may be of another stream, and of another device.
    pub fn wait_for(&self, event: &Event) -> Result<(), DeviceError> {
        event.hold_up(&self.queue).map_err(|found| self.failed("waiting for an event", found))
    }

    /// What this process has of the device's memory, by all of its streams.
    pub fn memory_use(&self) -> MemoryUse {
        self.opened.memory.in_use()
    }

    /// Sets what this process may have of the device's memory, in use and kept for later use, by all of its streams; `None` is as much as there is.
    /// An allocation beyond it is [`DeviceError::OutOfMemory`].
    pub fn limit_memory(&self, limit_bytes: Option<u64>) {
        self.opened.memory.limit(limit_bytes);
    }

    /// Gives memory that is kept for later use back to the device, for other processes say. Waits for the work on it.
    pub fn release_memory(&self) {
        self.opened.memory.give_back();
        self.opened.locked.give_back();
        self.opened.events.give_back();
    }

    /// What this process has of the device's events, by all of its streams.
    pub fn event_use(&self) -> EventUse {
        self.opened.events.in_use()
    }

    /// Copies `from` to new memory of the device; all of `from` has been read when this returns.
    pub(crate) fn upload_bytes(&self, from: &[u8]) -> Result<Memory, DeviceError> {
        self.filled(from.len(), "upload", |memory| staging::upload(self, from, memory))
    }

    /// New memory of the device, all zero.
    pub(crate) fn zeroed_bytes(&self, len: usize) -> Result<Memory, DeviceError> {
        const ZEROING: &str = "zeroing memory";
        self.filled(len, ZEROING, |memory| {
            let start = self.address(memory, &(0..len), ZEROING)?;
            // SAFETY: the memory is `len` bytes long and stays until work on it is done.
            unsafe { result::memset_d8_async(start, 0, len, self.queue.cu_stream()) }
                .map_err(|found| self.failed(ZEROING, found))
        })
    }

    /// Copies the bytes `range` of `from`, which is on this device or another, to new memory of this device.
    pub(crate) fn copied_bytes(&self, from: &Memory, range: Range<usize>) -> Result<Memory, DeviceError> {
        const COPYING: &str = "copying between devices";
        let source = self.address(from, &range, COPYING)?;
        let memory = Memory::take(&self.opened, range.len(), self.id)?;
        let target = self.address(&memory, &(0..range.len()), COPYING)?;
        if !range.is_empty() {
            self.run(COPYING, &[(from, Access::Read), (&memory, Access::Write)], || {
                let (here, there) = (self.opened.context.cu_ctx(), from.context().cu_ctx());
                let (bytes, queue) = (range.len(), self.queue.cu_stream());
                // SAFETY: both hold `bytes` bytes, in the contexts named, and stay until work on them is done. Devices that cannot
                // reach each other are served by the driver by way of the host.
                unsafe { result::memcpy_peer_async(here, target, there, source, bytes, queue) }
                    .map_err(|found| self.failed(COPYING, found))
            })?;
        }
        Ok(memory)
    }

    /// Copies the bytes `range` of `from` into `to`, of the same length, and waits for them.
    pub(crate) fn download_bytes(
        &self,
        from: &Memory,
        range: Range<usize>,
        to: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.run("download", &[(from, Access::Read)], || staging::download(self, from, range, to))
    }

    /// Begins to copy the bytes `range` of `from` to the host.
    pub(crate) fn start_download_bytes(
        &self,
        from: &Memory,
        range: Range<usize>,
    ) -> Result<Arriving, DeviceError> {
        self.run("download", &[(from, Access::Read)], || Arriving::start(self, from, range))
    }

    fn filled(
        &self,
        len: usize,
        operation: &'static str,
        fill: impl FnOnce(&Memory) -> Result<(), DeviceError>,
    ) -> Result<Memory, DeviceError> {
        let memory = Memory::take(&self.opened, len, self.id)?;
        if len > 0 {
            self.run(operation, &[(&memory, Access::Write)], || fill(&memory))?;
        }
        Ok(memory)
    }

    /// Queues work after all work of other streams on the memory it uses, and notes its uses for work to come. Then asks for errors that
    /// were kept because they came up where none can be returned.
    pub(super) fn run<T>(
        &self,
        operation: &'static str,
        uses: &[(&Memory, Access)],
        work: impl FnOnce() -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let failed = |found| self.failed(operation, found);
        self.opened.context.bind_to_thread().map_err(failed)?;
        for (memory, access) in uses {
            for event in memory.before(*access, self.id) {
                event.hold_up(&self.queue).map_err(failed)?;
            }
        }
        let done = work();
        // Also after an error: some of the work may be queued.
        if !uses.is_empty() {
            let event = self.event(operation)?;
            for (memory, access) in uses {
                memory.note(*access, self.id, event.clone());
            }
        }
        let kept = self.opened.context.check_err();
        let done = done?;
        kept.map_err(failed)?;
        Ok(done)
    }

    /// The point behind all work queued by now. Where there can be none, all work is done, or lost, when this returns.
    pub(super) fn event(&self, operation: &'static str) -> Result<Event, DeviceError> {
        Event::record(&self.opened, &self.queue).map_err(|found| {
            let _ = self.queue.synchronize();
            self.failed(operation, found)
        })
    }

    /// Where the bytes `range` of `memory` begin.
    pub(super) fn address(
        &self,
        memory: &Memory,
        range: &Range<usize>,
        operation: &'static str,
    ) -> Result<u64, DeviceError> {
        memory.address(range).ok_or_else(|| DeviceError::Driver {
            device: self.device(),
            cause: "range beyond the memory".to_owned(),
            operation,
        })
    }

    pub(super) fn failed(&self, operation: &'static str, found: DriverError) -> DeviceError {
        let error = translate(self.device(), operation, found.0);
        if error.is_lost() {
            self.opened.give_up();
        }
        error
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream(on {})", self.device())
    }
}
