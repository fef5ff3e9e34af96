//! [`TensorColumns`]: the columns of a batch as tensors, and tensors as columns.

use std::sync::Arc;

use air_core::tensor::{DType, Element, Tensor, TensorError};
use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, RecordBatch, RecordBatchOptions,
    make_array,
};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use super::extension::{fixed, row_shape};
use super::ragged::{self, Ragged};
use crate::error::{DataError, Result};

/// A batch's columns as tensors over the same memory, and tensors as columns.
pub trait TensorColumns {
    /// A column as a tensor of shape `[rows, ...]`, over the batch's memory (booleans, which are bits in Arrow, are copied). A column of numbers has shape `[rows]`; one of lists of
    /// one length, or of `arrow.fixed_shape_tensor`, the shape of its rows after that, in the order of axes that its metadata gives.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`]; [`DataError::TensorColumn`] for a column with nulls, or of another type: 16-bit and unsigned 64-bit integers
    /// have to be cast first.
    fn tensor(&self, column: &str) -> Result<Tensor>;

    /// A column of tensors of any shape, over the batch's memory: `arrow.variable_shape_tensor`, or lists of numbers, which are tensors of one axis.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn ragged(&self, column: &str) -> Result<Ragged>;

    /// The batch with a tensor of shape `[rows, ...]` as a column, in the place of one of that name or after the last. It is not copied, unless its elements
    /// do not lie in order, or are booleans. `[rows]` makes a plain column, other shapes an `arrow.fixed_shape_tensor`.
    ///
    /// # Errors
    /// [`DataError::TensorColumn`] for another number of rows, for `bf16`, which Arrow has not, and for tensors on a device.
    fn with_tensor(&self, column: &str, tensor: &Tensor) -> Result<RecordBatch>;

    /// The batch with a tensor of `axes` axes for each row, of any shape, as a column (`arrow.variable_shape_tensor`). They are copied into one buffer.
    ///
    /// # Errors
    /// [`DataError::TensorColumn`] for another number of tensors than rows, or one of another type or number of axes.
    fn with_ragged<T: Element>(&self, column: &str, axes: usize, tensors: &[Tensor]) -> Result<RecordBatch>;
}

impl TensorColumns for RecordBatch {
    fn tensor(&self, column: &str) -> Result<Tensor> {
        let (field, values) = named(self, column)?;
        read(field, values, None).map_err(|reason| failed(column, reason))
    }

    fn ragged(&self, column: &str) -> Result<Ragged> {
        let (field, values) = named(self, column)?;
        ragged::read(field, values).map_err(|reason| failed(column, reason))
    }

    fn with_tensor(&self, column: &str, tensor: &Tensor) -> Result<RecordBatch> {
        let (field, values) = write(column, tensor).map_err(|reason| failed(column, reason))?;
        put(self, field, values)
    }

    fn with_ragged<T: Element>(&self, column: &str, axes: usize, tensors: &[Tensor]) -> Result<RecordBatch> {
        let (field, values) =
            ragged::write::<T>(column, axes, tensors).map_err(|reason| failed(column, reason))?;
        put(self, field, values)
    }
}

fn failed(column: &str, reason: String) -> DataError {
    DataError::TensorColumn { column: column.to_owned(), reason }
}

/// Why a column is no tensor, or a tensor no column.
pub(super) type Why<T> = std::result::Result<T, String>;

pub(super) fn why(error: TensorError) -> String {
    error.to_string()
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a Field, &'a ArrayRef)> {
    let fields = batch.schema_ref().fields();
    let Some(index) = fields.iter().position(|field| field.name() == name) else {
        let known = fields.iter().map(|field| field.name().clone()).collect();
        return Err(DataError::unknown_column(name, known));
    };
    Ok((&fields[index], batch.column(index)))
}

