//! [`encode`]: from a batch to rows of a binary `COPY`.

use std::fmt::Write as _;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use bytes::{BufMut, BytesMut};

use super::super::quoted;
use super::column::{EPOCH_DAYS, EPOCH_MICROS};
use super::decode::{SIGNATURE, TRAILER};
use super::kind::Kind;
use super::numeric;

/// What the columns of a dataset are written as.
///
/// # Errors
/// Names the first that cannot be written.
pub(super) fn kinds(schema: &Schema) -> Result<Vec<Kind>, BoxError> {
    let kind = |field: &Arc<Field>| {
        Kind::of(field.data_type()).ok_or_else(|| {
            let (name, kind) = (field.name(), field.data_type());
            format!(
                "column '{name}' is {kind}, which cannot be written to PostgreSQL; cast it or leave it out"
            )
            .into()
        })
    };
    schema.fields().iter().map(kind).collect()
}

/// The columns of a table as SQL declares them.
pub(super) fn declared(schema: &Schema, kinds: &[Kind]) -> Result<String, BoxError> {
    let mut text = String::new();
    for (field, kind) in schema.fields().iter().zip(kinds) {
        let comma = if text.is_empty() { "" } else { ", " };
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        write!(text, "{comma}{} {}{null}", quoted(field.name())?, kind.sql())?;
    }
    Ok(text)
}

/// What a binary `COPY` begins with.
pub(super) fn header() -> Vec<u8> {
    [&SIGNATURE[..], &[0; 8]].concat()
}

/// What it ends with.
pub(super) fn trailer() -> Vec<u8> {
    TRAILER.to_be_bytes().to_vec()
}

/// Puts the rows of a batch behind what is in `to`.
///
/// # Errors
/// Names the column with a value that PostgreSQL does not hold.
pub(super) fn encode(batch: &RecordBatch, kinds: &[Kind], to: &mut BytesMut) -> Result<(), BoxError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(kinds.len());
    for ((column, kind), field) in batch.columns().iter().zip(kinds).zip(batch.schema_ref().fields()) {
        let cast = cast_with_options(column, &kind.arrow(), &strict).map_err(BoxError::from);
        let checked = cast.and_then(|column| held(&column, kind).map(|()| column));
        columns.push(checked.map_err(|error| format!("column '{}': {error}", field.name()))?);
    }
    let fields = i16::try_from(columns.len()).map_err(|_| "there are more columns than a table can have")?;
    for row in 0..batch.num_rows() {
        to.put_i16(fields);
        for (column, kind) in columns.iter().zip(kinds) {
            value(column, kind, row, to)?;
        }
    }
    Ok(())
}

/// Whether PostgreSQL holds all values.
fn held(column: &ArrayRef, kind: &Kind) -> Result<(), BoxError> {
    match kind {
        Kind::Text => {
            let text = column.as_string::<i32>();
            let (first, last) = ends(text.offsets());
            if text.values()[first..last].contains(&0) {
                return Err("has text with a zero byte, which PostgreSQL does not hold".into());
            }
            Ok(())
        }
        Kind::List(item) => {
            let lists = column.as_list::<i32>();
            let (first, last) = ends(lists.offsets());
            held(&lists.values().slice(first, last - first), item)
        }
        _ => Ok(()),
    }
}

/// Where the first row begins and the last one ends.
fn ends(offsets: &[i32]) -> (usize, usize) {
    let place = |offset: Option<&i32>| offset.map_or(0, |offset| *offset as usize);
    (place(offsets.first()), place(offsets.last()))
}

/// A value with its length before it.
fn value(column: &ArrayRef, kind: &Kind, row: usize, to: &mut BytesMut) -> Result<(), BoxError> {
    if column.is_null(row) {
        to.put_i32(-1);
        return Ok(());
    }
    let far = || "a time is farther away than PostgreSQL can tell";
    match kind {
        Kind::Bool => sized(to, &[u8::from(column.as_boolean().value(row))]),
        Kind::Int2 => sized(to, &column.as_primitive::<Int16Type>().value(row).to_be_bytes()),
        Kind::Int4 => sized(to, &column.as_primitive::<Int32Type>().value(row).to_be_bytes()),
        Kind::Int8 => sized(to, &column.as_primitive::<Int64Type>().value(row).to_be_bytes()),
        Kind::Float4 => sized(to, &column.as_primitive::<Float32Type>().value(row).to_be_bytes()),
        Kind::Float8 => sized(to, &column.as_primitive::<Float64Type>().value(row).to_be_bytes()),
        Kind::Numeric { scale, .. } => {
            let value = column.as_primitive::<Decimal128Type>().value(row);
            return lengthy(to, |to| {
                numeric::encode(value, *scale, to);
                Ok(())
            });
        }
        Kind::Text => return long(to, column.as_string::<i32>().value(row).as_bytes()),
        Kind::Bytes => return long(to, column.as_binary::<i32>().value(row)),
        Kind::Date => {
            let days = column.as_primitive::<Date32Type>().value(row);
            // The smallest number is minus infinity.
            let days = days.checked_sub(EPOCH_DAYS).filter(|days| *days > i32::MIN).ok_or_else(far)?;
            sized(to, &days.to_be_bytes());
        }
        Kind::Time => sized(to, &column.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
        Kind::Timestamp | Kind::TimestampTz => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let micros = micros.checked_sub(EPOCH_MICROS).filter(|micros| *micros > i64::MIN);
            sized(to, &micros.ok_or_else(far)?.to_be_bytes());
        }
        Kind::List(item) => {
            let items = column.as_list::<i32>().value(row);
            return lengthy(to, |to| {
                to.put_i32(i32::from(!items.is_empty()));
                to.put_i32(i32::from(items.null_count() > 0));
                to.put_u32(item.oid());
                if !items.is_empty() {
                    to.put_i32(i32::try_from(items.len())?);
                    to.put_i32(1);
                }
                (0..items.len()).try_for_each(|row| value(&items, item, row, to))
            });
        }
    }
    Ok(())
}

