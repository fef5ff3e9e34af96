//! Host memory: bytes we own, or an Arrow buffer we hold a share of.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use arrow_buffer::{Buffer, MutableBuffer};

use super::Element;

/// The bytes behind host tensors. They do not move while it lives.
#[derive(Debug)]
pub(crate) enum HostMemory {
    /// Ours: writable while there is one holder. 64-byte aligned, unless it was adopted from a `Vec`.
    Owned(MutableBuffer),
    /// Ours, large, and zero until written: 64-byte aligned within an allocation whose pages the system hands out when they are touched.
    Untouched { allocation: Vec<u8>, start: usize, len: usize },
    /// Shared with Arrow, which may have other holders: read only.
    Arrow(Buffer),
}

impl HostMemory {
    /// Whether so much memory can be had now. Arrow's allocator ends the process where it cannot.
    pub(crate) fn has_room(len_bytes: usize) -> bool {
        // What is small is had or the process is beyond help; asking costs as much as allocating.
        const LARGE_BYTES: usize = 1 << 28;
        len_bytes < LARGE_BYTES || Vec::<u8>::new().try_reserve_exact(len_bytes).is_ok()
    }

    /// Zeroed, 64-byte aligned memory.
    pub(crate) fn zeroed(len_bytes: usize) -> HostMemory {
        const ALIGNMENT: usize = 64;
        // From here on allocators map fresh pages, which are zero: writing zeros into them would only cost time. An aligned
        // allocation would do so, so we align within a plain one.
        const FRESH_BYTES: usize = if cfg!(miri) { 4 << 10 } else { 32 << 20 };
        if len_bytes >= FRESH_BYTES {
            let allocation = vec![0; len_bytes + ALIGNMENT];
            let start = allocation.as_ptr().align_offset(ALIGNMENT);
            if start <= ALIGNMENT {
                return HostMemory::Untouched { allocation, start, len: len_bytes };
            }
        }
        HostMemory::Owned(MutableBuffer::from_len_zeroed(len_bytes))
    }

    /// A 64-byte aligned copy.
    pub(crate) fn copied(bytes: &[u8]) -> HostMemory {
        let mut memory = MutableBuffer::with_capacity(bytes.len());
        memory.extend_from_slice(bytes);
        HostMemory::Owned(memory)
    }

    /// Takes over the memory of a vector without copying it.
    pub(crate) fn adopt<T: Element>(values: Vec<T>) -> HostMemory {
        // Arrow knows integers of every width, which stand for our element types bit by bit.
        let adopted = match size_of::<T>() {
            1 => bytemuck::try_cast_vec::<T, u8>(values).map(MutableBuffer::from),
            2 => bytemuck::try_cast_vec::<T, u16>(values).map(MutableBuffer::from),
            4 => bytemuck::try_cast_vec::<T, u32>(values).map(MutableBuffer::from),
            _ => bytemuck::try_cast_vec::<T, u64>(values).map(MutableBuffer::from),
        };
        adopted
            .map_or_else(|(_, values)| HostMemory::copied(bytemuck::cast_slice(&values)), HostMemory::Owned)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            HostMemory::Owned(memory) => memory.as_slice(),
            HostMemory::Untouched { allocation, start, len } => &allocation[*start..start + len],
            HostMemory::Arrow(buffer) => buffer.as_slice(),
        }
    }

    /// The bytes for writing; `None` where they belong to an Arrow buffer.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            HostMemory::Owned(memory) => Some(memory.as_slice_mut()),
            HostMemory::Untouched { allocation, start, len } => Some(&mut allocation[*start..*start + *len]),
            HostMemory::Arrow(_) => None,
        }
    }

    /// An Arrow buffer over these very bytes; it keeps `self` alive.
    pub(crate) fn to_arrow(self: &Arc<Self>) -> Buffer {
        let (start, len) = match &**self {
            HostMemory::Arrow(buffer) => return buffer.clone(),
            HostMemory::Owned(owned) => (owned.as_ptr(), owned.len()),
            HostMemory::Untouched { len, .. } => (self.bytes().as_ptr(), *len),
        };
        let Some(start) = NonNull::new(start.cast_mut()) else {
            return Buffer::default();
        };
        // SAFETY: `start` is valid for reads of `len` initialised bytes. The allocation neither moves nor
        // shrinks, because `MutableBuffer` and `Vec` do so only through `&mut`, and the `Arc` handed over as the owner
        // keeps it alive and shared: `Arc::get_mut`, the only way to `bytes_mut`, fails until the buffer
        // is dropped. So nothing writes to the bytes while Arrow reads them. Arrow never writes through a
        // custom allocation (`into_mutable` refuses it).
        unsafe { Buffer::from_custom_allocation(start, len, Arc::clone(self) as _) }
    }
}
