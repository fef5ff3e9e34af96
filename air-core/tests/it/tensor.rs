//! Tensors: no copies through views, channels and Arrow; the same elements as ndarray; clear errors.
#![allow(clippy::unwrap_used)]

use air_core::channel::{self, Limit};
use air_core::device::Device;
use air_core::tensor::{DType, Element, Tensor, TensorError, wire};
use allocation_counter::measure;
use arrow_buffer::{Buffer, MutableBuffer};
use half::{bf16, f16};
use ndarray::{Array, Array2, ArrayD, Axis, Ix2, IxDyn, Slice, array};
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn counting(shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>() as i32;
    Tensor::from_vec((0..len).collect(), shape).unwrap()
}

fn address(tensor: &Tensor) -> *const u8 {
    tensor.as_bytes().unwrap().as_ptr()
}

/// Invariant A5, for tensors: a message is a handle, whatever the size of what it refers to.
#[test]
fn a5_no_message_copies_a_tensor() {
    let send = |tensor: Tensor| {
        let (tx, rx) = channel::bounded(Limit { items: 64, bytes: 256 * MIB });
        let before = address(&tensor);
        let mut received = None;
        let counted = measure(|| {
            for _ in 0..64 {
                tx.send(tensor.clone()).unwrap();
                received = Some(rx.recv().unwrap());
            }
        });
        assert_eq!(address(&received.unwrap()), before);
        counted
    };
    let small = send(Tensor::zeros::<f64>(&[1]).unwrap());
    let large = send(Tensor::zeros::<f32>(&[16, MIB]).unwrap());
    assert_eq!((large.count_total, large.bytes_total), (small.count_total, small.bytes_total));
    assert_eq!(large.count_total, 0, "a send in a channel with room allocates nothing");
}

