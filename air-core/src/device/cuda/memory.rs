use cudarc::driver::CudaSlice;

/// Bytes on a device. Freed, in the order of their stream, when dropped.
pub(crate) struct Memory {
    pub(super) bytes: CudaSlice<u8>,
}

impl Memory {
    /// Which device they are on.
    pub(crate) fn ordinal(&self) -> usize {
        self.bytes.ordinal()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes on cuda:{})", self.bytes.len(), self.ordinal())
    }
}
