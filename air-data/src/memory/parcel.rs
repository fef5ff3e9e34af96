//! What a batch weighs, and which allocations it keeps alive.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

/// One allocation, by where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) address: usize,
    pub(super) bytes: usize,
}

/// What goes through a queue as one item. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parcel {
    /// The bytes of its own rows: what a queue's limit counts.
    pub(super) weight: usize,
    /// The allocations that it keeps alive, each once: what the budget counts.
    pub(super) parts: Arc<[Part]>,
}

impl Parcel {
    pub(crate) fn of(batch: &RecordBatch) -> Self {
        Self::of_all(std::slice::from_ref(batch))
    }

    pub(crate) fn of_all(batches: &[RecordBatch]) -> Self {
        let (mut weight, mut parts) = (0, Vec::new());
        for column in batches.iter().flat_map(RecordBatch::columns) {
            weight += column_bytes(column);
            collect(&column.to_data(), &mut parts);
        }
        distinct(&mut parts);
        Self { weight, parts: parts.into() }
    }

    /// Several batches: the first, which may have memory of its own, if it is given, and slices of `whole`. It looks at two batches, not
    /// at all of them.
    pub(crate) fn of_slices(batches: &[RecordBatch], first: Option<&RecordBatch>, whole: &Self) -> Self {
        let weight = batches.iter().map(batch_bytes).sum();
        let Some(first) = first.map(Self::of) else { return Self { weight, parts: whole.parts.clone() } };
        let mut parts: Vec<Part> = whole.parts.iter().chain(first.parts.iter()).copied().collect();
        distinct(&mut parts);
        Self { weight, parts: parts.into() }
    }

    /// The bytes of its own rows.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }
}

fn distinct(parts: &mut Vec<Part>) {
    parts.sort_unstable_by_key(|part| (part.address, std::cmp::Reverse(part.bytes)));
    parts.dedup_by_key(|part| part.address);
}

fn collect(data: &ArrayData, parts: &mut Vec<Part>) {
    let mut add = |buffer: &Buffer| {
        if buffer.capacity() > 0 {
            parts.push(Part { address: buffer.data_ptr().as_ptr().addr(), bytes: buffer.capacity() });
        }
    };
    data.buffers().iter().for_each(&mut add);
    if let Some(nulls) = data.nulls() {
        add(nulls.buffer());
    }
    for child in data.child_data() {
        collect(child, parts);
    }
}

/// The bytes of a batch's values: of a slice, only its part of the buffers.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(column_bytes).sum()
}

/// As `ArrayData::get_slice_memory_size`, which takes an allocation or two, and this is asked for every batch in every operator.
fn column_bytes(column: &ArrayRef) -> usize {
    let rows = column.len();
    let nulls = column.nulls().map_or(0, |_| rows.div_ceil(8));
    if let Some(width) = column.data_type().primitive_width() {
        return rows * width + nulls;
    }
    let text = |offsets: &[i32]| (rows + 1) * 4 + (offsets[rows] - offsets[0]) as usize + nulls;
    match column.data_type() {
        DataType::Boolean => rows.div_ceil(8) + nulls,
        DataType::Utf8 => text(column.as_string::<i32>().value_offsets()),
        DataType::Binary => text(column.as_binary::<i32>().value_offsets()),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{BinaryArray, BooleanArray, Date32Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    #[test]
    fn a_slice_weighs_its_own_rows_and_keeps_the_whole_allocation() {
        let whole = batch(1000);
        let slice = whole.slice(10, 5);
        assert_eq!((batch_bytes(&whole), batch_bytes(&slice)), (8000, 40));
        let (of_whole, of_slice) = (Parcel::of(&whole), Parcel::of(&slice));
        assert_eq!((of_whole.weight(), of_slice.weight()), (8000, 40));
        assert_eq!(of_whole.parts, of_slice.parts);
        assert_eq!(of_slice.parts.len(), 1);
        assert!(of_slice.parts[0].bytes >= 8000);
    }

    #[test]
    fn columns_that_share_a_buffer_count_it_once() {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let text: ArrayRef =
            Arc::new((0..1000).map(|n| (n % 2 == 0).then_some("x")).collect::<StringArray>());
        let batch =
            RecordBatch::try_from_iter([("a", values.clone()), ("b", values.slice(0, 1000)), ("c", text)])
                .unwrap();
        // One for the numbers; offsets, letters and nulls of the text.
        assert_eq!(Parcel::of(&batch).parts.len(), 4);
        assert_eq!(Parcel::of_all(&[batch.clone(), batch]).parts.len(), 4);
    }

    #[test]
    fn slices_of_one_batch_are_looked_at_once() {
        let (before, whole) = (batch(7), batch(1000));
        let batches = [before.clone(), whole.slice(0, 10), whole.slice(10, 30)];
        let long = Parcel::of_all(&batches);
        let short = Parcel::of_slices(&batches, Some(&before), &Parcel::of(&whole));
        assert_eq!((short.weight, &short.parts), (long.weight, &long.parts));
        let rest = Parcel::of_slices(&batches[1..], None, &Parcel::of(&whole));
        assert_eq!((rest.weight, rest.parts), (320, Parcel::of(&whole).parts));
    }

    #[test]
    fn the_short_ways_agree_with_the_long_one() {
        let columns: [ArrayRef; 8] = [
            Arc::new(Int64Array::from_iter_values(0..100)),
            Arc::new((0..100).map(|n| (n % 3 > 0).then_some(n)).collect::<Date32Array>()),
            Arc::new((0..100).map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()),
            Arc::new((0..100).map(|n| (n % 3 > 0).then_some(true)).collect::<BooleanArray>()),
            Arc::new(StringArray::from_iter_values((0..100).map(|n| "x".repeat(n)))),
            Arc::new((0..100).map(|n| (n % 3 > 0).then(|| "y".repeat(n))).collect::<StringArray>()),
            Arc::new(BinaryArray::from_iter_values((0..100).map(|n| vec![1_u8; n]))),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..100).map(|n| Some((0..n).map(Some).collect::<Vec<_>>())),
            )),
        ];
        for column in &columns {
            for (from, rows) in [(0, 100), (0, 0), (13, 50), (100, 0)] {
                let slice = column.slice(from, rows);
                let long = slice.to_data().get_slice_memory_size().unwrap();
                assert_eq!(column_bytes(&slice), long, "{} {from} {rows}", column.data_type());
            }
        }
    }
}