#[test]
fn views_share_memory_and_allocate_nothing() {
    let tensor = counting(&[4, 6, 8]);
    let start = address(&tensor);
    let counted = measure(|| {
        let view = tensor.clone().slice(1, 2..5).unwrap().transpose().select(2, 3).unwrap();
        let view = view.permute(&[1, 0]).unwrap().insert_axis(0).unwrap();
        assert!(view.shares_memory_with(&tensor));
        let row = tensor.select(0, 2).unwrap().reshape(&[48]).unwrap();
        assert_eq!(address(&row), start.wrapping_add(2 * 48 * 4));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_vector_is_taken_over_where_it_lies() {
    fn check<T: Element>(values: Vec<T>) {
        let (start, copy) = (values.as_ptr().cast(), values.clone());
        let tensor = Tensor::from_vec(values, &[copy.len()]).unwrap();
        assert_eq!((address(&tensor), tensor.dtype()), (start, T::DTYPE));
        assert_eq!(tensor.as_slice::<T>().unwrap(), copy);
    }
    check(vec![1.5f32, -0.0]);
    check(vec![1.5f64]);
    check(vec![f16::from_f32(0.5), f16::NAN.min(f16::ONE)]);
    check(vec![bf16::from_f32(2.0)]);
    check(vec![-1i8, 1]);
    check(vec![-1i32]);
    check(vec![i64::MIN]);
    check(vec![255u8]);
    check(vec![u32::MAX]);
    check(vec![true, false]);
}

#[test]
fn memory_made_here_is_aligned_to_64_bytes() {
    for tensor in [
        Tensor::zeros::<u8>(&[3]).unwrap(),
        Tensor::from_slice(&[1u8, 2, 3], &[3]).unwrap(),
        Tensor::full(7i64, &[5]).unwrap(),
        counting(&[3, 5]).transpose().contiguous().unwrap(),
        Tensor::scalar(1.0f32),
    ] {
        assert!(address(&tensor).addr().is_multiple_of(64), "{tensor:?}");
    }
}

#[test]
fn large_zeros_are_aligned_zero_writable_and_shared_with_arrow() {
    // Miri takes its time for each byte, so there less is large.
    const LEN: usize = if cfg!(miri) { 5 << 10 } else { 40 << 20 } + 4;
    let mut tensor = Tensor::zeros::<u8>(&[LEN]).unwrap();
    assert!(address(&tensor).addr().is_multiple_of(64));
    assert!(tensor.as_slice::<u8>().unwrap().iter().all(|byte| *byte == 0));
    let values = tensor.as_slice_mut::<u8>().unwrap();
    (values[0], values[LEN - 1]) = (1, 2);
    let buffer = tensor.to_arrow().unwrap();
    assert_eq!((buffer.as_ptr(), buffer.len()), (address(&tensor), LEN));
    drop(tensor);
    assert_eq!((buffer[0], buffer[1], buffer[LEN - 1]), (1, 0, 2));
}

#[test]
fn arrow_buffers_are_shared_in_both_directions() {
    let tensor = counting(&[4, 8]);
    let buffer = tensor.slice(0, 1..3).unwrap().to_arrow().unwrap();
    assert_eq!((buffer.as_ptr(), buffer.len()), (address(&tensor).wrapping_add(32), 64));

    // The buffer keeps the memory alive, and a tensor over it is again the same memory.
    let back = Tensor::from_arrow(buffer.clone(), DType::I32, &[2, 8]).unwrap();
    let start = buffer.as_ptr();
    drop((tensor, buffer));
    assert_eq!(address(&back), start);
    assert_eq!(back.to_vec::<i32>().unwrap(), (8..24).collect::<Vec<_>>());
    assert_eq!(back.to_arrow().unwrap().as_ptr(), start);
}

#[test]
fn arrow_buffers_that_do_not_fit_are_refused() {
    let buffer = Buffer::from(MutableBuffer::from_len_zeroed(64));
    assert_eq!(
        Tensor::from_arrow(buffer.clone(), DType::F32, &[17]).err(),
        Some(TensorError::WrongLength { found: 16, expected: 17, shape: vec![17] })
    );
    let odd = Tensor::from_arrow(buffer.slice_with_length(1, 32), DType::F32, &[8]);
    assert_eq!(
        odd.err(),
        Some(TensorError::Misaligned { address: buffer.as_ptr().addr() + 1, align: 4, dtype: DType::F32 })
    );
    // Bytes need no alignment; padding of up to 63 bytes is Arrow's custom, more is a mistake.
    assert!(Tensor::from_arrow(buffer.slice_with_length(1, 32), DType::U8, &[32]).is_ok());
    assert!(Tensor::from_arrow(buffer.clone(), DType::U8, &[1]).is_ok());
    assert!(Tensor::from_arrow(buffer.clone(), DType::U8, &[0]).is_err());
    assert!(Tensor::from_arrow(Buffer::from(&[0u8, 1, 2]), DType::Bool, &[3]).is_err());
    assert!(Tensor::from_arrow(Buffer::default(), DType::F64, &[0, 3]).is_ok());
}

#[test]
fn memory_is_written_only_by_its_only_holder() {
    let mut tensor = counting(&[2, 2]);
    tensor.as_slice_mut::<i32>().unwrap()[3] = 30;
    let other = tensor.clone();
    assert_eq!(tensor.as_slice_mut::<i32>().err(), Some(TensorError::Shared));
    drop(other);
    let buffer = tensor.to_arrow().unwrap();
    assert_eq!(tensor.view_mut::<i32>().err(), Some(TensorError::Shared));
    let mut copy = tensor.clone();
    copy.make_unique().unwrap();
    copy.as_slice_mut::<i32>().unwrap()[0] = -1;
    drop(buffer);
    tensor.view_mut::<i32>().unwrap()[[0, 1]] = 10;
    assert_eq!(tensor.to_vec::<i32>().unwrap(), [0, 10, 2, 30]);
    assert_eq!(copy.to_vec::<i32>().unwrap(), [-1, 1, 2, 30]);

    // Arrow's memory is never written, even where nobody else holds it.
    let mut borrowed = Tensor::from_arrow(Buffer::from_vec(vec![1i32]), DType::I32, &[1]).unwrap();
    assert_eq!(borrowed.as_slice_mut::<i32>().err(), Some(TensorError::Shared));
    borrowed.make_unique().unwrap();
    assert!(borrowed.as_slice_mut::<i32>().is_ok());
}

#[test]
fn a_view_can_be_written_through_its_strides() {
    let mut column = counting(&[3, 2]).select(1, 1).unwrap();
    column.view_mut::<i32>().unwrap().fill(9);
    assert_eq!(column.to_vec::<i32>().unwrap(), [9, 9, 9]);
    assert!(matches!(column.as_slice_mut::<i32>(), Err(TensorError::NotContiguous { .. })));
}

#[test]
fn ndarray_arrays_come_over_without_a_copy() {
    let array = Array2::from_shape_fn((3, 4), |(i, j)| (10 * i + j) as f32);
    let start = array.as_ptr();
    let tensor = Tensor::from_ndarray(array.clone()).unwrap();
    assert_eq!(tensor.view_as::<f32, Ix2>().unwrap(), array);

    // Transposed, then cut: memory order and offset are kept.
    let mut turned = array.reversed_axes();
    turned.slice_axis_inplace(Axis(0), Slice::from(1..3));
    let expected = turned.clone();
    let tensor = Tensor::from_ndarray(turned).unwrap();
    assert_eq!(tensor.view::<f32>().unwrap().as_ptr(), start.wrapping_add(1));
    assert_eq!(tensor.view_as::<f32, Ix2>().unwrap(), expected);

    // Reversed axes have negative strides: those are copied.
    let mut reversed = array![1, 2, 3];
    reversed.invert_axis(Axis(0));
    assert_eq!(Tensor::from_ndarray(reversed).unwrap().to_vec::<i32>().unwrap(), [3, 2, 1]);
    assert_eq!(Tensor::from_ndarray(Array::<f32, _>::zeros((0, 3))).unwrap().shape(), [0, 3]);
}

#[test]
fn errors_say_shape_and_index() {
    let tensor = counting(&[2, 3]);
    let says = |result: Result<Tensor, TensorError>| result.unwrap_err().to_string();
    assert_eq!(says(tensor.select(1, 3)), "index 3 is out of range for axis 1 of shape [2, 3]");
    assert_eq!(says(tensor.slice(0, 1..5)), "range 1..5 is out of range for axis 0 of shape [2, 3]");
    assert_eq!(says(tensor.select(2, 0)), "axis 2 is out of range for shape [2, 3]");
    assert_eq!(says(tensor.reshape(&[4])), "6 values do not fill shape [4], which holds 4");
    assert_eq!(
        says(tensor.transpose().reshape(&[6])),
        "tensor of shape [3, 2] and strides [1, 3] is not contiguous; call `contiguous()` to copy it"
    );
    assert_eq!(
        says(Tensor::zeros::<f32>(&[usize::MAX, 2])),
        format!("shape [{}, 2] of f32 is larger than the address space", usize::MAX)
    );
    assert_eq!(says(Tensor::from_vec(vec![1.0f32], &[2])), "1 values do not fill shape [2], which holds 2");
    assert_eq!(tensor.as_slice::<f32>().unwrap_err().to_string(), "tensor holds i32, not f32");
    assert_eq!(tensor.at::<i32>(&[1, 2]).unwrap(), 5);
    assert!(tensor.at::<i32>(&[1]).is_err());
    assert!(tensor.at::<i32>(&[2, 0]).is_err());
    assert!(tensor.view_as::<i32, ndarray::Ix3>().is_err());
}

#[test]
fn empty_and_scalar_tensors_behave() {
    let empty = Tensor::zeros::<f32>(&[2, 0, 3]).unwrap();
    assert_eq!((empty.len(), empty.size_bytes(), empty.is_empty()), (0, 0, true));
    assert_eq!(empty.transpose().view::<f32>().unwrap().shape(), [3, 0, 2]);
    assert_eq!(empty.transpose().contiguous().unwrap().to_vec::<f32>().unwrap(), [0f32; 0]);
    assert_eq!(empty.reshape(&[0]).unwrap().to_arrow().unwrap().len(), 0);
    let cut = counting(&[2, 3]).slice(1, 3..).unwrap();
    assert_eq!((cut.shape(), cut.as_slice::<i32>().unwrap()), (&[2, 0][..], &[][..]));
    let scalar = Tensor::scalar(2.5f64);
    assert_eq!((scalar.rank(), scalar.len(), scalar.at::<f64>(&[]).unwrap()), (0, 1, 2.5));
    assert_eq!(scalar.view::<f64>().unwrap()[IxDyn(&[])], 2.5);
    assert_eq!(format!("{scalar:?}"), "Tensor(f64[] on cpu)");
}

#[test]
fn the_cpu_is_where_host_tensors_are() {
    let tensor = counting(&[3]);
    assert_eq!(tensor.device(), Device::Cpu);
    let same = tensor.to_device(Device::Cpu).unwrap();
    assert_eq!(address(&same), address(&tensor));
}

#[test]
fn tensors_join_along_an_axis() {
    let (a, b) = (counting(&[2, 3]), counting(&[3, 1]).transpose());
    let rows = Tensor::concat(&[a.clone(), b.clone(), a.slice(0, 2..).unwrap()], 0).unwrap();
    assert_eq!((rows.shape(), rows.to_vec::<i32>().unwrap()), (&[3, 3][..], vec![0, 1, 2, 3, 4, 5, 0, 1, 2]));
    let columns = Tensor::concat(&[a.clone(), a.slice(1, 1..2).unwrap()], 1).unwrap();
    assert_eq!(columns.to_vec::<i32>().unwrap(), [0, 1, 2, 1, 3, 4, 5, 4]);
    let batch = Tensor::stack(&[a.select(0, 1).unwrap(), a.select(0, 0).unwrap()], 0).unwrap();
    assert_eq!((batch.shape(), batch.to_vec::<i32>().unwrap()), (&[2, 3][..], vec![3, 4, 5, 0, 1, 2]));

    assert_eq!(Tensor::concat(&[], 0).err(), Some(TensorError::NothingToJoin));
    assert!(matches!(
        Tensor::concat(std::slice::from_ref(&a), 2),
        Err(TensorError::AxisOutOfRange { axis: 2, .. })
    ));
    let other = Tensor::zeros::<f32>(&[2, 3]).unwrap();
    assert_eq!(
        Tensor::concat(&[a.clone(), other], 0).unwrap_err().to_string(),
        "tensor 1 of f32[2, 3] does not join i32[2, 3] along axis 0"
    );
    assert!(matches!(Tensor::concat(&[a, b], 1), Err(TensorError::CannotJoin { index: 1, .. })));
}

#[test]
#[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
fn memory_that_is_not_there_is_an_error() {
    let error = Tensor::zeros::<u8>(&[1 << 61]).unwrap_err();
    assert_eq!(error, TensorError::OutOfMemory { needed_bytes: 1 << 61, shape: vec![1 << 61] });
}

#[test]
fn handles_pass_between_threads() {
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    is_shared::<Tensor>();
}

/// One step of a chain of views.
#[derive(Debug, Clone)]
enum Step {
    Slice { axis: usize, from: usize, to: usize },
    Select { axis: usize, index: usize },
    Transpose,
    Permute(u64),
    InsertAxis(usize),
    Contiguous,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..6, 0usize..6, 0usize..6).prop_map(|(axis, from, to)| Step::Slice { axis, from, to }),
        1 => (0usize..6, 0usize..6).prop_map(|(axis, index)| Step::Select { axis, index }),
        1 => Just(Step::Transpose),
        2 => any::<u64>().prop_map(Step::Permute),
        1 => (0usize..5).prop_map(Step::InsertAxis),
        1 => Just(Step::Contiguous),
    ]
}

/// An order of `n` axes drawn from `seed`.
fn order(n: usize, mut seed: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..n).collect();
    std::iter::from_fn(|| {
        let pick = (seed % left.len().max(1) as u64) as usize;
        seed /= left.len().max(1) as u64;
        (!left.is_empty()).then(|| left.remove(pick))
    })
    .collect()
}

