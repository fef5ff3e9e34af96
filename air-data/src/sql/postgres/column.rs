//! [`Column`]: an Arrow column that is filled with values as they are on the wire.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use bytes::Buf;

use super::kind::Kind;
use super::numeric;

/// Days and microseconds from Unix's epoch to PostgreSQL's, the beginning of 2000.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;

/// An Arrow column that is filled value by value.
#[derive(Debug)]
pub(super) struct Column {
    kind: Kind,
    values: Values,
    nullable: bool,
    valid: Vec<bool>,
    nulls: usize,
}

#[derive(Debug)]
enum Values {
    Bools(Vec<bool>),
    Shorts(Vec<i16>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Decimals(Vec<i128>),
    /// Text and bytes: where each ends, and all of them behind each other.
    Bytes(Vec<i32>, Vec<u8>),
    /// Where each list ends, and all their items.
    Lists(Vec<i32>, Box<Column>),
}

impl Values {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bools(Vec::new()),
            Kind::Int2 => Self::Shorts(Vec::new()),
            Kind::Int4 | Kind::Date => Self::Ints(Vec::new()),
            Kind::Int8 | Kind::Time | Kind::Timestamp | Kind::TimestampTz => Self::Longs(Vec::new()),
            Kind::Float4 => Self::Floats(Vec::new()),
            Kind::Float8 => Self::Doubles(Vec::new()),
            Kind::Numeric { .. } => Self::Decimals(Vec::new()),
            Kind::Text | Kind::Bytes => Self::Bytes(vec![0], Vec::new()),
            Kind::List(item) => Self::Lists(vec![0], Box::new(Column::new((**item).clone(), true))),
        }
    }
}

impl Column {
    pub(super) fn new(kind: Kind, nullable: bool) -> Self {
        Self { values: Values::of(&kind), kind, nullable, valid: Vec::new(), nulls: 0 }
    }

    /// Adds a value, or none; about how many bytes it takes. After an error it has to be [`truncate`](Self::truncate)d.
    pub(super) fn push(&mut self, value: Option<&[u8]>) -> Result<usize, BoxError> {
        match value {
            Some(bytes) => self.fill(bytes)?,
            None if self.nullable => self.fill_null()?,
            None => return Err("is null, which the schema does not allow".into()),
        }
        self.valid.push(value.is_some());
        self.nulls += usize::from(value.is_none());
        Ok(value.map_or(0, <[u8]>::len) + 8)
    }

    fn fill(&mut self, mut bytes: &[u8]) -> Result<(), BoxError> {
        match (&mut self.values, &self.kind) {
            (Values::Bools(all), _) => all.push(u8::from_be_bytes(exact(bytes)?) != 0),
            (Values::Shorts(all), _) => all.push(i16::from_be_bytes(exact(bytes)?)),
            (Values::Ints(all), Kind::Date) => all.push(date(i32::from_be_bytes(exact(bytes)?))?),
            (Values::Ints(all), _) => all.push(i32::from_be_bytes(exact(bytes)?)),
            (Values::Longs(all), kind) => {
                let value = i64::from_be_bytes(exact(bytes)?);
                all.push(match kind {
                    Kind::Time => time(value)?,
                    Kind::Timestamp | Kind::TimestampTz => timestamp(value)?,
                    _ => value,
                });
            }
            (Values::Floats(all), _) => all.push(f32::from_be_bytes(exact(bytes)?)),
            (Values::Doubles(all), _) => all.push(f64::from_be_bytes(exact(bytes)?)),
            (Values::Decimals(all), Kind::Numeric { precision, scale }) => {
                all.push(numeric::decode(bytes, *precision, *scale)?);
            }
            (Values::Decimals(_), _) => return Err("has no digits".into()),
            (Values::Bytes(ends, all), _) => {
                let end = i32::try_from(all.len() + bytes.len()).map_err(|_| too_large())?;
                all.extend_from_slice(bytes);
                ends.push(end);
            }
            (Values::Lists(ends, items), _) => {
                list(&mut bytes, items)?;
                ends.push(i32::try_from(items.valid.len()).map_err(|_| too_large())?);
            }
        }
        Ok(())
    }

    fn fill_null(&mut self) -> Result<(), BoxError> {
        match &mut self.values {
            Values::Bools(all) => all.push(false),
            Values::Shorts(all) => all.push(0),
            Values::Ints(all) => all.push(0),
            Values::Longs(all) => all.push(0),
            Values::Floats(all) => all.push(0.0),
            Values::Doubles(all) => all.push(0.0),
            Values::Decimals(all) => all.push(0),
            Values::Bytes(ends, all) => ends.push(i32::try_from(all.len()).map_err(|_| too_large())?),
            Values::Lists(ends, items) => {
                ends.push(i32::try_from(items.valid.len()).map_err(|_| too_large())?);
            }
        }
        Ok(())
    }

