//! Columns of lists, of whatever kind.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::datatypes::{DataType, FieldRef};

/// What the entries of a column of lists are; nothing for a column of another type.
pub(crate) fn entry(kind: &DataType) -> Option<&FieldRef> {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// The lists of a column: where each row's entries are among all, and those; nothing for a column of another type. A null is an empty list.
pub(crate) fn lists(column: &ArrayRef) -> Option<(Vec<Range<usize>>, ArrayRef)> {
    fn of<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> (Vec<Range<usize>>, ArrayRef) {
        let ends = lists.value_offsets().windows(2).enumerate();
        let ranges = ends.map(|(row, ends)| {
            let range = ends[0].as_usize()..ends[1].as_usize();
            if lists.is_null(row) { 0..0 } else { range }
        });
        (ranges.collect(), lists.values().clone())
    }
    match column.data_type() {
        DataType::List(_) => Some(of(column.as_list::<i32>())),
        DataType::LargeList(_) => Some(of(column.as_list::<i64>())),
        DataType::FixedSizeList(_, width) => {
            let lists = column.as_fixed_size_list();
            let width = usize::try_from(*width).unwrap_or(0);
            let range = |row| if lists.is_null(row) { 0..0 } else { row * width..(row + 1) * width };
            Some(((0..lists.len()).map(range).collect(), lists.values().clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use arrow::array::{FixedSizeListArray, LargeListArray, ListArray};
    use arrow::compute::cast;
    use arrow::datatypes::Int32Type;

    #[test]
    fn lists_of_every_kind_and_slices_of_them() {
        let rows = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(7)])];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.clone()));
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(rows));
        for column in [list, large] {
            let (found, entries) = lists(&column).unwrap();
            assert_eq!(found, [0..2, 0..0, 2..2, 2..3]);
            assert_eq!(entries.len(), 3);
            assert_eq!(lists(&column.slice(2, 2)).unwrap().0, [2..2, 2..3]);
            assert_eq!(entry(column.data_type()).unwrap().data_type(), &DataType::Int32);
            assert!(lists(&cast(&entries, &DataType::Int64).unwrap()).is_none());
        }
        let pairs = [Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), Some(4)])];
        let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2);
        let pairs: ArrayRef = Arc::new(pairs.slice(1, 2));
        let (found, entries) = lists(&pairs).unwrap();
        assert_eq!(found, [0..0, 2..4]);
        assert_eq!(entries.as_primitive::<Int32Type>().values()[2..4], [3, 4]);
    }
}
