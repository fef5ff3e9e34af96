//! Rows put in their places: a random order made with one pass over each column.
//!
//! Whoever has rows with a number each, and wants them in the order of the numbers, can look each row up (`take`, for which its parts are put together
//! first), or put each row where it belongs while going through the parts as they are. The latter is done here, for columns of numbers and of text
//! without nulls, into as much memory as the processor's caches hold; others are looked up by arrow.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, GenericByteArray, OffsetSizeTrait, PrimitiveArray,
    RecordBatch, UInt32Array, downcast_primitive,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{
    ArrowNativeType, ByteArrayType, DataType, GenericBinaryType, GenericStringType, SchemaRef,
};
use datafusion::common::Result;

use super::sliced;

/// Rows of up to so many bytes are spread: they, and as much again, fit into the processor's caches. Batches of them are slices, each of which keeps all
/// of them alive.
pub(super) const SPREAD_BYTES: usize = 16 << 20;

/// Where each row of some parts goes.
pub(super) struct Spread {
    place: Vec<u32>,
}

impl Spread {
    /// By the place of each row.
    pub(super) fn by_place(place: Vec<u32>) -> Self {
        Self { place }
    }

    /// By their order: the row that comes first, the one that comes second, and so on.
    pub(super) fn by_order(order: &[u32]) -> Self {
        Self { place: inverse(order) }
    }

    /// The first columns of some batches, those of `schema`, with the rows in their places: as slices of `rows` rows.
    pub(super) fn batches(
        &self,
        parts: &[RecordBatch],
        schema: SchemaRef,
        rows: usize,
    ) -> Result<Vec<RecordBatch>> {
        let columns = (0..schema.fields().len()).map(|index| {
            let parts: Vec<&ArrayRef> = parts.iter().map(|part| part.column(index)).collect();
            self.column(&parts)
        });
        let whole = RecordBatch::try_new(schema, columns.collect::<Result<Vec<_>>>()?)?;
        Ok(sliced(whole, rows).collect())
    }

    /// A column, of which these are the parts, with its rows in their places.
    fn column(&self, parts: &[&ArrayRef]) -> Result<ArrayRef> {
        if let Some(column) = self.fast(parts) {
            return Ok(column);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(take(&concat(&parts)?, &UInt32Array::from(inverse(&self.place)), None)?)
    }

    fn fast(&self, parts: &[&ArrayRef]) -> Option<ArrayRef> {
        macro_rules! primitive {
            ($type:ty) => {
                Some(self.primitive::<$type>(parts))
            };
        }
        if parts.iter().any(|part| part.null_count() > 0) {
            return None;
        }
        let kind = parts.first()?.data_type();
        downcast_primitive! {
            kind => (primitive),
            DataType::Utf8 => self.bytes::<GenericStringType<i32>>(parts),
            DataType::LargeUtf8 => self.bytes::<GenericStringType<i64>>(parts),
            DataType::Binary => self.bytes::<GenericBinaryType<i32>>(parts),
            DataType::LargeBinary => self.bytes::<GenericBinaryType<i64>>(parts),
            _ => None
        }
    }

    /// Each part with the places of its rows.
    fn placed<'a>(&self, parts: &[&'a ArrayRef]) -> impl Iterator<Item = (&'a ArrayRef, &[u32])> {
        let mut left = &self.place[..];
        parts.iter().map(move |part| {
            let (places, rest) = left.split_at(part.len());
            left = rest;
            (*part, places)
        })
    }

    fn primitive<T: ArrowPrimitiveType>(&self, parts: &[&ArrayRef]) -> ArrayRef {
        let mut values = vec![T::Native::default(); self.place.len()];
        for (part, places) in self.placed(parts) {
            for (value, place) in part.as_primitive::<T>().values().iter().zip(places) {
                values[*place as usize] = *value;
            }
        }
        let array = PrimitiveArray::<T>::new(ScalarBuffer::from(values), None);
        Arc::new(array.with_data_type(parts[0].data_type().clone()))
    }

    fn bytes<T: ByteArrayType>(&self, parts: &[&ArrayRef]) -> Option<ArrayRef> {
        let mut ends = vec![T::Offset::default(); self.place.len() + 1];
        let mut all = 0;
        for (part, places) in self.placed(parts) {
            let offsets = part.as_bytes::<T>().offsets();
            all += (offsets[part.len()] - offsets[0]).as_usize();
            for (range, place) in offsets.windows(2).zip(places) {
                ends[*place as usize + 1] = range[1] - range[0];
            }
        }
        if all > T::Offset::MAX_OFFSET {
            return None;
        }
        let mut end = T::Offset::default();
        for length in &mut ends {
            end += *length;
            *length = end;
        }
        let mut bytes = vec![0; all];
        for (part, places) in self.placed(parts) {
            let part = part.as_bytes::<T>();
            let data = part.value_data();
            for (range, place) in part.offsets().windows(2).zip(places) {
                let place = *place as usize;
                let value = &data[range[0].as_usize()..range[1].as_usize()];
                copy(&mut bytes[ends[place].as_usize()..ends[place + 1].as_usize()], value);
            }
        }
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        Some(Arc::new(GenericByteArray::<T>::new(ends, Buffer::from(bytes), None)))
    }
}

