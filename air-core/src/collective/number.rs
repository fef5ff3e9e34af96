//! [`Number`]: the element types that can be reduced, and [`ReduceOp`]: how.

use serde::{Deserialize, Serialize};

/// How the values of all ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReduceOp {
    /// The sum, added in the order of the ranks. Integers wrap around.
    Sum,
    /// The sum divided by the number of ranks. Integers round towards zero.
    Mean,
    /// The largest; NaN if any is NaN, so that a diverged rank shows.
    Max,
    /// The smallest; NaN if any is NaN.
    Min,
}

mod sealed {
    pub trait Sealed {}
}

/// An element of a buffer that ranks can share and reduce: `f32`, `f64` or `i64`.
pub trait Number: bytemuck::Pod + Send + Sync + std::fmt::Debug + sealed::Sealed {
    /// The type's name, as errors show it.
    const NAME: &'static str;

    /// `into[i] = into[i] op from[i]`, [`ReduceOp::Mean`] being a sum until [`finish`](Self::finish).
    fn fold(op: ReduceOp, into: &mut [Self], from: &[Self]);

    /// What is left to do once all ranks are folded: a mean divides by `world`.
    fn finish(op: ReduceOp, values: &mut [Self], world: usize);
}

fn each<T: Copy>(into: &mut [T], from: &[T], combine: impl Fn(T, T) -> T) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = combine(*a, *b);
    }
}

macro_rules! float {
    ($type:ident) => {
        impl sealed::Sealed for $type {}

        impl Number for $type {
            const NAME: &'static str = stringify!($type);

            fn fold(op: ReduceOp, into: &mut [Self], from: &[Self]) {
                match op {
                    ReduceOp::Sum | ReduceOp::Mean => each(into, from, |a, b| a + b),
                    // A comparison with NaN is false: written so that a NaN on either side is what comes out.
                    ReduceOp::Max => each(into, from, |a, b| if a > b || a.is_nan() { a } else { b }),
                    ReduceOp::Min => each(into, from, |a, b| if a < b || a.is_nan() { a } else { b }),
                }
            }

            fn finish(op: ReduceOp, values: &mut [Self], world: usize) {
                if op == ReduceOp::Mean && world.is_power_of_two() {
                    // The same to the bit, and several times faster than a division.
                    let part = 1.0 / world as $type;
                    for value in values {
                        *value *= part;
                    }
                } else if op == ReduceOp::Mean {
                    for value in values {
                        *value /= world as $type;
                    }
                }
            }
        }
    };
}

float!(f32);
float!(f64);

impl sealed::Sealed for i64 {}

impl Number for i64 {
    const NAME: &'static str = "i64";

    fn fold(op: ReduceOp, into: &mut [Self], from: &[Self]) {
        match op {
            ReduceOp::Sum | ReduceOp::Mean => each(into, from, i64::wrapping_add),
            ReduceOp::Max => each(into, from, i64::max),
            ReduceOp::Min => each(into, from, i64::min),
        }
    }

    fn finish(op: ReduceOp, values: &mut [Self], world: usize) {
        if op == ReduceOp::Mean {
            for value in values {
                *value /= world as i64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced<T: Number>(op: ReduceOp, ranks: &[T]) -> T {
        let mut value = [ranks[0]];
        for rank in &ranks[1..] {
            T::fold(op, &mut value, &[*rank]);
        }
        T::finish(op, &mut value, ranks.len());
        value[0]
    }

    #[test]
    fn each_operation_on_each_type() {
        assert_eq!(reduced(ReduceOp::Sum, &[1.5_f32, -2.0, 4.0]), 3.5);
        assert_eq!(reduced(ReduceOp::Mean, &[1.0_f64, 2.0, 6.0]), 3.0);
        assert_eq!(reduced(ReduceOp::Max, &[1.0_f32, 7.0, 6.0]), 7.0);
        assert_eq!(reduced(ReduceOp::Min, &[1.0_f64, -7.0, 6.0]), -7.0);
        assert_eq!(reduced(ReduceOp::Sum, &[i64::MAX, 1]), i64::MIN);
        assert_eq!(reduced(ReduceOp::Mean, &[-3_i64, -4]), -3);
        assert_eq!(reduced(ReduceOp::Max, &[3_i64, 9, -1]), 9);
        assert_eq!(reduced(ReduceOp::Min, &[3_i64, 9, -1]), -1);
    }

    #[test]
    fn a_mean_is_the_quotient_to_the_bit() {
        for world in 1..20_usize {
            for sum in [1.0_f32, 0.1, 3.3e38, 1e-44, f32::MIN_POSITIVE] {
                let mut value = [sum];
                f32::finish(ReduceOp::Mean, &mut value, world);
                assert_eq!(value[0].to_bits(), (sum / world as f32).to_bits(), "{sum} over {world}");
            }
        }
    }

    #[test]
    fn a_nan_on_any_rank_shows() {
        for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min] {
            for nan_at in 0..3 {
                let mut ranks = [1.0_f32, 2.0, 3.0];
                ranks[nan_at] = f32::NAN;
                assert!(reduced(op, &ranks).is_nan(), "{op:?} with NaN at {nan_at}");
            }
        }
    }
}
