use std::sync::Arc;

use super::host::HostMemory;
use crate::device::{Device, cuda};

/// The memory a tensor looks at. Cloning it copies a handle.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    Host(Arc<HostMemory>),
    Cuda(Arc<cuda::Memory>),
}

impl Storage {
    pub(crate) fn host(memory: HostMemory) -> Storage {
        Storage::Host(Arc::new(memory))
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Storage::Host(_) => Device::Cpu,
            Storage::Cuda(memory) => Device::Cuda(memory.ordinal()),
        }
    }

    pub(crate) fn same_memory(&self, other: &Storage) -> bool {
        match (self, other) {
            (Storage::Host(a), Storage::Host(b)) => a.bytes().as_ptr() == b.bytes().as_ptr(),
            (Storage::Cuda(a), Storage::Cuda(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
