//! Arrow buffers, in both directions without copying.

use arrow_buffer::Buffer;

use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{DType, Result, Tensor, TensorError};

/// Arrow pads buffers to a multiple of this many bytes.
const ARROW_PADDING_BYTES: usize = 64;

impl Tensor {
    /// Looks at the values of an Arrow buffer, row-major, without copying.
    ///
    /// The buffer holds the values from its start; less than 64 bytes of padding may follow them. Errors:
    /// [`TensorError::WrongLength`] where it is shorter or longer; [`TensorError::Misaligned`] where it does not
    /// start at a multiple of the element's size (a buffer sliced at an odd place; copy it first);
    /// [`TensorError::NotABool`] where a boolean is not one byte of 0 or 1 (Arrow's own booleans are bits).
    pub fn from_arrow(buffer: Buffer, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let width = dtype.size_bytes();
        let layout = Layout::contiguous(shape, dtype)?;
        let wanted = layout.len() * width;
        if buffer.len() < wanted || buffer.len() - wanted >= ARROW_PADDING_BYTES {
            let found = buffer.len() / width;
            return Err(TensorError::WrongLength { found, expected: layout.len(), shape: shape.to_vec() });
        }
        let buffer = if buffer.len() > wanted { buffer.slice_with_length(0, wanted) } else { buffer };
        let address = buffer.as_ptr().addr();
        if wanted > 0 && !address.is_multiple_of(dtype.align_bytes()) {
            return Err(TensorError::Misaligned { address, align: dtype.align_bytes(), dtype });
        }
        check_bools(&buffer, dtype)?;
        // An empty Arrow buffer may hang at any address; ours are aligned.
        let memory = if wanted == 0 { HostMemory::zeroed(0) } else { HostMemory::Arrow(buffer) };
        Ok(Tensor { storage: Storage::host(memory), layout, dtype })
    }

    /// An Arrow buffer over these very elements, without copying; it keeps the memory alive.
    ///
    /// The elements must be contiguous and on the host. While the buffer lives, the memory counts as shared.
    pub fn to_arrow(&self) -> Result<Buffer> {
        let length = self.as_bytes()?.len();
        let Storage::Host(memory) = &self.storage else {
            return Err(TensorError::NotOnHost { operation: "to_arrow", device: self.device() });
        };
        Ok(memory.to_arrow().slice_with_length(self.byte_range().start, length))
    }
}

/// Booleans are the one element type for which not every byte is a value.
pub(super) fn check_bools(bytes: &[u8], dtype: DType) -> Result<()> {
    if dtype != DType::Bool {
        return Ok(());
    }
    match bytes.iter().position(|&byte| byte > 1) {
        Some(position) => Err(TensorError::NotABool { value: bytes[position], position }),
        None => Ok(()),
    }
}
