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
pub(super) fn column_bytes(column: &ArrayRef) -> usize {
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
