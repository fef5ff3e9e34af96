//! Parcels by themselves. Apart from `parcel.rs`, which the loom model of the exchange compiles.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::datatypes::Int32Type;

use super::parcel::{Parcel, batch_bytes, column_bytes};

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
    let text: ArrayRef = Arc::new((0..1000).map(|n| (n % 2 == 0).then_some("x")).collect::<StringArray>());
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
