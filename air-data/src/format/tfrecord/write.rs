//! [`Examples`]: batches → records.

use air_core::BoxError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};

use super::frame;

/// What a column is written as.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Bytes,
    Floats,
    Ints,
}

impl Kind {
    fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View => Self::Bytes,
            kind if kind.is_integer() => Self::Ints,
            DataType::Boolean => Self::Ints,
            kind if kind.is_floating() => Self::Floats,
            _ => return None,
        })
    }

    fn stored(self) -> DataType {
        match self {
            Self::Bytes => DataType::Binary,
            Self::Floats => DataType::Float32,
            Self::Ints => DataType::Int64,
        }
    }
}

struct Column {
    name: String,
    kind: Kind,
    list: bool,
}

/// Rows as `Example` messages: integers and booleans as integers, floats as floats of 32 bits, text and bytes as bytes, lists as several of them. A null is a
/// feature that is missing.
pub(crate) struct Examples {
    columns: Vec<Column>,
    out: Vec<u8>,
    features: Vec<u8>,
    list: Vec<u8>,
}

impl Examples {
    pub(crate) fn new(schema: &Schema) -> Result<Self, BoxError> {
        let column = |field: &Field| {
            let (item, list) = match field.data_type() {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    (item.data_type(), true)
                }
                plain => (plain, false),
            };
            let kind = Kind::of(item).ok_or_else(|| {
                format!("'{}' is {}, which TFRecord does not hold", field.name(), field.data_type())
            })?;
            Ok(Column { name: field.name().clone(), kind, list })
        };
        let columns = schema.fields().iter().map(|field| column(field)).collect::<Result<_, BoxError>>()?;
        Ok(Self { columns, out: Vec::new(), features: Vec::new(), list: Vec::new() })
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let stored = self.columns.iter().zip(batch.columns()).map(|(column, array)| {
            let item = column.kind.stored();
            let kind = if column.list { DataType::new_list(item, true) } else { item };
            let array =
                cast_with_options(array, &kind, &strict).map_err(|e| format!("'{}': {e}", column.name))?;
            Ok(array)
        });
        let stored = stored.collect::<Result<Vec<ArrayRef>, BoxError>>()?;
        let mut example = Vec::new();
        for row in 0..batch.num_rows() {
            self.features.clear();
            for (column, array) in self.columns.iter().zip(&stored) {
                if array.is_null(row) {
                    continue;
                }
                self.list.clear();
                if column.list {
                    let lists = array.as_list::<i32>();
                    let from = lists.value_offsets()[row] as usize;
                    let until = lists.value_offsets()[row + 1] as usize;
                    let values = lists.values();
                    if (from..until).any(|at| values.is_null(at)) {
                        return Err(format!(
                            "'{}' has a null in a list, which TFRecord cannot hold",
                            column.name
                        )
                        .into());
                    }
                    list(&mut self.list, column.kind, values, from..until);
                } else {
                    list(&mut self.list, column.kind, array, row..row + 1);
                }
                entry(&mut self.features, &column.name, column.kind, &self.list);
            }
            example.clear();
            field(&mut example, 1, &self.features);
            frame::put(&mut self.out, &example);
        }
        Ok(())
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The bytes of a field with so long a value, whose tag is one byte.
fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

fn head(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | 2);
    varint(out, length as u64);
}

fn field(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    head(out, number, value.len());
    out.extend_from_slice(value);
}

/// The message of a list.
fn list(out: &mut Vec<u8>, kind: Kind, values: &ArrayRef, range: std::ops::Range<usize>) {
    match kind {
        Kind::Bytes => {
            let values = values.as_binary::<i32>();
            for at in range {
                field(out, 1, values.value(at));
            }
        }
        Kind::Floats => {
            let values = &values.as_primitive::<Float32Type>().values()[range];
            head(out, 1, 4 * values.len());
            for value in values {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Kind::Ints => {
            let values = &values.as_primitive::<Int64Type>().values()[range];
            head(out, 1, values.iter().map(|value| varint_len(*value as u64)).sum());
            for value in values {
                varint(out, *value as u64);
            }
        }
    }
}

/// An entry of the map from names to features.
fn entry(out: &mut Vec<u8>, name: &str, kind: Kind, list: &[u8]) {
    let feature = field_len(list.len());
    head(out, 1, field_len(name.len()) + field_len(feature));
    field(out, 1, name.as_bytes());
    head(out, 2, feature);
    let number = match kind {
        Kind::Bytes => 1,
        Kind::Floats => 2,
        Kind::Ints => 3,
    };
    field(out, number, list);
}
