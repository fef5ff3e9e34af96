//! The arithmetic: several buffers become one, element by element, in the order of the ranks.
//!
//! The loops are plain, so that the compiler turns them into vector instructions.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::number::ReduceOp;
use crate::tensor::DType;

/// The bytes of a buffer that are reduced at a time: few enough to stay in the nearest cache until the result is everywhere.
const STRIP_BYTES: usize = 8 << 10;

/// As many halves, while they are as wide as they are added up.
const STRIP: usize = STRIP_BYTES / size_of::<f16>();

/// Reduces `sources`, one a rank and in their order, into `into`. All are equally long and aligned to their type.
pub(super) fn reduce(dtype: DType, op: ReduceOp, sources: &[&[u8]], into: &mut [u8]) {
    let Some((first, others)) = sources.split_first() else { return };
    for strip in strips(into.len()) {
        let into = &mut into[strip.clone()];
        into.copy_from_slice(&first[strip.clone()]);
        accumulate(dtype, op, into, others.iter().map(|other| &other[strip.clone()]));
    }
}

/// Reduces `pieces`, one a rank and in their order, and leaves the result in each of them.
///
/// Asks `go_on` every now and then and returns early where the answer is no.
pub(super) fn reduce_in_place(
    dtype: DType,
    op: ReduceOp,
    pieces: &mut [&mut [u8]],
    go_on: impl Fn() -> bool,
) {
    let Some((first, others)) = pieces.split_first_mut() else { return };
    for (k, strip) in strips(first.len()).enumerate() {
        if k % 64 == 0 && !go_on() {
            return;
        }
        let into = &mut first[strip.clone()];
        accumulate(dtype, op, into, others.iter().map(|other| &other[strip.clone()]));
        for other in &mut *others {
            other[strip.clone()].copy_from_slice(into);
        }
    }
}

fn strips(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(STRIP_BYTES).map(move |start| start..len.min(start + STRIP_BYTES))
}

/// Combines what rank 0 has in `into` with what the `others` have, in their order.
fn accumulate<'a>(
    dtype: DType,
    op: ReduceOp,
    into: &mut [u8],
    others: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    match dtype {
        DType::F32 => typed::<f32>(op, bytemuck::cast_slice_mut(into), others),
        DType::F64 => typed::<f64>(op, bytemuck::cast_slice_mut(into), others),
        DType::I64 => typed::<i64>(op, bytemuck::cast_slice_mut(into), others),
        DType::F16 => widened::<f16>(op, bytemuck::cast_slice_mut(into), others),
        DType::BF16 => widened::<bf16>(op, bytemuck::cast_slice_mut(into), others),
        // `Number` is implemented for no other type.
        _ => debug_assert!(false, "{dtype} is not reduced"),
    }
}

fn typed<'a, T: Arithmetic>(op: ReduceOp, into: &mut [T], others: impl ExactSizeIterator<Item = &'a [u8]>) {
    let ranks = others.len() + 1;
    for (rank, other) in (2..).zip(others) {
        combine(op, into, bytemuck::cast_slice(other), (rank == ranks).then_some(ranks));
    }
}

/// Half-width floats by way of `f32`.
fn widened<'a, T: bytemuck::Pod>(
    op: ReduceOp,
    into: &mut [T],
    others: impl ExactSizeIterator<Item = &'a [u8]>,
) where
    [T]: HalfFloatSliceExt,
{
    let ranks = others.len() + 1;
    let (mut sum, mut wide) = ([0_f32; STRIP], [0_f32; STRIP]);
    let (sum, wide) = (&mut sum[..into.len()], &mut wide[..into.len()]);
    into.convert_to_f32_slice(sum);
    for (rank, other) in (2..).zip(others) {
        bytemuck::cast_slice::<u8, T>(other).convert_to_f32_slice(wide);
        combine(op, sum, wide, (rank == ranks).then_some(ranks));
    }
    into.convert_from_f32_slice(sum);
}

/// Combines the values of one more rank; of the last one, where it is of so many.
fn combine<T: Arithmetic>(op: ReduceOp, into: &mut [T], other: &[T], last_of: Option<usize>) {
    match (op, last_of) {
        (ReduceOp::Mean, Some(ranks)) if T::TIMES_RECIPROCAL && ranks.is_power_of_two() => {
            // The same to the bit, and several times faster than a division.
            let part = T::reciprocal(ranks);
            each(into, other, |a, b| a.plus(b).times(part));
        }
        (ReduceOp::Mean, Some(ranks)) => each(into, other, |a, b| a.plus(b).over(ranks)),
        (ReduceOp::Sum | ReduceOp::Mean, _) => each(into, other, T::plus),
        (ReduceOp::Max, _) => each(into, other, T::larger),
        (ReduceOp::Min, _) => each(into, other, T::smaller),
    }
}

fn each<T: Copy>(into: &mut [T], other: &[T], combine: impl Fn(T, T) -> T) {
    for (into, &other) in into.iter_mut().zip(other) {
        *into = combine(*into, other);
    }
}

/// What the operations need of a type.
trait Arithmetic: bytemuck::Pod {
    /// Whether dividing by a power of two is multiplying by its reciprocal.
    const TIMES_RECIPROCAL: bool;
    fn plus(self, other: Self) -> Self;
    fn larger(self, other: Self) -> Self;
    fn smaller(self, other: Self) -> Self;
    fn over(self, world: usize) -> Self;
    fn reciprocal(world: usize) -> Self;
    fn times(self, other: Self) -> Self;
}