/// The row at each place, by the place of each row; or the other way round.
pub(super) fn inverse(permutation: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; permutation.len()];
    for (to, from) in permutation.iter().zip(0_u32..) {
        inverse[*to as usize] = from;
    }
    inverse
}

/// Copies text, which is short more often than not: without a call, then.
fn copy(to: &mut [u8], from: &[u8]) {
    macro_rules! both_ends {
        ($bytes:literal) => {
            if let (Some(first), Some(last)) = (from.first_chunk::<$bytes>(), from.last_chunk::<$bytes>()) {
                if let Some(to) = to.first_chunk_mut::<$bytes>() {
                    *to = *first;
                }
                if let Some(to) = to.last_chunk_mut::<$bytes>() {
                    *to = *last;
                }
            }
        };
    }
    match from.len() {
        0 => {}
        1..4 => {
            both_ends!(1);
            to[from.len() / 2] = from[from.len() / 2];
        }
        4..8 => both_ends!(4),
        8..=16 => both_ends!(8),
        _ => to.copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{
        BooleanArray, Int64Array, LargeBinaryArray, RecordBatch, StringArray, TimestampMillisecondArray,
    };
    use arrow::compute::{concat_batches, take_record_batch};

    use super::*;
    use crate::plan::Mixer;
    use crate::plan::cells::Cells;

    fn batch(rows: i64) -> RecordBatch {
        let texts: Vec<String> =
            (0..rows).map(|row| "ä".repeat(row as usize * 7 % 20) + &row.to_string()).collect();
        let bytes: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("whole", Arc::new(Int64Array::from_iter_values(0..rows))),
            ("nulls", Arc::new((0..rows).map(|row| (row % 3 != 0).then_some(row)).collect::<Int64Array>())),
            ("text", Arc::new(StringArray::from(texts.clone()))),
            ("bytes", Arc::new(LargeBinaryArray::from(bytes))),
            ("truth", Arc::new((0..rows).map(|row| Some(row % 2 == 0)).collect::<BooleanArray>())),
            ("time", Arc::new(TimestampMillisecondArray::from_iter_values(0..rows).with_timezone("UTC"))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn every_row_comes_where_its_number_says_whatever_the_columns_are() {
        for (rows, pieces) in
            [(0, vec![]), (1, vec![1]), (33, vec![20, 0, 13]), (1000, vec![1, 999]), (4097, vec![4097])]
        {
            let whole = batch(rows + 5);
            let mut start = 5;
            let parts: Vec<RecordBatch> = pieces
                .iter()
                .map(|rows| {
                    start += rows;
                    whole.slice(start - rows, *rows)
                })
                .collect();
            let cells = Cells::new(Mixer::new(3));
            let place = cells.places(0, rows as u32);
            let order = inverse(&place);
            assert_eq!(Spread::by_order(&order).place, place);
            let spread = Spread::by_place(place);
            let expected = concat_batches(&whole.schema(), &parts).unwrap();
            let expected = take_record_batch(&expected, &UInt32Array::from(order)).unwrap();
            if !parts.is_empty() {
                let spread = spread.batches(&parts, whole.schema(), 100).unwrap();
                assert!(spread.iter().rev().skip(1).all(|batch| batch.num_rows() == 100));
                assert_eq!(concat_batches(&whole.schema(), &spread).unwrap(), expected);
            }
        }
    }

    #[test]
    fn values_of_every_length_are_copied_whole() {
        let from: Vec<u8> = (1..=40).collect();
        for length in 0..=40 {
            let mut to = vec![0; length];
            copy(&mut to, &from[..length]);
            assert_eq!(to, from[..length]);
        }
    }
}
