#![allow(clippy::unwrap_used)]

use super::*;

fn layout(shape: &[usize]) -> Layout {
    Layout::contiguous(shape, DType::F32).unwrap()
}

#[test]
fn contiguous_is_row_major() {
    let l = layout(&[2, 3, 4]);
    assert_eq!(l.strides(), [12, 4, 1]);
    assert_eq!((l.len(), l.span(), l.is_contiguous()), (24, 24, true));
    assert_eq!(l.position(&[1, 2, 3]).unwrap(), 23);
}

#[test]
fn a_scalar_has_one_element_and_a_zero_axis_none() {
    assert_eq!((layout(&[]).len(), layout(&[]).span()), (1, 1));
    let empty = layout(&[3, 0, 5]);
    assert_eq!((empty.len(), empty.span(), empty.is_contiguous()), (0, 0, true));
}

#[test]
fn shapes_that_overflow_are_refused() {
    let half = usize::MAX / 2;
    for shape in [&[half, 3][..], &[usize::MAX][..], &[half, half, 0][..], &[isize::MAX as usize][..]] {
        let error = Layout::contiguous(shape, DType::F32).err();
        assert_eq!(error, Some(TensorError::TooLarge { shape: shape.to_vec(), dtype: DType::F32 }));
    }
    assert!(Layout::contiguous(&[isize::MAX as usize], DType::U8).is_ok());
    assert!(matches!(Layout::contiguous(&[1; 9], DType::U8), Err(TensorError::TooManyAxes { .. })));
}

#[test]
fn slices_move_the_offset_and_never_leave_the_memory() {
    let l = layout(&[2, 3]);
    let s = l.slice(1, 1..3).unwrap();
    assert_eq!((s.shape(), s.strides(), s.offset(), s.is_contiguous()), (&[2, 2][..], &[3, 1][..], 1, false));
    let last = l.slice(0, 1..).unwrap().slice(1, 2..).unwrap();
    let empty = last.slice(0, 1..1).unwrap();
    assert_eq!((empty.offset(), empty.span()), (5, 0));
    assert_eq!(
        l.slice(1, 1..4).err(),
        Some(TensorError::RangeOutOfRange { start: 1, end: 4, axis: 1, shape: vec![2, 3] })
    );
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = l.slice(1, 2..1);
    assert!(backwards.is_err());
    assert!(l.slice(1, 0..=usize::MAX).is_err());
    assert!(l.slice(2, ..).is_err());
}

#[test]
fn select_drops_the_axis() {
    let l = layout(&[2, 3, 4]).select(1, 2).unwrap();
    assert_eq!((l.shape(), l.strides(), l.offset()), (&[2, 4][..], &[12, 1][..], 8));
    assert_eq!(
        layout(&[2, 3]).select(0, 2).err(),
        Some(TensorError::IndexOutOfRange { index: 2, axis: 0, shape: vec![2, 3] })
    );
}

#[test]
fn permute_wants_each_axis_once() {
    let l = layout(&[2, 3, 4]);
    assert_eq!(l.permute(&[2, 0, 1]).unwrap().shape(), [4, 2, 3]);
    assert!(l.permute(&[2, 1, 0]).unwrap() == l.transpose());
    for axes in [&[0, 1][..], &[0, 1, 1][..], &[0, 1, 3][..]] {
        assert!(matches!(l.permute(axes), Err(TensorError::NotAPermutation { .. })));
    }
}

#[test]
fn reshape_wants_contiguous_elements() {
    let l = layout(&[2, 3]);
    assert_eq!(l.reshape(&[3, 2], DType::F32).unwrap().strides(), [2, 1]);
    assert!(matches!(l.reshape(&[4], DType::F32), Err(TensorError::WrongLength { .. })));
    assert!(matches!(l.transpose().reshape(&[6], DType::F32), Err(TensorError::NotContiguous { .. })));
    // A row of a matrix, and a column of a one-column matrix, have no gaps.
    assert!(l.select(0, 1).unwrap().reshape(&[3, 1], DType::F32).is_ok());
    assert!(layout(&[5, 1]).transpose().reshape(&[5], DType::F32).is_ok());
}

#[test]
fn axes_can_be_inserted_up_to_the_limit() {
    let l = layout(&[2, 3]).insert_axis(1).unwrap();
    assert_eq!(l.shape(), [2, 1, 3]);
    assert!(l.is_contiguous());
    assert!(layout(&[2, 3]).insert_axis(3).is_err());
    assert!(matches!(layout(&[1; 8]).insert_axis(0), Err(TensorError::TooManyAxes { .. })));
}

#[test]
fn strides_from_outside_are_checked_against_the_memory() {
    assert!(Layout::strided(&[2, 3], &[1, 2], 0, 6, DType::F32).is_ok());
    assert!(Layout::strided(&[2, 3], &[1, 2], 1, 6, DType::F32).is_err());
    assert!(Layout::strided(&[2, 3], &[usize::MAX, 2], 1, 6, DType::F32).is_err());
    assert!(Layout::strided(&[0, 3], &[9, 9], 100, 0, DType::F32).is_ok());
}
