//! Where the elements of a tensor lie: shape, strides and offset, without any memory.

use std::ops::{Bound, RangeBounds};

use super::{DType, TensorError};

/// The most axes a tensor has. A fixed number keeps shapes inline, so that a slice allocates nothing.
pub const MAX_RANK: usize = 8;

/// Shape, strides and offset, all in elements; the outermost axis first.
///
/// Held by every constructor: the element count of the shape and each offset within it fit an `isize`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    rank: u8,
    shape: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Layout {
    /// Row-major from position 0.
    pub(crate) fn contiguous(shape: &[usize], dtype: DType) -> Result<Layout, TensorError> {
        if shape.len() > MAX_RANK {
            return Err(TensorError::TooManyAxes { shape: shape.to_vec() });
        }
        let mut layout =
            Layout { rank: shape.len() as u8, shape: [0; MAX_RANK], strides: [0; MAX_RANK], offset: 0 };
        layout.shape[..shape.len()].copy_from_slice(shape);
        // An axis of length 0 counts as 1 here, so that the strides beside it cannot overflow either.
        let mut step = 1usize;
        for axis in (0..shape.len()).rev() {
            layout.strides[axis] = step;
            step = step
                .checked_mul(shape[axis].max(1))
                .filter(|count| {
                    count.checked_mul(dtype.size_bytes()).is_some_and(|bytes| isize::try_from(bytes).is_ok())
                })
                .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec(), dtype })?;
        }
        Ok(layout)
    }

    /// No axes: one element.
    pub(crate) fn scalar() -> Layout {
        Layout { rank: 0, shape: [0; MAX_RANK], strides: [0; MAX_RANK], offset: 0 }
    }

    /// Any strides, over memory of `available` elements; an error where an element would lie outside.
    pub(crate) fn strided(
        shape: &[usize],
        strides: &[usize],
        offset: usize,
        available: usize,
        dtype: DType,
    ) -> Result<Layout, TensorError> {
        let mut layout = Layout::contiguous(shape, dtype)?;
        let too_large = || TensorError::TooLarge { shape: shape.to_vec(), dtype };
        if strides.len() != shape.len() {
            return Err(TensorError::WrongRank { expected: strides.len(), shape: shape.to_vec() });
        }
        layout.strides[..strides.len()].copy_from_slice(strides);
        layout.offset = offset;
        if layout.is_empty() {
            layout.offset = 0;
            return Ok(layout);
        }
        let mut end = offset.checked_add(1).ok_or_else(too_large)?;
        for (&length, &stride) in shape.iter().zip(strides) {
            end = (length - 1)
                .checked_mul(stride)
                .and_then(|far| end.checked_add(far))
                .ok_or_else(too_large)?;
        }
        if end > available {
            return Err(TensorError::WrongLength { found: available, expected: end, shape: shape.to_vec() });
        }
        Ok(layout)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank as usize]
    }

    pub(crate) fn strides(&self) -> &[usize] {
        &self.strides[..self.rank as usize]
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The same strides over memory that begins where this layout's first element lies.
    pub(crate) fn rebased(mut self) -> Layout {
        self.offset = 0;
        self
    }

    /// Number of elements; 1 for a scalar (no axes).
    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// Elements from the first to one past the last in memory; at least `len`.
    pub(crate) fn span(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        1 + self
            .shape()
            .iter()
            .zip(self.strides())
            .map(|(length, stride)| (length - 1) * stride)
            .sum::<usize>()
    }

    /// Row-major without gaps. Strides of axes with one element do not matter.
    pub(crate) fn is_contiguous(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut step = 1;
        for (&length, &stride) in self.shape().iter().zip(self.strides()).rev() {
            if length != 1 && stride != step {
                return false;
            }
            step *= length;
        }
        true
    }

    /// Where the element at `index` lies.
    pub(crate) fn position(&self, index: &[usize]) -> Result<usize, TensorError> {
        if index.len() != self.shape().len() {
            return Err(TensorError::WrongRank { expected: index.len(), shape: self.shape().to_vec() });
        }
        let mut position = self.offset;
        for (axis, &at) in index.iter().enumerate() {
            self.check_index(axis, at)?;
            position += at * self.strides[axis];
        }
        Ok(position)
    }

    pub(crate) fn slice(&self, axis: usize, range: impl RangeBounds<usize>) -> Result<Layout, TensorError> {
        let length = self.axis_length(axis)?;
        // Saturating is enough: an end at `usize::MAX` is refused just below.
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at.saturating_add(1),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => length,
        };
        if start > end || end > length {
            return Err(TensorError::RangeOutOfRange { start, end, axis, shape: self.shape().to_vec() });
        }
        let mut layout = *self;
        layout.shape[axis] = end - start;
        // An empty view stays where it is: its start may lie beyond the memory.
        if !layout.is_empty() {
            layout.offset += start * layout.strides[axis];
        }
        Ok(layout)
    }

    pub(crate) fn select(&self, axis: usize, index: usize) -> Result<Layout, TensorError> {
        self.axis_length(axis)?;
        self.check_index(axis, index)?;
        let mut layout = *self;
        if !layout.is_empty() {
            layout.offset += index * layout.strides[axis];
        }
        let rank = self.rank as usize;
        layout.shape.copy_within(axis + 1..rank, axis);
        layout.strides.copy_within(axis + 1..rank, axis);
        layout.forget_axes(rank - 1);
        Ok(layout)
    }

    pub(crate) fn insert_axis(&self, axis: usize) -> Result<Layout, TensorError> {
        let rank = self.rank as usize;
        if axis > rank {
            return Err(TensorError::AxisOutOfRange { axis, shape: self.shape().to_vec() });
        }
        if rank == MAX_RANK {
            let mut shape = self.shape().to_vec();
            shape.insert(axis, 1);
            return Err(TensorError::TooManyAxes { shape });
        }
        let mut layout = *self;
        layout.shape.copy_within(axis..rank, axis + 1);
        layout.strides.copy_within(axis..rank, axis + 1);
        layout.shape[axis] = 1;
        layout.strides[axis] = 1;
        layout.rank += 1;
        Ok(layout)
    }

    pub(crate) fn permute(&self, axes: &[usize]) -> Result<Layout, TensorError> {
        let rank = self.rank as usize;
        let mut seen = [false; MAX_RANK];
        let each_once = axes.len() == rank
            && axes.iter().all(|&axis| axis < rank && !std::mem::replace(&mut seen[axis], true));
        if !each_once {
            return Err(TensorError::NotAPermutation { axes: axes.to_vec(), shape: self.shape().to_vec() });
        }
        let mut layout = *self;
        for (to, &from) in axes.iter().enumerate() {
            layout.shape[to] = self.shape[from];
            layout.strides[to] = self.strides[from];
        }
        Ok(layout)
    }

    pub(crate) fn transpose(&self) -> Layout {
        let mut layout = *self;
        let rank = self.rank as usize;
        layout.shape[..rank].reverse();
        layout.strides[..rank].reverse();
        layout
    }

    pub(crate) fn reshape(&self, shape: &[usize], dtype: DType) -> Result<Layout, TensorError> {
        let mut layout = Layout::contiguous(shape, dtype)?;
        if layout.len() != self.len() {
            return Err(TensorError::WrongLength {
                found: self.len(),
                expected: layout.len(),
                shape: shape.to_vec(),
            });
        }
        if !self.is_contiguous() {
            return Err(self.not_contiguous());
        }
        layout.offset = self.offset;
        Ok(layout)
    }

    pub(crate) fn not_contiguous(&self) -> TensorError {
        TensorError::NotContiguous { shape: self.shape().to_vec(), strides: self.strides().to_vec() }
    }

    fn axis_length(&self, axis: usize) -> Result<usize, TensorError> {
        self.shape()
            .get(axis)
            .copied()
            .ok_or_else(|| TensorError::AxisOutOfRange { axis, shape: self.shape().to_vec() })
    }

    fn check_index(&self, axis: usize, index: usize) -> Result<(), TensorError> {
        if index < self.shape[axis] {
            return Ok(());
        }
        Err(TensorError::IndexOutOfRange { index, axis, shape: self.shape().to_vec() })
    }

    /// Clears what lies beyond the rank, so that equal layouts compare equal.
    fn forget_axes(&mut self, rank: usize) {
        self.rank = rank as u8;
        self.shape[rank..].fill(0);
        self.strides[rank..].fill(0);
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
