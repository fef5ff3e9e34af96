//! New tensors from values.

use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{DType, Element, Result, Tensor, TensorError};

impl Tensor {
    /// Takes over the memory of `values`, row-major, without copying.
    ///
    /// An error where the values do not fill `shape` exactly.
    pub fn from_vec<T: Element>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
        let layout = filled(values.len(), shape, T::DTYPE)?;
        Ok(Tensor { storage: Storage::host(HostMemory::adopt(values)), layout, dtype: T::DTYPE })
    }

    /// Copies `values`, row-major, into memory aligned to 64 bytes.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Tensor> {
        let layout = filled(values.len(), shape, T::DTYPE)?;
        let memory = HostMemory::copied(bytemuck::cast_slice(values));
        Ok(Tensor { storage: Storage::host(memory), layout, dtype: T::DTYPE })
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor {
            storage: Storage::host(HostMemory::copied(bytemuck::bytes_of(&value))),
            layout: Layout::scalar(),
            dtype: T::DTYPE,
        }
    }

    /// Zeros (for booleans, `false`) in memory aligned to 64 bytes; an error where there is no memory for them.
    pub fn zeros<T: Element>(shape: &[usize]) -> Result<Tensor> {
        Tensor::zeros_of(T::DTYPE, shape)
    }

    /// As [`zeros`](Self::zeros), for an element type known at run time.
    pub fn zeros_of(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let layout = Layout::contiguous(shape, dtype)?;
        let needed_bytes = layout.len() * dtype.size_bytes();
        if !HostMemory::has_room(needed_bytes) {
            return Err(TensorError::OutOfMemory { needed_bytes, shape: shape.to_vec() });
        }
        let memory = HostMemory::zeroed(needed_bytes);
        Ok(Tensor { storage: Storage::host(memory), layout, dtype })
    }

    /// `value` everywhere, in memory aligned to 64 bytes.
    pub fn full<T: Element>(value: T, shape: &[usize]) -> Result<Tensor> {
        let mut tensor = Tensor::zeros::<T>(shape)?;
        tensor.as_slice_mut::<T>()?.fill(value);
        Ok(tensor)
    }
}

/// The row-major layout of `shape`, if `found` values fill it.
pub(super) fn filled(found: usize, shape: &[usize], dtype: DType) -> Result<Layout> {
    let layout = Layout::contiguous(shape, dtype)?;
    if layout.len() == found {
        return Ok(layout);
    }
    Err(TensorError::WrongLength { found, expected: layout.len(), shape: shape.to_vec() })
}
