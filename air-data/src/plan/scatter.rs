//! Rows dealt to buckets, column by column.
//!
//! A column is read once, from its first value to its last, and written to as many places as there are buckets, whose last cache lines all
//! fit into the first cache. (The other way round, bucket by bucket, each line would be fetched once for each of its values.) That is done for
//! columns of numbers and of text without nulls; others are gathered by arrow.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, GenericByteArray, OffsetSizeTrait, PrimitiveArray,
    RecordBatch, downcast_primitive,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{ArrowNativeType, ByteArrayType, DataType, GenericBinaryType, GenericStringType};
use datafusion::common::Result;

/// Text up to this is copied as a whole register.
const SHORT: usize = 16;

/// Which bucket each row of some batches goes to, and how many rows each bucket gets.
pub(super) struct Deal {
    bucket: Vec<u16>,
    counts: Vec<usize>,
}

impl Deal {
    pub(super) fn new(buckets: usize, bucket: impl Iterator<Item = u16>) -> Self {
        let mut counts = vec![0; buckets];
        let bucket = bucket.inspect(|bucket| counts[usize::from(*bucket)] += 1).collect();
        Self { bucket, counts }
    }

    /// Numbers, one for each row.
    pub(super) fn numbers<T: Copy>(&self, parts: &[&[T]]) -> Vec<Vec<T>> {
        let mut dealt: Vec<Vec<T>> = self.counts.iter().map(|count| Vec::with_capacity(*count)).collect();
        let mut left = &self.bucket[..];
        for part in parts {
            let (buckets, rest) = left.split_at(part.len());
            left = rest;
            for (value, bucket) in part.iter().zip(buckets) {
                dealt[usize::from(*bucket)].push(*value);
            }
        }
        dealt
    }

    /// The columns of each bucket. The batches have the same columns, and together as many rows as were dealt.
    pub(super) fn columns(&self, batches: &[RecordBatch]) -> Result<Vec<Vec<ArrayRef>>> {
        let width = batches.first().map_or(0, RecordBatch::num_columns);
        let mut places = None;
        let mut dealt: Vec<Vec<ArrayRef>> = self.counts.iter().map(|_| Vec::with_capacity(width)).collect();
        for index in 0..width {
            let parts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(index)).collect();
            let column = if let Some(column) = self.fast(&parts) {
                column
            } else {
                let places = places.get_or_insert_with(|| self.places(batches));
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                places.iter().map(|rows| interleave(&parts, rows)).collect::<std::result::Result<_, _>>()?
            };
            for (bucket, column) in dealt.iter_mut().zip(column) {
                bucket.push(column);
            }
        }
        Ok(dealt)
    }

    /// A column that needs no more than a pass over it.
    fn fast(&self, parts: &[&ArrayRef]) -> Option<Vec<ArrayRef>> {
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

    fn primitive<T: ArrowPrimitiveType>(&self, parts: &[&ArrayRef]) -> Vec<ArrayRef> {
        let values: Vec<&[T::Native]> =
            parts.iter().map(|part| &part.as_primitive::<T>().values()[..]).collect();
        let kind = parts[0].data_type();
        let column = |values: Vec<T::Native>| {
            let array = PrimitiveArray::<T>::new(ScalarBuffer::from(values), None);
            Arc::new(array.with_data_type(kind.clone())) as ArrayRef
        };
        self.numbers(&values).into_iter().map(column).collect()
    }

    fn bytes<T: ByteArrayType>(&self, parts: &[&ArrayRef]) -> Option<Vec<ArrayRef>> {
        struct Texts<O> {
            ends: Vec<O>,
            bytes: Vec<u8>,
        }
        let all: usize = parts.iter().map(|part| part.as_bytes::<T>().value_data().len()).sum();
        if all > T::Offset::MAX_OFFSET {
            return None;
        }
        let each = all / self.bucket.len().max(1) + 1;
        let begin = |count: &usize| {
            let mut ends = Vec::with_capacity(count + 1);
            ends.push(T::Offset::default());
            // With room for what is copied too much.
            Texts { ends, bytes: Vec::with_capacity(count * each + SHORT) }
        };
        let mut dealt: Vec<Texts<T::Offset>> = self.counts.iter().map(begin).collect();
        let mut buckets = self.bucket.iter();
        for part in parts {
            let part = part.as_bytes::<T>();
            let data = part.value_data();
            for (range, bucket) in part.offsets().windows(2).zip(&mut buckets) {
                let texts = &mut dealt[usize::from(*bucket)];
                append(&mut texts.bytes, data, range[0].as_usize()..range[1].as_usize());
                texts.ends.push(T::Offset::usize_as(texts.bytes.len()));
            }
        }
        let column = |texts: Texts<T::Offset>| {
            let ends = OffsetBuffer::new(ScalarBuffer::from(texts.ends));
            Arc::new(GenericByteArray::<T>::new(ends, Buffer::from(texts.bytes), None)) as ArrayRef
        };
        Some(dealt.into_iter().map(column).collect())
    }

    /// Each bucket's rows by batch and place in it.
    fn places(&self, batches: &[RecordBatch]) -> Vec<Vec<(usize, usize)>> {
        let rows = batches.iter().enumerate();
        let places = rows.flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)));
        self.numbers(&[&places.collect::<Vec<_>>()])
    }
}

