#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError};
use parking_lot::Mutex;

use super::kernel::Axpy;
use super::staging::{CHUNK_BYTES, Staging};
use super::{Memory, context, error::translate};
use crate::device::{Device, DeviceError};

/// An ordered queue of work on one CUDA device: copies and kernels run one after another, while the caller goes on.
///
/// Keep one per worker thread that uses the device: it holds the page-locked buffers and compiled kernels.
/// Tensors may pass between streams; cudarc orders the reads and writes across them. An error of the device shows at the
/// call that meets it or at the next one; [`DeviceError::Lost`] is final for the process.
pub struct Stream {
    device: Device,
    context: Arc<CudaContext>,
    queue: Arc<CudaStream>,
    staging: Mutex<Option<Staging>>,
    axpy: Mutex<Option<Axpy>>,
}

impl Stream {
    /// A new stream on `device`, which must be a CUDA device.
    pub fn new(device: Device) -> Result<Stream, DeviceError> {
        const OPENING: &str = "opening a stream";
        let context = context(device, OPENING)?;
        let queue = context.new_stream().map_err(|found| translate(device, OPENING, found.0))?;
        Ok(Stream { device, context, queue, staging: Mutex::new(None), axpy: Mutex::new(None) })
    }

    /// The device it works on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Waits until all queued work is done.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.job("synchronize", || self.queue.synchronize())
    }

    /// Copies `from` to new memory of the device; all of `from` has been read when this returns.
    pub(crate) fn upload_bytes(&self, from: &[u8]) -> Result<Memory, DeviceError> {
        self.job("upload", || {
            // cudarc does not allocate nothing.
            // SAFETY: the memory comes uninitialised; the copy queued next on the same stream fills it, ahead of any reader.
            let mut bytes = unsafe { self.queue.alloc::<u8>(from.len().max(1)) }?;
            if from.len() < CHUNK_BYTES {
                self.queue.memcpy_htod(from, &mut bytes)?;
            } else {
                self.staged(|staging| staging.upload(&self.queue, from, &mut bytes))?;
            }
            Ok(Memory { bytes })
        })
    }

    /// Copies the bytes `range` of `from` into `to`, of the same length, and waits for them.
    pub(crate) fn download_bytes(
        &self,
        from: &Memory,
        range: Range<usize>,
        to: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.job("download", || {
            if to.len() < CHUNK_BYTES {
                self.queue.memcpy_dtoh(&from.bytes.slice(range), to)?;
                return self.queue.synchronize();
            }
            self.staged(|staging| staging.download(&self.queue, &from.bytes, range, to))
        })
    }

    /// Queues `y = alpha * x + y` over f32 in the given bytes.
    pub(crate) fn axpy_bytes(
        &self,
        alpha: f32,
        x: (&Memory, Range<usize>),
        y: (&mut Memory, Range<usize>),
    ) -> Result<(), DeviceError> {
        let kernel = {
            let mut slot = self.axpy.lock();
            match &*slot {
                Some(kernel) => kernel.clone(),
                None => slot.insert(Axpy::load(self.device, &self.context)?).clone(),
            }
        };
        kernel.launch(self.device, &self.queue, alpha, x, y)?;
        self.job("axpy", || Ok(()))
    }

    /// The page-locked buffers, made when the first large copy needs them.
    fn staged<T>(&self, copy: impl FnOnce(&mut Staging) -> Result<T, DriverError>) -> Result<T, DriverError> {
        let mut slot = self.staging.lock();
        match &mut *slot {
            Some(staging) => copy(staging),
            None => copy(slot.insert(Staging::new(&self.context)?)),
        }
    }

    /// Runs one job, then asks for errors that cudarc kept because they came up where none can be returned.
    fn job<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        let done = work();
        let kept = self.context.check_err();
        let done = done.map_err(|found| translate(self.device, operation, found.0))?;
        kept.map_err(|found| translate(self.device, operation, found.0))?;
        Ok(done)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream(on {})", self.device)
    }
}
