//! Tensors: typed, strided views over shared memory.
//!
//! A [`Tensor`] is a handle: shape, strides, offset and element type over reference-counted storage. Cloning,
//! slicing, transposing or sending one through a [channel](crate::channel) copies the handle and never the
//! elements, whatever their number. The elements lie in host memory, shared with Arrow buffers in both
//! directions, or in the memory of a CUDA device.
//!
//! ```
//! use air_core::tensor::{Tensor, TensorError};
//!
//! # fn main() -> Result<(), TensorError> {
//! let t = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
//! let column = t.select(1, 2)?; // no copy: shape [2], strides [3]
//! assert_eq!(column.to_vec::<f32>()?, [3.0, 6.0]);
//! assert!(column.shares_memory_with(&t));
//! assert_eq!(t.view::<f32>()?.sum(), 21.0); // an ndarray view
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//!
//! 1. Every element a tensor can reach lies within its storage: checked when it is made, kept by every view.
//! 2. Memory is written only through a handle that holds it alone ([`Tensor::as_slice_mut`]).
//! 3. Memory is aligned to its element type; memory allocated here is aligned to 64 bytes. A `Vec` or an Arrow
//!    buffer that was taken over keeps the alignment it came with.
//! 4. A shape has at most [`MAX_RANK`] axes; its size in bytes fits an `isize`.

mod arrow;
mod build;
mod dtype;
mod error;
mod host;
mod interop;
mod join;
mod layout;
mod read;
mod spill;
mod storage;
mod transfer;
pub mod wire;

use std::ops::RangeBounds;

pub use dtype::{DType, Element};
pub use error::TensorError;
pub use layout::MAX_RANK;
pub use transfer::Download;

use crate::channel::Weigh;
use crate::device::Device;
use layout::Layout;
use storage::Storage;

type Result<T> = std::result::Result<T, TensorError>;

/// A typed, strided view over shared memory; cheap to clone and to send.
///
/// Shapes and strides are in elements, the outermost axis first. See the [module](self) for the invariants.
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    layout: Layout,
    dtype: DType,
}

impl Tensor {
    /// Lengths of the axes, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Elements in memory from one position to the next, for each axis.
    pub fn strides(&self) -> &[usize] {
        self.layout.strides()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements; 1 for a scalar.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// True where an axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Bytes of the elements that this view shows (its storage may be larger).
    pub fn size_bytes(&self) -> usize {
        self.len() * self.dtype.size_bytes()
    }

    /// Where the elements lie.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// True where the elements lie one after another in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// True where both look at the same storage, whichever part of it.
    pub fn shares_memory_with(&self, other: &Tensor) -> bool {
        self.storage.same_memory(&other.storage)
    }

    /// The positions `range` along `axis`, without copying.
    pub fn slice(&self, axis: usize, range: impl RangeBounds<usize>) -> Result<Tensor> {
        Ok(self.with_layout(self.layout.slice(axis, range)?))
    }

    /// The position `index` along `axis`, which disappears, without copying: a row of a matrix is `select(0, i)`.
    pub fn select(&self, axis: usize, index: usize) -> Result<Tensor> {
        Ok(self.with_layout(self.layout.select(axis, index)?))
    }

    /// The same elements in another shape, without copying.
    ///
    /// An error where the elements are not contiguous ([`contiguous`](Self::contiguous) copies them so) or do
    /// not fill the shape.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(self.with_layout(self.layout.reshape(shape, self.dtype)?))
    }

    /// The axes in reverse order, without copying.
    pub fn transpose(&self) -> Tensor {
        self.with_layout(self.layout.transpose())
    }

    /// The axes in the order `axes`, without copying: `permute(&[0, 3, 1, 2])` takes NHWC to NCHW.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        Ok(self.with_layout(self.layout.permute(axes)?))
    }

    /// An axis of length 1 before `axis`, without copying: a row becomes a batch of one by `insert_axis(0)`.
    pub fn insert_axis(&self, axis: usize) -> Result<Tensor> {
        Ok(self.with_layout(self.layout.insert_axis(axis)?))
    }

    fn with_layout(&self, layout: Layout) -> Tensor {
        Tensor { storage: self.storage.clone(), layout, dtype: self.dtype }
    }
}

impl Weigh for Tensor {
    /// The bytes of the elements shown, on whatever device.
    fn weight_bytes(&self) -> usize {
        self.size_bytes()
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}{:?} on {})", self.dtype, self.shape(), self.device())
    }
}