fn sized<const N: usize>(to: &mut BytesMut, bytes: &[u8; N]) {
    to.put_i32(N as i32);
    to.put_slice(bytes);
}

fn long(to: &mut BytesMut, bytes: &[u8]) -> Result<(), BoxError> {
    to.put_i32(i32::try_from(bytes.len())?);
    to.put_slice(bytes);
    Ok(())
}

/// What `write` puts, with its length before it.
fn lengthy(
    to: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let place = to.len();
    to.put_i32(0);
    write(to)?;
    let length = i32::try_from(to.len() - place - 4)?;
    to[place..place + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{Date32Array, Decimal128Array, Int64Array, ListArray, StringArray, UInt64Array};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::DataType;
    use proptest::prelude::*;

    use super::super::decode::Decoder;
    use super::*;

    fn there_and_back(batch: &RecordBatch) -> RecordBatch {
        let kinds = kinds(batch.schema_ref()).unwrap();
        let mut bytes = BytesMut::from(&header()[..]);
        encode(batch, &kinds, &mut bytes).unwrap();
        bytes.put_slice(&trailer());
        let fields = batch.schema_ref().fields().iter().zip(&kinds);
        let fields = fields.map(|(field, kind)| Field::new(field.name(), kind.arrow(), field.is_nullable()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut decoder = Decoder::new(schema, kinds);
        decoder.feed(&bytes).unwrap();
        decoder.end().unwrap();
        decoder.take().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(rows in proptest::collection::vec(
            (any::<Option<i64>>(), any::<Option<String>>(), any::<Option<i64>>()), 0..20,
        )) {
            let ids = rows.iter().map(|row| row.0).collect::<Int64Array>();
            let text = rows.iter().map(|row| row.1.as_ref().map(|text| text.replace('\0', "0")));
            let text: StringArray = text.collect();
            let digits = rows.iter().map(|row| row.2.map(i128::from)).collect::<Decimal128Array>();
            let digits = digits.with_precision_and_scale(38, 7).unwrap();
            let lists = rows.iter().map(|row| row.0.map(|id| vec![row.2, Some(id), None]));
            let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
            let columns: [(&str, ArrayRef); 4] = [
                ("id", Arc::new(ids)),
                ("text", Arc::new(text)),
                ("digits", Arc::new(digits)),
                ("lists", Arc::new(lists)),
            ];
            let batch = RecordBatch::try_from_iter_with_nullable(
                columns.map(|(name, column)| (name, column, true)),
            ).unwrap();
            prop_assert_eq!(there_and_back(&batch), batch);
        }
    }

    #[test]
    fn what_the_server_does_not_hold_is_told() {
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let batch = RecordBatch::try_from_iter([("u", large)]).unwrap();
        let back = there_and_back(&batch);
        assert_eq!(back.column(0).as_primitive::<Decimal128Type>().value(0), u64::MAX.into());
        let zero: ArrayRef = Arc::new(StringArray::from(vec!["ok", "a\0b"]));
        let batch = RecordBatch::try_from_iter([("t", zero)]).unwrap();
        let error = encode(&batch, &[Kind::Text], &mut BytesMut::new()).unwrap_err().to_string();
        assert_eq!(error, "column 't': has text with a zero byte, which PostgreSQL does not hold");
        assert!(encode(&batch.slice(0, 1), &[Kind::Text], &mut BytesMut::new()).is_ok());
        let lists = OffsetBuffer::from_lengths([1, 1]);
        let lists = ListArray::new(
            Arc::new(Field::new_list_field(DataType::Utf8, true)),
            lists,
            batch.column(0).clone(),
            None,
        );
        let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).unwrap();
        let list = [Kind::List(Box::new(Kind::Text))];
        assert!(encode(&batch.slice(0, 1), &list, &mut BytesMut::new()).is_ok());
        assert!(encode(&batch.slice(1, 1), &list, &mut BytesMut::new()).is_err());
        for days in [i32::MIN, i32::MIN + EPOCH_DAYS] {
            let days: ArrayRef = Arc::new(Date32Array::from(vec![days]));
            let batch = RecordBatch::try_from_iter([("d", days)]).unwrap();
            let error = encode(&batch, &[Kind::Date], &mut BytesMut::new()).unwrap_err().to_string();
            assert_eq!(error, "a time is farther away than PostgreSQL can tell");
        }
        let schema =
            Schema::new(vec![Field::new("d", DataType::Duration(arrow::datatypes::TimeUnit::Second), true)]);
        let error = kinds(&schema).unwrap_err().to_string();
        assert!(error.starts_with("column 'd' is Duration(s), which cannot be written"), "{error}");
    }
}
