//! The normal distribution: how much of it lies below a place, and where a share of it ends.

use std::f64::consts::SQRT_2;

/// Standard deviations from the mean at which it is cut off.
pub(crate) const WIDEST: f64 = 8.0;

/// The share below `z` standard deviations from the mean.
pub(crate) fn share(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The inverse of [`share`], within [`WIDEST`] of the mean, by bisection.
pub(crate) fn quantile(share_below: f64) -> f64 {
    let (mut low, mut high) = (-WIDEST, WIDEST);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if share(middle) < share_below {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (below, z) in [(0.5, 0.0), (0.841_344_746, 1.0), (0.975, 1.959_963_985), (0.001, -3.090_232_306)]
        {
            assert!((quantile(below) - z).abs() < 1e-8, "{below}");
            assert!((share(z) - below).abs() < 1e-9, "{z}");
        }
        assert!(quantile(0.0) <= -7.9 && quantile(1.0) >= 7.9);
    }
}
