//! The elements as slices, vectors and ndarray views.

use std::sync::Arc;

use ndarray::{ArrayView, ArrayViewD, ArrayViewMutD, Dimension, IxDyn, ShapeBuilder, StrideShape};

use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{Element, Result, Tensor, TensorError};

impl Tensor {
    /// The elements as a slice, without copying.
    ///
    /// An error where they are not contiguous, not on the host, or not of type `T`.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        if !self.is_contiguous() {
            return Err(self.layout.not_contiguous());
        }
        self.elements("as_slice")
    }

    /// The elements as a slice to write to, if this handle alone holds the memory.
    ///
    /// [`TensorError::Shared`] where there is another handle, or the memory belongs to an Arrow buffer.
    pub fn as_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        if !self.is_contiguous() {
            return Err(self.layout.not_contiguous());
        }
        self.elements_mut("as_slice_mut")
    }

    /// The elements as an ndarray view of any rank, without copying.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        ArrayViewD::from_shape(strided(&self.layout), self.elements("view")?)
            .map_err(|_| self.layout.not_contiguous())
    }

    /// The elements as an ndarray view of a fixed rank, without copying: `view_as::<f32, Ix2>()`.
    pub fn view_as<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>> {
        self.view()?.into_dimensionality::<D>().map_err(|_| TensorError::WrongRank {
            expected: D::NDIM.unwrap_or(0),
            shape: self.shape().to_vec(),
        })
    }

    /// The elements as an ndarray view to write to, if this handle alone holds the memory.
    pub fn view_mut<T: Element>(&mut self) -> Result<ArrayViewMutD<'_, T>> {
        let layout = self.layout;
        ArrayViewMutD::from_shape(strided(&layout), self.elements_mut("view_mut")?)
            .map_err(|_| layout.not_contiguous())
    }

    /// A copy of the elements in row-major order.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.is_contiguous() {
            return Ok(self.elements::<T>("to_vec")?.to_vec());
        }
        Ok(self.view::<T>()?.iter().copied().collect())
    }

    /// The element at `index`, one number an axis.
    pub fn at<T: Element>(&self, index: &[usize]) -> Result<T> {
        let position = self.layout.position(index)? - self.layout.offset();
        Ok(self.elements::<T>("at")?[position])
    }

    /// The bytes of the elements in row-major order, without copying; they must be contiguous.
    pub fn as_bytes(&self) -> Result<&[u8]> {
        if !self.is_contiguous() {
            return Err(self.layout.not_contiguous());
        }
        self.host_bytes("as_bytes")
    }

    /// The same elements, contiguous: `self` again where they are so already, a copy otherwise.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        self.copied("contiguous")
    }

    /// Makes this handle the only one of its memory, by a copy where it is shared, so that it can be written to.
    pub fn make_unique(&mut self) -> Result<()> {
        if let Storage::Host(memory) = &mut self.storage
            && Arc::get_mut(memory).is_some_and(|memory| memory.bytes_mut().is_some())
        {
            return Ok(());
        }
        *self = self.copied("make_unique")?;
        Ok(())
    }

    /// A contiguous copy in fresh memory.
    fn copied(&self, operation: &'static str) -> Result<Tensor> {
        let bytes = self.host_bytes(operation)?;
        let layout = Layout::contiguous(self.shape(), self.dtype)?;
        let memory = if self.is_contiguous() {
            HostMemory::copied(bytes)
        } else {
            // The type does not matter to a copy, only the width.
            match self.dtype.size_bytes() {
                1 => gather::<u8>(&self.layout, bytes),
                2 => gather::<u16>(&self.layout, bytes),
                4 => gather::<u32>(&self.layout, bytes),
                _ => gather::<u64>(&self.layout, bytes),
            }
            .ok_or_else(|| self.layout.not_contiguous())?
        };
        Ok(Tensor { storage: Storage::host(memory), layout, dtype: self.dtype })
    }

    /// From the first element to the last in memory; in row-major order only if contiguous.
    fn elements<T: Element>(&self, operation: &'static str) -> Result<&[T]> {
        self.check_type::<T>()?;
        let bytes = self.host_bytes(operation)?;
        bytemuck::checked::try_cast_slice(bytes).map_err(|_| misaligned::<T>(bytes))
    }

    fn elements_mut<T: Element>(&mut self, operation: &'static str) -> Result<&mut [T]> {
        self.check_type::<T>()?;
        let bytes = self.host_bytes_mut(operation)?;
        let address = bytes.as_ptr();
        bytemuck::checked::try_cast_slice_mut(bytes).map_err(|_| misaligned_at::<T>(address))
    }

    /// The bytes from the first element to the last in memory, if this handle alone holds them.
    pub(super) fn host_bytes_mut(&mut self, operation: &'static str) -> Result<&mut [u8]> {
        let device = self.device();
        let range = self.byte_range();
        let Storage::Host(memory) = &mut self.storage else {
            return Err(TensorError::NotOnHost { operation, device });
        };
        let memory = Arc::get_mut(memory).and_then(HostMemory::bytes_mut).ok_or(TensorError::Shared)?;
        Ok(&mut memory[range])
    }

    /// The bytes from the first element to the last in memory.
    pub(super) fn host_bytes(&self, operation: &'static str) -> Result<&[u8]> {
        match &self.storage {
            Storage::Host(memory) => Ok(&memory.bytes()[self.byte_range()]),
            Storage::Cuda(_) => Err(TensorError::NotOnHost { operation, device: self.device() }),
        }
    }

    /// Invariant 1 of the module: this range lies within the storage.
    pub(super) fn byte_range(&self) -> std::ops::Range<usize> {
        let width = self.dtype.size_bytes();
        let start = self.layout.offset() * width;
        start..start + self.layout.span() * width
    }

    fn check_type<T: Element>(&self) -> Result<()> {
        if T::DTYPE == self.dtype {
            return Ok(());
        }
        Err(TensorError::WrongType { expected: T::DTYPE, found: self.dtype })
    }
}

/// The layout in ndarray's words, over memory that begins with the first element.
pub(super) fn strided(layout: &Layout) -> StrideShape<IxDyn> {
    let shape = IxDyn(layout.shape());
    // ndarray measures the reach of strides even where an axis of length 0 leaves nothing to reach.
    if layout.is_empty() { shape.into() } else { shape.strides(IxDyn(layout.strides())) }
}

/// Copies the strided elements in `bytes` one after another.
fn gather<B: bytemuck::Pod>(layout: &Layout, bytes: &[u8]) -> Option<HostMemory> {
    let from = ArrayViewD::<B>::from_shape(strided(layout), bytemuck::try_cast_slice(bytes).ok()?).ok()?;
    let mut memory = HostMemory::zeroed(layout.len() * size_of::<B>());
    let to = bytemuck::try_cast_slice_mut(memory.bytes_mut()?).ok()?;
    ArrayViewMutD::<B>::from_shape(IxDyn(layout.shape()), to).ok()?.assign(&from);
    Some(memory)
}

fn misaligned<T: Element>(bytes: &[u8]) -> TensorError {
    misaligned_at::<T>(bytes.as_ptr())
}

fn misaligned_at<T: Element>(address: *const u8) -> TensorError {
    TensorError::Misaligned { address: address.addr(), align: align_of::<T>(), dtype: T::DTYPE }
}
