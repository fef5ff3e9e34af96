//! The arithmetic: several buffers become one, element by element, in the order of the ranks.
//!
//! The loops are plain, so that the compiler turns them into vector instructions.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::number::ReduceOp;
use crate::tensor::DType;

/// The values reduced at a time where there are intermediate results: few enough for these to stay in the nearest cache.
const STRIP: usize = 1024;

/// Reduces `sources`, one a rank and in their order, into `into`. All are equally long and aligned to their type.
pub(super) fn reduce(dtype: DType, op: ReduceOp, sources: &[&[u8]], into: &mut [u8]) {
    match dtype {
        DType::F32 => typed::<f32>(op, sources, into),
        DType::F64 => typed::<f64>(op, sources, into),
        DType::I64 => typed::<i64>(op, sources, into),
        DType::F16 => widened::<f16>(op, sources, into),
        DType::BF16 => widened::<bf16>(op, sources, into),
        // `Number` is implemented for no other type.
        _ => debug_assert!(false, "{dtype} is not reduced"),
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
    let len = pieces.first().map_or(0, |piece| piece.len());
    let mut result = [0_u64; STRIP];
    let strip_bytes = size_of_val(&result);
    for (k, start) in (0..len).step_by(strip_bytes).enumerate() {
        if k % 64 == 0 && !go_on() {
            return;
        }
        let strip = start..len.min(start + strip_bytes);
        let result = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut result)[..strip.len()];
        let sources: Vec<&[u8]> = pieces.iter().map(|piece| &piece[strip.clone()]).collect();
        reduce(dtype, op, &sources, result);
        for piece in &mut *pieces {
            piece[strip.clone()].copy_from_slice(result);
        }
    }
}

fn typed<T: Arithmetic>(op: ReduceOp, sources: &[&[u8]], into: &mut [u8]) {
    let sources: Vec<&[T]> = sources.iter().map(|source| bytemuck::cast_slice(source)).collect();
    combined(op, &sources, bytemuck::cast_slice_mut(into));
}

/// Half-width floats by way of `f32`.
fn widened<T: bytemuck::Pod>(op: ReduceOp, sources: &[&[u8]], into: &mut [u8])
where
    [T]: HalfFloatSliceExt,
{
    let sources: Vec<&[T]> = sources.iter().map(|source| bytemuck::cast_slice(source)).collect();
    let mut wide = vec![[0_f32; STRIP]; sources.len()];
    let mut result = [0_f32; STRIP];
    for (k, into) in bytemuck::cast_slice_mut::<u8, T>(into).chunks_mut(STRIP).enumerate() {
        let (start, len) = (k * STRIP, into.len());
        for (wide, source) in wide.iter_mut().zip(&sources) {
            source[start..start + len].convert_to_f32_slice(&mut wide[..len]);
        }
        let wide: Vec<&[f32]> = wide.iter().map(|wide| &wide[..len]).collect();
        combined(op, &wide, &mut result[..len]);
        into.convert_from_f32_slice(&result[..len]);
    }
}

fn combined<T: Arithmetic>(op: ReduceOp, sources: &[&[T]], into: &mut [T]) {
    let world = sources.len();
    match op {
        ReduceOp::Sum => fold(sources, into, T::plus, |sum| sum),
        ReduceOp::Mean if T::TIMES_RECIPROCAL && world.is_power_of_two() => {
            // The same to the bit, and several times faster than a division.
            let part = T::reciprocal(world);
            fold(sources, into, T::plus, |sum| sum.times(part));
        }
        ReduceOp::Mean => fold(sources, into, T::plus, |sum| sum.over(world)),
        ReduceOp::Max => fold(sources, into, T::larger, |max| max),
        ReduceOp::Min => fold(sources, into, T::smaller, |min| min),
    }
}

fn fold<T: Copy>(sources: &[&[T]], into: &mut [T], combine: impl Fn(T, T) -> T, finish: impl Fn(T) -> T) {
    match sources {
        [] => {}
        // Every operation over one rank leaves the values as they are.
        [only] => into.copy_from_slice(only),
        [one, two] => {
            for ((into, &a), &b) in into.iter_mut().zip(*one).zip(*two) {
                *into = finish(combine(a, b));
            }
        }
        [one, two, middle @ .., last] => {
            for (k, into) in into.chunks_mut(STRIP).enumerate() {
                let strip = k * STRIP..k * STRIP + into.len();
                for ((into, &a), &b) in into.iter_mut().zip(&one[strip.clone()]).zip(&two[strip.clone()]) {
                    *into = combine(a, b);
                }
                for source in middle {
                    for (into, &b) in into.iter_mut().zip(&source[strip.clone()]) {
                        *into = combine(*into, b);
                    }
                }
                for (into, &b) in into.iter_mut().zip(&last[strip]) {
                    *into = finish(combine(*into, b));
                }
            }
        }
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