    /// Leaves the first values, also of one that failed halfway.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bools(all) => all.truncate(rows),
            Values::Shorts(all) => all.truncate(rows),
            Values::Ints(all) => all.truncate(rows),
            Values::Longs(all) => all.truncate(rows),
            Values::Floats(all) => all.truncate(rows),
            Values::Doubles(all) => all.truncate(rows),
            Values::Decimals(all) => all.truncate(rows),
            Values::Bytes(ends, all) => {
                ends.truncate(rows + 1);
                all.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Lists(ends, items) => {
                ends.truncate(rows + 1);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
        self.valid.truncate(rows);
        self.nulls = self.valid.iter().filter(|valid| !**valid).count();
    }

    /// The values so far as a column; it is empty again.
    pub(super) fn take(&mut self) -> Result<ArrayRef, BoxError> {
        let valid = std::mem::take(&mut self.valid);
        let nulls = (std::mem::take(&mut self.nulls) > 0).then(|| NullBuffer::from(valid));
        let values = std::mem::replace(&mut self.values, Values::of(&self.kind));
        Ok(match (values, &self.kind) {
            (Values::Bools(all), _) => Arc::new(BooleanArray::new(all.into(), nulls)),
            (Values::Shorts(all), _) => Arc::new(Int16Array::new(all.into(), nulls)),
            (Values::Ints(all), Kind::Date) => Arc::new(Date32Array::new(all.into(), nulls)),
            (Values::Ints(all), _) => Arc::new(Int32Array::new(all.into(), nulls)),
            (Values::Longs(all), Kind::Time) => Arc::new(Time64MicrosecondArray::new(all.into(), nulls)),
            (Values::Longs(all), Kind::Timestamp) => {
                Arc::new(TimestampMicrosecondArray::new(all.into(), nulls))
            }
            (Values::Longs(all), Kind::TimestampTz) => {
                Arc::new(TimestampMicrosecondArray::new(all.into(), nulls).with_timezone("UTC"))
            }
            (Values::Longs(all), _) => Arc::new(Int64Array::new(all.into(), nulls)),
            (Values::Floats(all), _) => Arc::new(Float32Array::new(all.into(), nulls)),
            (Values::Doubles(all), _) => Arc::new(Float64Array::new(all.into(), nulls)),
            (Values::Decimals(all), kind) => {
                Arc::new(Decimal128Array::new(all.into(), nulls).with_data_type(kind.arrow()))
            }
            (Values::Bytes(ends, all), kind) => {
                let (ends, all) = (OffsetBuffer::new(ends.into()), Buffer::from(all));
                match kind {
                    Kind::Text => Arc::new(StringArray::try_new(ends, all, nulls)?),
                    _ => Arc::new(BinaryArray::try_new(ends, all, nulls)?),
                }
            }
            (Values::Lists(ends, mut items), _) => {
                let items = items.take()?;
                let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
                Arc::new(ListArray::try_new(field, OffsetBuffer::new(ends.into()), items, nulls)?)
            }
        })
    }
}

fn too_large() -> BoxError {
    "has more than 2 GiB in one batch".into()
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BoxError> {
    bytes.try_into().map_err(|_| format!("has {} bytes, where {N} are expected", bytes.len()).into())
}

fn date(days: i32) -> Result<i32, BoxError> {
    match days {
        i32::MAX | i32::MIN => Err(infinite("Date32")),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(|| "has a date beyond Date32".into()),
    }
}

fn time(micros: i64) -> Result<i64, BoxError> {
    match micros {
        0..DAY_MICROS => Ok(micros),
        DAY_MICROS => Err("has the time 24:00:00, which Time64 does not hold; cast it in the query".into()),
        _ => Err(format!("has {micros} microseconds, which is no time of a day").into()),
    }
}

fn timestamp(micros: i64) -> Result<i64, BoxError> {
    match micros {
        i64::MAX | i64::MIN => Err(infinite("Timestamp")),
        micros => micros.checked_add(EPOCH_MICROS).ok_or_else(|| {
            "has a time after the year 294246, which Timestamp does not hold; cast it in the query".into()
        }),
    }
}

fn infinite(kind: &str) -> BoxError {
    format!("has infinity, which {kind} does not hold; cast it in the query, such as to text").into()
}

/// The items of an array: the number of its dimensions, whether there are nulls, its items' type, of each dimension its length and first index, and the items.
fn list(bytes: &mut &[u8], items: &mut Column) -> Result<(), BoxError> {
    let short = |_| "has an array that is cut short";
    let dimensions = bytes.try_get_i32().map_err(short)?;
    bytes.try_get_i32().map_err(short)?;
    let kind = bytes.try_get_u32().map_err(short)?;
    let wanted = items.kind.oid();
    // Text has more names than one, and enums have numbers of their own.
    if kind != wanted && items.kind != Kind::Text {
        return Err(format!("has an array of the type {kind}, where {wanted} is expected").into());
    }
    let length = match dimensions {
        0 => 0,
        1 => {
            let length = bytes.try_get_i32().map_err(short)?;
            bytes.try_get_i32().map_err(short)?;
            length
        }
        many => {
            return Err(format!(
                "has an array of {many} dimensions, and a list has one; cast it in the query, such as to text"
            )
            .into());
        }
    };
    for _ in 0..length {
        let size = bytes.try_get_i32().map_err(short)?;
        let item = match usize::try_from(size) {
            Ok(size) => Some(bytes.split_off(..size).ok_or("has an array that is cut short")?),
            Err(_) if size == -1 => None,
            Err(_) => return Err(format!("has an item of {size} bytes").into()),
        };
        items.push(item)?;
    }
    if length < 0 || !bytes.is_empty() {
        return Err(format!("has {} bytes behind an array of {length} items", bytes.len()).into());
    }
    Ok(())
}
