//! Squares as NumPy's scalars have them: by the C library's `pow`, which is not always the rounded product.
//!
//! The exponent is hidden from the compiler, which would make a product of it.

use std::hint::black_box;

#[inline]
pub(super) fn square(x: f64) -> f64 {
    x.powf(black_box(2.0))
}

#[inline]
pub(super) fn square_f32(x: f32) -> f32 {
    x.powf(black_box(2.0))
}