macro_rules! float {
    ($($type:ident),*) => {$(
        impl Arithmetic for $type {
            const TIMES_RECIPROCAL: bool = true;

            fn plus(self, other: Self) -> Self {
                self + other
            }

            // A comparison with NaN is false: written so that a NaN on either side is what comes out.
            fn larger(self, other: Self) -> Self {
                if self > other || self.is_nan() { self } else { other }
            }

            fn smaller(self, other: Self) -> Self {
                if self < other || self.is_nan() { self } else { other }
            }

            fn over(self, world: usize) -> Self {
                self / world as $type
            }

            fn reciprocal(world: usize) -> Self {
                1.0 / world as $type
            }

            fn times(self, other: Self) -> Self {
                self * other
            }
        }
    )*};
}

float!(f32, f64);

impl Arithmetic for i64 {
    const TIMES_RECIPROCAL: bool = false;

    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    fn larger(self, other: Self) -> Self {
        self.max(other)
    }

    fn smaller(self, other: Self) -> Self {
        self.min(other)
    }

    fn over(self, world: usize) -> Self {
        self / world as i64
    }

    fn reciprocal(_: usize) -> Self {
        0
    }

    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced<T: bytemuck::Pod>(dtype: DType, op: ReduceOp, ranks: &[T]) -> T {
        let sources: Vec<&[u8]> = ranks.iter().map(bytemuck::bytes_of).collect();
        let mut into = [T::zeroed()];
        reduce(dtype, op, &sources, bytemuck::cast_slice_mut(&mut into));
        into[0]
    }

    #[test]
    fn each_operation_on_each_type() {
        use ReduceOp::{Max, Mean, Min, Sum};
        assert_eq!(reduced(DType::F32, Sum, &[1.5_f32, -2.0, 4.0]), 3.5);
        assert_eq!(reduced(DType::F64, Mean, &[1.0_f64, 2.0, 6.0]), 3.0);
        assert_eq!(reduced(DType::F32, Max, &[1.0_f32, 7.0, 6.0]), 7.0);
        assert_eq!(reduced(DType::F64, Min, &[1.0_f64, -7.0, 6.0]), -7.0);
        assert_eq!(reduced(DType::I64, Sum, &[i64::MAX, 1]), i64::MIN);
        assert_eq!(reduced(DType::I64, Mean, &[-3_i64, -4]), -3);
        assert_eq!(reduced(DType::I64, Max, &[3_i64, 9, -1]), 9);
        assert_eq!(reduced(DType::I64, Min, &[3_i64, 9, -1]), -1);
        let halves = [1.5, -2.0, 4.0, 0.5].map(f16::from_f32);
        assert_eq!(reduced(DType::F16, Mean, &halves), f16::from_f32(1.0));
        let brain = [1.5, -2.0, 4.0].map(bf16::from_f32);
        assert_eq!(reduced(DType::BF16, Max, &brain), bf16::from_f32(4.0));
    }

    #[test]
    fn halves_are_rounded_once() {
        // 2048 + 1 is 2048 in f16, so adding one at a time would never get anywhere.
        let mut ranks = vec![f16::from_f32(1.0); 9];
        ranks[0] = f16::from_f32(2048.0);
        assert_eq!(reduced(DType::F16, ReduceOp::Sum, &ranks), f16::from_f32(2056.0));
    }

    #[test]
    fn a_mean_is_the_quotient_to_the_bit() {
        for world in 1..20_usize {
            for value in [1.0_f32, 0.1, 1e37, 1e-44, f32::MIN_POSITIVE] {
                let ranks = vec![value; world];
                let sum = ranks[1..].iter().fold(value, |sum, value| sum + value);
                let mean = reduced(DType::F32, ReduceOp::Mean, &ranks);
                assert_eq!(mean.to_bits(), (sum / world as f32).to_bits(), "{value} over {world}");
            }
        }
    }

    #[test]
    fn a_nan_on_any_rank_shows() {
        for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min] {
            for nan_at in 0..3 {
                let mut ranks = [1.0_f32, 2.0, 3.0];
                ranks[nan_at] = f32::NAN;
                assert!(reduced(DType::F32, op, &ranks).is_nan(), "{op:?} with NaN at {nan_at}");
                let halves = ranks.map(bf16::from_f32);
                assert!(reduced(DType::BF16, op, &halves).is_nan(), "{op:?} with NaN at {nan_at}");
            }
        }
    }

    #[test]
    fn in_place_is_the_same_as_aside() {
        for world in 1..5 {
            for len in [0, 1, 1023, 1024, 5000] {
                let ranks: Vec<Vec<f32>> = (0..world)
                    .map(|rank| (0..len).map(|i| ((i * 7 + rank * 13) % 101) as f32 / 7.0).collect())
                    .collect();
                let sources: Vec<&[u8]> = ranks.iter().map(|rank| bytemuck::cast_slice(rank)).collect();
                let mut aside = vec![0_f32; len];
                reduce(DType::F32, ReduceOp::Mean, &sources, bytemuck::cast_slice_mut(&mut aside));
                let mut in_place = ranks.clone();
                let mut pieces: Vec<&mut [u8]> =
                    in_place.iter_mut().map(|rank| bytemuck::cast_slice_mut(rank)).collect();
                reduce_in_place(DType::F32, ReduceOp::Mean, &mut pieces, || true);
                assert!(in_place.iter().all(|rank| *rank == aside), "{world} ranks, {len} values");
            }
        }
    }
}