fn put(batch: &RecordBatch, field: Field, values: ArrayRef) -> Result<RecordBatch> {
    let name = field.name().clone();
    if values.len() != batch.num_rows() {
        let reason = format!("{} rows for a batch of {}", values.len(), batch.num_rows());
        return Err(failed(&name, reason));
    }
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    if let Some(index) = fields.iter().position(|field| *field.name() == name) {
        (fields[index], columns[index]) = (Arc::new(field), values);
    } else {
        fields.push(Arc::new(field));
        columns.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Schema::new_with_metadata(fields, batch.schema_ref().metadata().clone());
    Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
}

/// A column as a tensor, its elements converted where that is asked for.
pub(super) fn read(field: &Field, column: &ArrayRef, to: Option<&DataType>) -> Why<Tensor> {
    let shape = row_shape(field)?;
    let mut values = column.clone();
    loop {
        has_no_nulls(&values)?;
        let Some(list) = values.as_fixed_size_list_opt() else { break };
        values = list.values().clone();
    }
    if let Some(to) = to {
        values = cast(&values, to).map_err(|error| error.to_string())?;
    }
    let whole: Vec<usize> = std::iter::once(column.len()).chain(shape.shape.iter().copied()).collect();
    let tensor = flat(&values)?.reshape(&whole).map_err(why)?;
    let Some(order) = shape.permutation else { return Ok(tensor) };
    let axes: Vec<usize> = std::iter::once(0).chain(order.into_iter().map(|axis| axis + 1)).collect();
    tensor.permute(&axes).map_err(why)
}

pub(super) fn has_no_nulls(values: &dyn Array) -> Why<()> {
    if values.null_count() > 0 {
        return Err("it has nulls, which a tensor cannot hold: fill or filter them first".to_owned());
    }
    Ok(())
}

/// Plain values as a tensor of one axis.
pub(super) fn flat(values: &ArrayRef) -> Why<Tensor> {
    has_no_nulls(values)?;
    if let Some(bits) = values.as_boolean_opt() {
        return Tensor::from_vec(bits.values().iter().collect::<Vec<bool>>(), &[bits.len()]).map_err(why);
    }
    let kind = values.data_type();
    let dtype = dtype(kind).ok_or_else(|| {
        format!("values of type {kind} are no elements of a tensor; cast them to one of 8, 32 or 64 bits")
    })?;
    let data = values.to_data();
    let width = dtype.size_bytes();
    let buffer = match data.buffers() {
        [buffer] => buffer.slice_with_length(data.offset() * width, data.len() * width),
        _ => Buffer::from_vec(Vec::<u8>::new()),
    };
    Tensor::from_arrow(buffer, dtype, &[data.len()]).map_err(why)
}

fn dtype(kind: &DataType) -> Option<DType> {
    Some(match kind {
        DataType::Float16 => DType::F16,
        DataType::Float32 => DType::F32,
        DataType::Float64 => DType::F64,
        DataType::Int8 => DType::I8,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::UInt8 => DType::U8,
        DataType::UInt32 => DType::U32,
        _ => return None,
    })
}

/// The elements of a tensor, in order, as an array.
pub(super) fn elements(tensor: &Tensor) -> Why<ArrayRef> {
    if tensor.dtype() == DType::Bool {
        let values = tensor.to_vec::<bool>().map_err(why)?;
        return Ok(Arc::new(BooleanArray::from(values)));
    }
    let kind = kind(tensor.dtype())?;
    let buffer = tensor.contiguous().and_then(|tensor| tensor.to_arrow()).map_err(why)?;
    let data = ArrayData::builder(kind).len(tensor.len()).add_buffer(buffer).align_buffers(true).build();
    Ok(make_array(data.map_err(|error| error.to_string())?))
}

pub(super) fn kind(dtype: DType) -> Why<DataType> {
    Ok(match dtype {
        DType::F16 => DataType::Float16,
        DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
        DType::I8 => DataType::Int8,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U8 => DataType::UInt8,
        DType::U32 => DataType::UInt32,
        DType::Bool => DataType::Boolean,
        other => return Err(format!("Arrow has no type for {other}; convert it to f32")),
    })
}

fn write(name: &str, tensor: &Tensor) -> Why<(Field, ArrayRef)> {
    let values = elements(tensor)?;
    let [rows, shape @ ..] = tensor.shape() else {
        return Err("a tensor without axes is no column; its first axis is the rows".to_owned());
    };
    if shape.is_empty() {
        return Ok((Field::new(name, values.data_type().clone(), false), values));
    }
    let width = shape.iter().product::<usize>();
    let width = i32::try_from(width).map_err(|_| format!("a row of {width} elements; at most 2^31 - 1"))?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    let lists = FixedSizeListArray::try_new_with_length(item, width, values, None, *rows);
    let lists = lists.map_err(|error| error.to_string())?;
    let field = fixed(Field::new(name, lists.data_type().clone(), false), shape);
    Ok((field, Arc::new(lists)))
}
