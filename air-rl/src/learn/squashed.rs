//! Normal distributions brought into ±1 by a tanh, and what draws from them cost and earn
//! ([Haarnoja et al. 2018](https://arxiv.org/abs/1812.05905), appendix C).

use rand_pcg::Pcg64;

use crate::learn::gaussian;
use crate::play::actor::LOG_STD;

/// Draws of a batch with all that their gradient needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Squashed {
    /// Actions within ±1, `[batch, actions]`.
    pub action: Vec<f32>,
    /// Log-density of each, `[batch]`.
    pub log_prob: Vec<f32>,
    /// The standard normal draws behind them.
    pub noise: Vec<f32>,
}

impl Squashed {
    /// Draws one action for each row of `outputs[batch, 2 · actions]`: means, then log deviations.
    pub(crate) fn draw(&mut self, outputs: &[f32], actions: usize, rng: &mut Pcg64) {
        self.noise.resize(outputs.len() / 2, 0.0);
        gaussian::fill(rng, &mut self.noise);
        self.place(outputs, actions);
    }

    /// The actions of the present noise under other outputs.
    pub(crate) fn place(&mut self, outputs: &[f32], actions: usize) {
        self.action.clear();
        self.log_prob.clear();
        for (row, noise) in outputs.chunks_exact(2 * actions).zip(self.noise.chunks_exact(actions)) {
            let (mean, log_std) = row.split_at(actions);
            let mut log_prob = 0.0;
            for ((mean, log_std), z) in mean.iter().zip(log_std).zip(noise) {
                let log_std = log_std.clamp(LOG_STD.0, LOG_STD.1);
                let u = mean + log_std.exp() * z;
                self.action.push(u.tanh());
                // log(1 − tanh² u), written so that it does not cancel for large u.
                let log_slope = 2.0 * (std::f32::consts::LN_2 - u - softplus(-2.0 * u));
                log_prob += -0.5 * z * z - log_std - gaussian::HALF_LOG_TAU - log_slope;
            }
            self.log_prob.push(log_prob);
        }
    }

    /// The gradient by the outputs of `mean over the batch of alpha · log π(a|s)` plus whatever has the gradient
    /// `d_action` by the actions.
    ///
    /// With `u = μ + σ ε`, `a = tanh u`: `∂a/∂u = 1 − a²` and `∂log π/∂u = 2a`; σ comes in through u and as `−log σ`.
    pub(crate) fn backward(
        &self,
        outputs: &[f32],
        actions: usize,
        alpha: f32,
        d_action: &[f32],
        d_outputs: &mut Vec<f32>,
    ) {
        d_outputs.clear();
        d_outputs.resize(outputs.len(), 0.0);
        let alpha = alpha / self.log_prob.len() as f32;
        let rows = outputs.chunks_exact(2 * actions).zip(d_outputs.chunks_exact_mut(2 * actions));
        for (i, (row, d_row)) in rows.enumerate() {
            let (d_mean, d_log_std) = d_row.split_at_mut(actions);
            for j in 0..actions {
                let (k, log_std) = (i * actions + j, row[actions + j]);
                let a = self.action[k];
                let d_u = alpha * 2.0 * a + d_action[k] * (1.0 - a * a);
                d_mean[j] = d_u;
                if (LOG_STD.0..=LOG_STD.1).contains(&log_std) {
                    d_log_std[j] = d_u * log_std.exp() * self.noise[k] - alpha;
                }
            }
        }
    }
}

/// log(1 + eˣ).
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use air_core::seed::Seed;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the definition in f64: α log π(a) + c · a, with a drawn by reparametrisation.
        #[test]
        fn the_gradient_of_draws_equals_finite_differences(
            outputs in proptest::collection::vec(-1.5_f32..1.0, 8),
            d_action in proptest::collection::vec(-2.0_f32..2.0, 4),
            alpha in 0.0_f32..2.0,
            seed in 0_u64..1000,
        ) {
            let mut drawn = Squashed::default();
            drawn.draw(&outputs, 2, &mut Seed::new(seed).rng());
            let noise = drawn.noise.clone();
            let at = |outputs: &[f64]| {
                let mut sum = 0.0;
                for row in 0..2 {
                    for j in 0..2 {
                        let (mean, log_std) = (outputs[row * 4 + j], outputs[row * 4 + 2 + j]);
                        let z = f64::from(noise[row * 2 + j]);
                        let u = mean + log_std.exp() * z;
                        let log_p = -0.5 * z * z - log_std - 0.5 * std::f64::consts::TAU.ln()
                            - (1.0 - u.tanh().powi(2)).ln();
                        sum += f64::from(alpha) / 2.0 * log_p + f64::from(d_action[row * 2 + j]) * u.tanh();
                    }
                }
                sum
            };
            let wide: Vec<f64> = outputs.iter().map(|&x| f64::from(x)).collect();
            let mut d_outputs = Vec::new();
            drawn.backward(&outputs, 2, alpha, &d_action, &mut d_outputs);
            for i in 0..8 {
                let (mut up, mut down) = (wide.clone(), wide.clone());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                let numeric = (at(&up) - at(&down)) / 2e-5;
                let d = f64::from(d_outputs[i]);
                prop_assert!((d - numeric).abs() < 2e-3 * (1.0 + numeric.abs()), "{i}: {d} {numeric}");
            }
        }
    }

    #[test]
    fn densities_hold_far_out_and_at_the_ends_of_the_deviations() {
        let mut drawn = Squashed { noise: vec![0.0, 0.0], ..Squashed::default() };
        drawn.place(&[30.0, -9.0, -30.0, 5.0], 1);
        assert_eq!(drawn.action, [1.0, -1.0]);
        assert!(drawn.log_prob.iter().all(|p| p.is_finite()), "{:?}", drawn.log_prob);
        let mut d = Vec::new();
        drawn.backward(&[30.0, -9.0, -30.0, 5.0], 1, 1.0, &[1.0, 1.0], &mut d);
        assert_eq!(d[3], 0.0, "a deviation beyond its range has a gradient");
    }
}
