//! Vectors: columns of lists of one length, which are tensors.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::Field;

use super::failed;
use crate::error::Result;

/// A vector has at most as many numbers: a batch of 8192 rows of them takes 128 MiB.
pub(super) const MAX_WIDTH: usize = 4096;

/// Checks how long vectors are to be.
pub(super) fn width(op: &str, column: &str, width: usize) -> Result<usize> {
    if (1..=MAX_WIDTH).contains(&width) {
        return Ok(width);
    }
    Err(failed(op, column, format!("vectors of {width} numbers; between 1 and {MAX_WIDTH} are made")))
}

/// `rows` vectors of `width` numbers each, one after the other in `values`.
pub(super) fn vectors<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    width: usize,
    rows: usize,
) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", T::DATA_TYPE, false));
    let values: ArrayRef = Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None));
    let width = i32::try_from(width).unwrap_or(i32::MAX);
    Ok(Arc::new(FixedSizeListArray::try_new_with_length(item, width, values, None, rows)?))
}