/// Appends a range of `data`, which is a short text more often than not. Then as many bytes as a register has are copied without a call, and those that
/// are too many left out again.
fn append(bytes: &mut Vec<u8>, data: &[u8], range: Range<usize>) {
    match data[range.start..].first_chunk::<SHORT>() {
        Some(whole) if range.len() <= SHORT => {
            let end = bytes.len() + range.len();
            bytes.extend_from_slice(whole);
            bytes.truncate(end);
        }
        _ => bytes.extend_from_slice(&data[range]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{BooleanArray, Decimal128Array, Int32Array, StringArray, TimestampMillisecondArray};
    use arrow::compute::interleave_record_batch;

    use super::*;

    fn batch(numbers: Vec<Option<i32>>) -> RecordBatch {
        let whole: Vec<i32> = numbers.iter().map(|number| number.unwrap_or(-1)).collect();
        let text = |number: &i32| "äb".repeat(usize::try_from(*number + 1).unwrap() % 7);
        let texts: Vec<String> = whole.iter().map(text).collect();
        let bytes: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let wide = whole.iter().map(|number| i128::from(*number) << 70);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("whole", Arc::new(Int32Array::from(whole.clone()))),
            ("nulls", Arc::new(Int32Array::from(numbers))),
            ("text", Arc::new(StringArray::from(texts.clone()))),
            ("bytes", Arc::new(arrow::array::LargeBinaryArray::from(bytes))),
            (
                "text and nulls",
                Arc::new(texts.iter().map(|text| (text.len() != 3).then_some(text)).collect::<StringArray>()),
            ),
            ("truth", Arc::new(whole.iter().map(|number| Some(number % 2 == 0)).collect::<BooleanArray>())),
            (
                "time",
                Arc::new(
                    TimestampMillisecondArray::from_iter_values(whole.iter().map(|n| i64::from(*n)))
                        .with_timezone("UTC"),
                ),
            ),
            (
                "decimal",
                Arc::new(Decimal128Array::from_iter_values(wide).with_precision_and_scale(38, 2).unwrap()),
            ),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn each_bucket_has_its_rows_in_their_order_whatever_the_columns_are() {
        let whole = batch((0..50).map(|number| (number % 5 != 0).then_some(number)).collect());
        // Slices, whose first value and first byte lie in the middle of their buffers.
        let batches = [whole.slice(7, 20), whole.slice(0, 0), whole.slice(30, 13)];
        let bucket = |row: usize| u16::try_from(row * row % 4).unwrap();
        let deal = Deal::new(5, (0..33).map(bucket));
        let dealt = deal.columns(&batches).unwrap();
        assert_eq!(dealt.len(), 5);
        let places: Vec<(usize, usize)> = batches
            .iter()
            .enumerate()
            .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
            .collect();
        let all: Vec<&RecordBatch> = batches.iter().collect();
        for (number, columns) in dealt.into_iter().enumerate() {
            let rows = (0..33).filter(|row| usize::from(bucket(*row)) == number);
            let expected =
                interleave_record_batch(&all, &rows.map(|row| places[row]).collect::<Vec<_>>()).unwrap();
            assert_eq!(RecordBatch::try_new(whole.schema(), columns).unwrap(), expected, "bucket {number}");
        }
        let numbers: Vec<usize> = (0..33).collect();
        let parts = [&numbers[..9], &[], &numbers[9..]];
        assert_eq!(deal.numbers(&parts)[1], (0..33).filter(|row| bucket(*row) == 1).collect::<Vec<_>>());
    }
}
