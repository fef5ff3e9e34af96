//! [`Number`]: the element types that can be reduced, and [`ReduceOp`]: how.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::tensor::Element;

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

/// An element of a buffer that ranks can share and reduce: `f32`, `f64`, `f16`, `bf16` or `i64`.
///
/// Halves are added up as `f32` and rounded once, at the end.
pub trait Number: Element + bytemuck::Pod + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}
        impl Number for $type {}
    )*};
}

number!(f32, f64, f16, bf16, i64);