fn apply(step: &Step, tensor: &Tensor, array: &ArrayD<i32>) -> Option<(Tensor, ArrayD<i32>)> {
    let rank = array.ndim();
    Some(match *step {
        Step::Slice { axis, from, to } => {
            let length = *array.shape().get(axis)?;
            let (from, to) = (from.min(to).min(length), from.max(to).min(length));
            let cut = array.slice_axis(Axis(axis), Slice::from(from..to)).to_owned();
            (tensor.slice(axis, from..to).unwrap(), cut)
        }
        Step::Select { axis, index } => {
            let index = index.checked_rem(*array.shape().get(axis)?)?;
            (tensor.select(axis, index).unwrap(), array.index_axis(Axis(axis), index).to_owned())
        }
        Step::Transpose => (tensor.transpose(), array.t().to_owned()),
        Step::Permute(seed) => {
            let axes = order(rank, seed);
            (tensor.permute(&axes).unwrap(), array.clone().permuted_axes(axes))
        }
        Step::InsertAxis(axis) if axis <= rank && rank < 6 => {
            (tensor.insert_axis(axis).unwrap(), array.clone().insert_axis(Axis(axis)))
        }
        Step::InsertAxis(_) => return None,
        Step::Contiguous => (tensor.contiguous().unwrap(), array.clone()),
    })
}

