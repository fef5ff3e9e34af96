//! Activations, applied in place; each derivative is a function of the output, so only outputs are kept for backward.

use serde::{Deserialize, Serialize};

use super::math;

/// What follows the affine map of a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `y = x`.
    #[default]
    Identity,
    /// `y = max(x, 0)`.
    Relu,
    /// Hyperbolic tangent, within 3e-7 of the exact value.
    Tanh,
    /// `y = 1 / (1 + e^-x)`, within 3e-7 of the exact value.
    Sigmoid,
}

impl Activation {
    /// `y = f(y)`, element by element.
    pub fn apply(self, y: &mut [f32]) {
        let arch = pulp::Arch::new();
        match self {
            Self::Identity => {}
            Self::Relu => arch.dispatch(
                #[inline(always)]
                || y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y }),
            ),
            Self::Tanh => arch.dispatch(
                #[inline(always)]
                || y.iter_mut().for_each(|y| *y = math::tanh(*y)),
            ),
            Self::Sigmoid => arch.dispatch(
                #[inline(always)]
                || y.iter_mut().for_each(|y| *y = math::sigmoid(*y)),
            ),
        }
    }

    /// `d = d · f'(x)`, where `y = f(x)`.
    pub fn backward(self, y: &[f32], d: &mut [f32]) {
        let arch = pulp::Arch::new();
        let pairs = d.iter_mut().zip(y);
        match self {
            Self::Identity => {}
            Self::Relu => arch.dispatch(
                #[inline(always)]
                || pairs.for_each(|(d, y)| *d = if *y > 0.0 { *d } else { 0.0 }),
            ),
            Self::Tanh => arch.dispatch(
                #[inline(always)]
                || pairs.for_each(|(d, y)| *d *= y.mul_add(-y, 1.0)),
            ),
            Self::Sigmoid => arch.dispatch(
                #[inline(always)]
                || pairs.for_each(|(d, y)| *d *= y * (1.0 - y)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Activation;

    #[test]
    fn derivatives_match_finite_differences() {
        let x: Vec<f32> = (-40..=40).map(|i| i as f32 * 0.1 + 0.03).collect();
        for f in [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid] {
            let at = |shift: f32| {
                let mut y: Vec<f32> = x.iter().map(|x| x + shift).collect();
                f.apply(&mut y);
                y
            };
            let (low, mid, high) = (at(-5e-3), at(0.0), at(5e-3));
            let mut d = vec![1.0; x.len()];
            f.backward(&mid, &mut d);
            for i in 0..x.len() {
                let numeric = (high[i] - low[i]) / 1e-2;
                assert!((d[i] - numeric).abs() < 1e-3, "{f:?} at {}: {} {numeric}", x[i], d[i]);
            }
        }
    }

    #[test]
    fn relu_keeps_a_nan() {
        let mut y = [f32::NAN, -1.0, 2.0];
        Activation::Relu.apply(&mut y);
        assert!(y[0].is_nan());
        assert_eq!(y[1..], [0.0, 2.0]);
    }
}
