//! [`Ragged`]: tensors of any shape, one a row.

use std::sync::Arc;

use air_core::tensor::{Element, Tensor};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};

use super::column::{Why, elements, flat, has_no_nulls, kind, why};
use super::extension::variable;

/// A column of tensors of any shape, over the memory of its batch: what [`TensorColumns::ragged`](super::TensorColumns::ragged) gives.
#[derive(Debug, Clone)]
pub struct Ragged {
    values: Tensor,
    /// Where each row's values begin, and where the last one's end.
    offsets: OffsetBuffer<i32>,
    /// The lengths of the axes, row after row; absent for tensors of one axis.
    shapes: Option<ScalarBuffer<i32>>,
    axes: usize,
}

impl Ragged {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of axes of each tensor.
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// The tensor of a row, without copying; `None` past the last row.
    pub fn get(&self, row: usize) -> Option<Tensor> {
        let range = *self.offsets.get(row)? as usize..*self.offsets.get(row + 1)? as usize;
        let shape = match &self.shapes {
            Some(shapes) => {
                shapes[row * self.axes..][..self.axes].iter().map(|axis| *axis as usize).collect()
            }
            None => vec![range.len()],
        };
        // Checked when it was read.
        self.values.slice(0, range).and_then(|values| values.reshape(&shape)).ok()
    }

    /// The tensors, row by row, without copying.
    pub fn iter(&self) -> impl Iterator<Item = Tensor> + '_ {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

pub(super) fn read(field: &Field, column: &ArrayRef) -> Why<Ragged> {
    has_no_nulls(column)?;
    let no = || {
        let kind = field.data_type();
        format!("a column of type {kind} is no column of tensors: those are lists, or lists with shapes")
    };
    let (list, shapes) = match column.as_struct_opt() {
        Some(tensors) => {
            let data = tensors.column_by_name("data").and_then(|data| data.as_list_opt::<i32>());
            let shape = tensors.column_by_name("shape").and_then(|shape| shape.as_fixed_size_list_opt());
            (data.ok_or_else(no)?, Some(shape.ok_or_else(no)?))
        }
        None => (column.as_list_opt::<i32>().ok_or_else(no)?, None),
    };
    has_no_nulls(list)?;
    let values = flat(list.values())?;
    let Some(shapes) = shapes else {
        return Ok(Ragged { values, offsets: list.offsets().clone(), shapes: None, axes: 1 });
    };
    has_no_nulls(shapes)?;
    has_no_nulls(shapes.values())?;
    let axes = usize::try_from(shapes.value_length()).unwrap_or(0);
    let lengths = shapes.values().as_primitive_opt::<Int32Type>().ok_or_else(no)?.values().clone();
    for (row, range) in list.offsets().windows(2).enumerate() {
        let shape = &lengths[row * axes..][..axes];
        let fills = shape
            .iter()
            .try_fold(1_usize, |all, axis| all.checked_mul(usize::try_from(*axis).ok()?))
            .is_some_and(|all| all == (range[1] - range[0]) as usize);
        if !fills {
            return Err(format!("row {row} has {} values for the shape {shape:?}", range[1] - range[0]));
        }
    }
    let ragged = Ragged { values, offsets: list.offsets().clone(), shapes: Some(lengths.clone()), axes };
    if let Some(row) = (0..ragged.len()).find(|row| ragged.get(*row).is_none()) {
        return Err(format!(
            "row {row} has the shape {:?}, which no tensor has",
            &lengths[row * axes..][..axes]
        ));
    }
    Ok(ragged)
}

pub(super) fn write<T: Element>(name: &str, axes: usize, tensors: &[Tensor]) -> Why<(Field, ArrayRef)> {
    let (mut values, mut offsets, mut lengths) = (Vec::<T>::new(), vec![0_i32], Vec::<i32>::new());
    for (row, tensor) in tensors.iter().enumerate() {
        if tensor.rank() != axes {
            return Err(format!("row {row} has a tensor of {} axes, not {axes}", tensor.rank()));
        }
        let long = || format!("more than 2^31 - 1 elements up to row {row}; use smaller batches");
        for axis in tensor.shape() {
            lengths.push(i32::try_from(*axis).map_err(|_| long())?);
        }
        values.extend(tensor.to_vec::<T>().map_err(|error| format!("row {row}: {error}"))?);
        offsets.push(i32::try_from(values.len()).map_err(|_| long())?);
    }
    let rows = tensors.len();
    let count = values.len();
    let values = elements(&Tensor::from_vec(values, &[count]).map_err(why)?)?;
    let item = |kind: DataType| Arc::new(Field::new("item", kind, false));
    let text = |error: arrow::error::ArrowError| error.to_string();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let data = ListArray::try_new(item(kind(T::DTYPE)?), offsets, values, None).map_err(text)?;
    let width = i32::try_from(axes).map_err(|_| format!("tensors of {axes} axes"))?;
    let lengths: ArrayRef = Arc::new(Int32Array::from(lengths));
    let shape = FixedSizeListArray::try_new_with_length(item(DataType::Int32), width, lengths, None, rows)
        .map_err(text)?;
    let fields = Fields::from(vec![
        Field::new("data", data.data_type().clone(), false),
        Field::new("shape", shape.data_type().clone(), false),
    ]);
    let tensors = StructArray::try_new_with_length(fields, vec![Arc::new(data), Arc::new(shape)], None, rows);
    let tensors = tensors.map_err(text)?;
    let field = variable(Field::new(name, tensors.data_type().clone(), false));
    Ok((field, Arc::new(tensors)))
}
