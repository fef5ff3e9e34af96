//! Rotary positions (Su et al., 2021), in the half-split layout of Llama's published weights, and Llama 3's scaling of their frequencies.

use pulp::Arch;
use serde::Deserialize;

/// How frequencies are scaled for a context longer than the one first trained with: `rope_scaling` with `rope_type: llama3`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct Llama3Scaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_max_position_embeddings: f64,
}

/// Cosines and sines of every position.
#[derive(Debug)]
pub(super) struct Rope {
    half: usize,
    /// `[position, half]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    pub(super) fn new(
        head_dim: usize,
        theta: f64,
        linear: f64,
        llama3: Option<Llama3Scaling>,
        positions: usize,
    ) -> Self {
        let half = head_dim / 2;
        let frequency = |i: usize| {
            let plain = theta.powf(-2.0 * i as f64 / head_dim as f64);
            f64::from(llama3.map_or(plain, |scaling| scaled(plain, scaling)) as f32) / linear
        };
        let frequencies: Vec<f64> = (0..half).map(frequency).collect();
        let angles = (0..positions).flat_map(|position| {
            // In 32 bits, as in the reference implementations that models were trained with.
            frequencies.iter().map(move |frequency| position as f32 * *frequency as f32)
        });
        let (sin, cos) =
            angles.map(|angle| f64::from(angle).sin_cos()).map(|(s, c)| (s as f32, c as f32)).unzip();
        Rope { half, cos, sin }
    }

    /// Rotates heads, one after another, of the token at this position.
    pub(super) fn rotate(&self, heads: &mut [f32], position: usize) {
        let at = position * self.half..(position + 1) * self.half;
        let (cos, sin) = (&self.cos[at.clone()], &self.sin[at]);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for head in heads.chunks_exact_mut(2 * self.half) {
                    let (a, b) = head.split_at_mut(self.half);
                    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            },
        );
    }
}

/// Long waves are stretched, short ones left, those between blended.
fn scaled(frequency: f64, scaling: Llama3Scaling) -> f64 {
    let Llama3Scaling {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings,
    } = scaling;
    let wave = 2.0 * std::f64::consts::PI / frequency;
    let ratio = original_max_position_embeddings / wave;
    if ratio < low {
        frequency / factor
    } else if ratio > high {
        frequency
    } else {
        let smooth = (ratio - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