proptest! {
    /// Any chain of views shows what ndarray shows, and survives the wire.
    #[test]
    fn views_agree_with_ndarray(
        shape in prop::collection::vec(0usize..5, 0..5),
        steps in prop::collection::vec(step(), 0..8),
    ) {
        let mut tensor = counting(&shape);
        let mut array = ArrayD::from_shape_vec(IxDyn(&shape), tensor.to_vec::<i32>().unwrap()).unwrap();
        for step in &steps {
            if let Some((next, expected)) = apply(step, &tensor, &array) {
                (tensor, array) = (next, expected);
            }
            prop_assert_eq!(tensor.view::<i32>().unwrap(), array.view());
            prop_assert_eq!(tensor.to_vec::<i32>().unwrap(), array.iter().copied().collect::<Vec<_>>());
        }
        let bytes = wire::encode(&tensor).unwrap();
        let back = wire::decode(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(back.view::<i32>().unwrap(), array.view());
        let copy = Tensor::from_ndarray_view(&array).unwrap();
        prop_assert_eq!(copy.view::<i32>().unwrap(), array.view());
    }

    /// Bytes from outside never panic, and never yield a tensor beyond the limit.
    #[test]
    fn any_bytes_are_a_tensor_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        good_start in any::<bool>(),
    ) {
        if good_start && bytes.len() >= 8 {
            let start = [b'A', b'I', b'R', b'T', 1, bytes[5] % 10, bytes[6] % 9, 0];
            bytes[..8].copy_from_slice(&start);
        }
        if let Ok(tensor) = wire::decode(&bytes, 256) {
            prop_assert!(tensor.size_bytes() <= 128);
        }
    }
}
