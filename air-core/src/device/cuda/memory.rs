//! Memory of a device and page-locked memory of the host, as sources of pools.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError, result, sys};

use super::error::translate;
use super::event::Event;
use super::opened::Opened;
use crate::device::pool::{Held, MemoryUse, Source};
use crate::device::uses::{Access, StreamId};
use crate::device::{Device, DeviceError};

/// Bytes on a device. Kept for their next use when dropped: at once for the stream that used them last, for others when its work is done.
pub(crate) struct Memory {
    held: Held<OnDevice>,
    /// Outlives what is held, so that the pool and the context are still there.
    opened: Arc<Opened>,
    len: usize,
}

impl Memory {
    /// Memory with whatever was in it; what fills it is to come next on `stream`.
    pub(super) fn take(opened: &Arc<Opened>, len: usize, stream: StreamId) -> Result<Memory, DeviceError> {
        Ok(Memory { held: opened.memory.take(len, stream)?, opened: Arc::clone(opened), len })
    }

    /// Which device they are on.
    pub(crate) fn ordinal(&self) -> usize {
        self.opened.context.ordinal()
    }

    /// Where the bytes `range` begin; `None` where they reach beyond the memory.
    pub(super) fn address(&self, range: &Range<usize>) -> Option<u64> {
        (range.start <= range.end && range.end <= self.len).then(|| self.held.address() + range.start as u64)
    }

    pub(super) fn context(&self) -> &CudaContext {
        &self.opened.context
    }

    pub(super) fn before(&self, access: Access, stream: StreamId) -> Vec<Event> {
        self.held.before(access, stream)
    }

    pub(super) fn note(&self, access: Access, stream: StreamId, event: Event) {
        self.held.note(access, stream, event);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes on cuda:{})", self.len, self.ordinal())
    }
}

/// The memory of a device.
pub(super) struct OnDevice {
    pub(super) context: Arc<CudaContext>,
}

impl OnDevice {
    fn device(&self) -> Device {
        Device::Cuda(self.context.ordinal())
    }
}

impl Source for OnDevice {
    type Fence = Event;

    fn allocate(&self, bytes: usize) -> Result<Option<u64>, DeviceError> {
        // SAFETY: the context is current. The memory comes uninitialised, which any bytes are on a device; nothing reads it on the
        // host but by copies of what was written before.
        let given = self.context.bind_to_thread().and_then(|()| unsafe { result::malloc_sync(bytes) });
        some_or_full(given, self.device(), "allocating memory")
    }

    fn free(&self, address: u64, _: usize) {
        // SAFETY: the address comes from `allocate`, once, and the pool waited for all work on it.
        let freed = bind(&self.context).and_then(|()| unsafe { result::free_sync(address) });
        self.context.record_err(freed);
    }

    fn full(&self, bytes: usize, now: MemoryUse) -> DeviceError {
        DeviceError::OutOfMemory {
            device: self.device(),
            asked_bytes: bytes as u64,
            in_use_bytes: now.in_use_bytes,
            free_bytes: self.context.mem_get_info().map_or(0, |(free, _)| free as u64),
            limit_bytes: now.limit_bytes,
        }
    }
}

/// Page-locked memory of the host.
pub(super) struct OnHost {
    pub(super) context: Arc<CudaContext>,
}

impl Source for OnHost {
    type Fence = Event;

    fn allocate(&self, bytes: usize) -> Result<Option<u64>, DeviceError> {
        // Not write-combined, for downloads read it; and usable from every context.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the context is current. The memory comes uninitialised; `staging` only copies to and from it by pointer.
        let given = self.context.bind_to_thread().and_then(|()| unsafe { result::malloc_host(bytes, flags) });
        let given = given.map(|start| start.expose_provenance() as u64);
        some_or_full(given, Device::Cuda(self.context.ordinal()), "locking memory of the host")
    }

    fn free(&self, address: u64, _: usize) {
        let start = std::ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: the address comes from `allocate`, once, and the pool waited for all work on it.
        let freed = bind(&self.context).and_then(|()| unsafe { result::free_host(start) });
        self.context.record_err(freed);
    }

    fn full(&self, bytes: usize, now: MemoryUse) -> DeviceError {
        DeviceError::NoLockedMemory {
            device: Device::Cuda(self.context.ordinal()),
            asked_bytes: bytes as u64,
            in_use_bytes: now.in_use_bytes,
        }
    }
}

/// Makes a context current where an error that was kept of something else must not keep from it. It stays kept.
pub(super) fn bind(context: &CudaContext) -> Result<(), DriverError> {
    context.bind_to_thread().or_else(|kept| {
        let bound = context.bind_to_thread();
        context.record_err::<()>(Err(kept));
        bound
    })
}

fn some_or_full(
    given: Result<u64, DriverError>,
    device: Device,
    operation: &'static str,
) -> Result<Option<u64>, DeviceError> {
    match given {
        Ok(address) => Ok(Some(address)),
        Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
        Err(found) => Err(translate(device, operation, found.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_memory_is_full() {
        let device = Device::Cuda(0);
        let ask = |found| some_or_full(Err(DriverError(found)), device, "allocating memory");
        assert_eq!(ask(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY), Ok(None));
        assert!(ask(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS).is_err_and(|error| error.is_lost()));
        assert_eq!(some_or_full(Ok(7), device, "allocating memory"), Ok(Some(7)));
    }
}
