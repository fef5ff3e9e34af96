//! [`Cells`]: a column that is filled value by value: plain values, or lists of any or of a fixed length.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};

/// What a column's values are.
#[derive(Debug)]
pub(crate) enum Values {
    /// Bytes, or text where the flag says so: each value's end, and all of them behind each other.
    Bytes {
        ends: Vec<i32>,
        all: Vec<u8>,
        text: bool,
    },
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Ints(Vec<i64>),
}

/// How many values a row has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    One,
    Any(FieldRef),
    Fixed(FieldRef, usize),
}

/// A column that is filled row by row. A row is begun by pushing its values and ended by [`end`](Self::end), or it is null.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) values: Values,
    pub(crate) shape: Shape,
    nullable: bool,
    /// Where each row's list ends.
    ends: Vec<i32>,
    valid: Vec<bool>,
    nulls: usize,
}

impl Cells {
    /// For a column of a type that can be filled so; others are told.
    pub(crate) fn new(field: &Field) -> Result<Self, BoxError> {
        let (item, shape) = match field.data_type() {
            DataType::List(item) => (item.data_type(), Shape::Any(item.clone())),
            DataType::FixedSizeList(item, width) => {
                (item.data_type(), Shape::Fixed(item.clone(), usize::try_from(*width)?))
            }
            plain => (plain, Shape::One),
        };
        let values = match item {
            DataType::Binary => Values::Bytes { ends: vec![0], all: Vec::new(), text: false },
            DataType::Utf8 => Values::Bytes { ends: vec![0], all: Vec::new(), text: true },
            DataType::Float32 => Values::Floats(Vec::new()),
            DataType::Float64 => Values::Doubles(Vec::new()),
            DataType::Int64 => Values::Ints(Vec::new()),
            _ => {
                return Err(format!(
                    "column '{}' cannot be {}: Binary, Utf8, Int64, Float32, Float64 and lists of them can; cast it after reading",
                    field.name(),
                    field.data_type()
                )
                .into());
            }
        };
        let nullable = field.is_nullable();
        Ok(Self { values, shape, nullable, ends: vec![0], valid: Vec::new(), nulls: 0 })
    }

    pub(crate) fn rows(&self) -> usize {
        self.valid.len()
    }

    /// Values in all rows.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Bytes { ends, .. } => ends.len() - 1,
            Values::Floats(all) => all.len(),
            Values::Doubles(all) => all.len(),
            Values::Ints(all) => all.len(),
        }
    }

    pub(crate) fn push_bytes(&mut self, value: &[u8]) -> Result<(), BoxError> {
        let Values::Bytes { ends, all, text } = &mut self.values else { return Err("bytes".into()) };
        if *text && let Err(error) = std::str::from_utf8(value) {
            return Err(format!("is no text: not UTF-8 after {} bytes", error.valid_up_to()).into());
        }
        all.extend_from_slice(value);
        ends.push(i32::try_from(all.len()).map_err(|_| "has more than 2 GiB in one batch")?);
        Ok(())
    }

    /// Ends a row with the values that were pushed since the last one.
    pub(crate) fn end(&mut self) -> Result<(), BoxError> {
        let before = self.ends.last().copied().unwrap_or(0) as usize;
        let pushed = self.len() - before;
        match &self.shape {
            Shape::One if pushed == 1 => {}
            Shape::One if pushed == 0 => return self.null(),
            Shape::One => return Err(format!("has {pushed} values, where one is expected").into()),
            Shape::Any(_) => {}
            Shape::Fixed(_, width) if pushed == *width => {}
            Shape::Fixed(..) if pushed == 0 => return self.null(),
            Shape::Fixed(_, width) => {
                return Err(format!("has {pushed} values, where {width} are expected").into());
            }
        }
        self.ends.push(i32::try_from(self.len()).map_err(|_| "has more than 2^31 values in one batch")?);
        self.valid.push(true);
        Ok(())
    }

    /// Ends a row that has no value.
    pub(crate) fn null(&mut self) -> Result<(), BoxError> {
        if !self.nullable {
            return Err("is missing, and may not be null".into());
        }
        let fill = match &self.shape {
            Shape::One => 1,
            Shape::Any(_) => 0,
            Shape::Fixed(_, width) => *width,
        };
        for _ in 0..fill {
            match &mut self.values {
                Values::Bytes { ends, all, .. } => ends.push(all.len() as i32),
                Values::Floats(all) => all.push(0.0),
                Values::Doubles(all) => all.push(0.0),
                Values::Ints(all) => all.push(0),
            }
        }
        self.ends.push(i32::try_from(self.len()).map_err(|_| "has more than 2^31 values in one batch")?);
        self.valid.push(false);
        self.nulls += 1;
        Ok(())
    }

    /// The rows so far as a column; it is empty again.
    pub(crate) fn take(&mut self) -> Result<ArrayRef, BoxError> {
        let valid = std::mem::take(&mut self.valid);
        let rows = valid.len();
        let nulls = (std::mem::take(&mut self.nulls) > 0).then(|| NullBuffer::from(valid));
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let values = |nulls: Option<NullBuffer>, values: &mut Values| -> Result<ArrayRef, BoxError> {
            Ok(match values {
                Values::Bytes { ends, all, text } => {
                    let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                    let all = Buffer::from(std::mem::take(all));
                    if *text {
                        Arc::new(StringArray::try_new(ends, all, nulls)?)
                    } else {
                        Arc::new(BinaryArray::try_new(ends, all, nulls)?)
                    }
                }
                Values::Floats(all) => Arc::new(Float32Array::new(std::mem::take(all).into(), nulls)),
                Values::Doubles(all) => Arc::new(Float64Array::new(std::mem::take(all).into(), nulls)),
                Values::Ints(all) => Arc::new(Int64Array::new(std::mem::take(all).into(), nulls)),
            })
        };
        Ok(match &self.shape {
            Shape::One => values(nulls, &mut self.values)?,
            Shape::Any(item) => {
                let values = values(None, &mut self.values)?;
                Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new(ends.into()), values, nulls)?)
            }
            Shape::Fixed(item, width) => {
                let (values, width) = (values(None, &mut self.values)?, i32::try_from(*width)?);
                Arc::new(FixedSizeListArray::try_new_with_length(item.clone(), width, values, nulls, rows)?)
            }
        })
    }
}
