//! First weights.

use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// How weights and biases are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// Weights and biases uniform within `±1/√inputs` (what PyTorch's `Linear` does).
    #[default]
    KaimingUniform,
    /// Weights uniform within `±√(6 / (inputs + outputs))`, biases zero.
    XavierUniform,
    /// Orthonormal rows or columns times a gain, biases zero (the habit of policy-gradient methods).
    Orthogonal {
        /// Gain of every layer but the last; √2 suits tanh and ReLU.
        hidden_gain: f32,
        /// Gain of the last layer; 0.01 keeps a fresh policy near uniform.
        output_gain: f32,
    },
}

impl Init {
    /// Fills `weights[inputs, outputs]` and `bias[outputs]`.
    pub(super) fn fill(
        self,
        rng: &mut Pcg64,
        inputs: usize,
        outputs: usize,
        last: bool,
        weights: &mut [f32],
        bias: &mut [f32],
    ) {
        bias.fill(0.0);
        match self {
            Self::KaimingUniform => {
                let bound = 1.0 / (inputs as f32).sqrt();
                uniform(rng, bound, weights);
                uniform(rng, bound, bias);
            }
            Self::XavierUniform => uniform(rng, (6.0 / (inputs + outputs) as f32).sqrt(), weights),
            Self::Orthogonal { hidden_gain, output_gain } => {
                orthogonal(rng, inputs, outputs, if last { output_gain } else { hidden_gain }, weights);
            }
        }
    }
}

pub(super) fn uniform(rng: &mut Pcg64, bound: f32, values: &mut [f32]) {
    for value in values {
        *value = (2.0 * rng.random::<f32>() - 1.0) * bound;
    }
}

/// A standard normal value (Box–Muller; `1 - u` keeps the logarithm's argument off zero).
fn normal(rng: &mut Pcg64) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Gram–Schmidt, twice over for accuracy, on the shorter side's vectors of normal values.
fn orthogonal(rng: &mut Pcg64, inputs: usize, outputs: usize, gain: f32, weights: &mut [f32]) {
    let (count, len) = (inputs.min(outputs), inputs.max(outputs));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut v: Vec<f64> = (0..len).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for u in &vectors {
                let dot: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= dot * u);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A vector that was in the span of the others (never seen with normal values) is drawn again.
        if norm > 1e-6 {
            for x in &mut v {
                *x /= norm;
            }
            vectors.push(v);
        }
    }
    for i in 0..inputs {
        for j in 0..outputs {
            let value = if inputs <= outputs { vectors[i][j] } else { vectors[j][i] };
            weights[i * outputs + j] = value as f32 * gain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Init;
    use air_core::seed::Seed;

    #[test]
    fn orthogonal_weights_are_orthonormal_times_the_gain() {
        let init = Init::Orthogonal { hidden_gain: 2.0, output_gain: 0.5 };
        for (inputs, outputs, last, gain) in [(4, 9, false, 2.0), (9, 4, true, 0.5), (5, 5, false, 2.0_f32)] {
            let (mut w, mut b) = (vec![0.0; inputs * outputs], vec![1.0; outputs]);
            init.fill(&mut Seed::new(1).rng(), inputs, outputs, last, &mut w, &mut b);
            assert_eq!(b, vec![0.0; outputs]);
            let vector = |i: usize| -> Vec<f32> {
                if inputs <= outputs {
                    w[i * outputs..(i + 1) * outputs].to_vec()
                } else {
                    w.iter().skip(i).step_by(outputs).copied().collect()
                }
            };
            for i in 0..inputs.min(outputs) {
                for j in 0..=i {
                    let dot: f32 = vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum();
                    let want = if i == j { gain * gain } else { 0.0 };
                    assert!((dot - want).abs() < 1e-5, "{i} {j}: {dot}");
                }
            }
        }
    }

    #[test]
    fn kaiming_stays_within_its_bound_and_fills_it() {
        let (mut w, mut b) = (vec![0.0; 6400], vec![0.0; 64]);
        Init::KaimingUniform.fill(&mut Seed::new(1).rng(), 100, 64, false, &mut w, &mut b);
        let (low, high) = w.iter().fold((0.0_f32, 0.0_f32), |(l, h), x| (l.min(*x), h.max(*x)));
        assert!((-0.1..-0.099).contains(&low) && (0.099..=0.1).contains(&high), "{low} {high}");
        assert!(b.iter().any(|b| *b != 0.0));
    }
}
