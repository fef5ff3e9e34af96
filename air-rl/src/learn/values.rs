//! How a row of outputs holds the values of discrete actions: plainly, as a value and advantages, as distributions.

use serde::{Deserialize, Serialize};

/// The layout of a row: for each atom of a distribution (one if there are none) a value stream of one item if
/// duelling, then one item for each choice; atoms are the innermost axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueHead {
    /// Value and advantages apart, `Q = V + A − mean A` ([Wang et al. 2016](https://arxiv.org/abs/1511.06581)).
    /// Both share the hidden layers and part at the last one.
    pub duelling: bool,
    /// A distribution over returns for each choice instead of its mean ([C51](https://arxiv.org/abs/1707.06887)).
    pub support: Option<Support>,
}

/// Returns that a distribution is spread over: `atoms` of them, evenly from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// How many, at least 2.
    pub atoms: usize,
    /// The lowest return.
    pub low: f32,
    /// The highest return.
    pub high: f32,
}

impl Support {
    /// Distance of two neighbours.
    pub fn step(&self) -> f32 {
        (self.high - self.low) / (self.atoms - 1) as f32
    }

    /// The return of atom `i`.
    #[inline]
    pub fn at(&self, i: usize) -> f32 {
        self.low + i as f32 * self.step()
    }
}

impl ValueHead {
    /// Atoms of each choice.
    pub fn atoms(&self) -> usize {
        self.support.map_or(1, |support| support.atoms)
    }

    /// Items of a row for `choices` choices.
    pub fn outputs(&self, choices: usize) -> usize {
        (choices + usize::from(self.duelling)) * self.atoms()
    }

    /// Combines the two streams: `[choices, atoms]` values or logits into `out`.
    pub fn combine(&self, row: &[f32], out: &mut [f32]) {
        if !self.duelling {
            out.copy_from_slice(row);
            return;
        }
        let atoms = self.atoms();
        let (value, advantages) = row.split_at(atoms);
        let choices = (advantages.len() / atoms) as f32;
        for (atom, value) in value.iter().enumerate() {
            let mean = advantages.iter().skip(atom).step_by(atoms).sum::<f32>() / choices;
            let shift = value - mean;
            for (out, advantage) in out.iter_mut().zip(advantages).skip(atom).step_by(atoms) {
                *out = shift + advantage;
            }
        }
    }

    /// The gradient of the row, given that of what [`combine`](Self::combine) made of it.
    pub fn combine_backward(&self, d_out: &[f32], d_row: &mut [f32]) {
        if !self.duelling {
            d_row.copy_from_slice(d_out);
            return;
        }
        let atoms = self.atoms();
        let (d_value, d_advantages) = d_row.split_at_mut(atoms);
        let choices = (d_out.len() / atoms) as f32;
        for (atom, d_value) in d_value.iter_mut().enumerate() {
            let sum: f32 = d_out.iter().skip(atom).step_by(atoms).sum();
            *d_value = sum;
            for (d, d_out) in d_advantages.iter_mut().zip(d_out).skip(atom).step_by(atoms) {
                *d = d_out - sum / choices;
            }
        }
    }

    /// The value of each choice: of distributions their mean.
    pub fn values(&self, row: &[f32], out: &mut [f32]) {
        let Some(support) = self.support else { return self.combine(row, out) };
        let atoms = support.atoms;
        let (value, advantages) = if self.duelling { row.split_at(atoms) } else { (&[][..], row) };
        let choices = advantages.len() / atoms;
        for (choice, out) in out.iter_mut().enumerate() {
            // The mean advantage is the same for all choices but differs between atoms, so it cannot be left out.
            let logit = |atom: usize| {
                let own = advantages[choice * atoms + atom];
                if value.is_empty() {
                    return own;
                }
                let mean = advantages.iter().skip(atom).step_by(atoms).sum::<f32>() / choices as f32;
                value[atom] + own - mean
            };
            let max = (0..atoms).map(logit).fold(f32::NEG_INFINITY, f32::max);
            let (mut mass, mut mean) = (0.0, 0.0);
            for atom in 0..atoms {
                let p = (logit(atom) - max).exp();
                mass += p;
                mean += p * support.at(atom);
            }
            *out = mean / mass;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(duelling: bool, atoms: usize) -> ValueHead {
        let support = (atoms > 1).then_some(Support { atoms, low: -1.0, high: 3.0 });
        ValueHead { duelling, support }
    }

    #[test]
    fn duelling_values_are_value_plus_centred_advantage() {
        let mut out = [0.0; 2];
        head(true, 1).values(&[10.0, 1.0, 3.0], &mut out);
        assert_eq!(out, [9.0, 11.0]);
    }

    #[test]
    fn a_distributions_value_is_its_mean() {
        let mut out = [0.0; 2];
        // Three atoms at −1, 1, 3; all mass on the last, and evenly spread.
        head(false, 3).values(&[0.0, 0.0, 60.0, 5.0, 5.0, 5.0], &mut out);
        assert_eq!(out, [3.0, 1.0]);
    }

    proptest! {
        #[test]
        fn the_gradient_of_combining_is_its_transpose(
            row in proptest::collection::vec(-2.0_f32..2.0, 12),
            d_out in proptest::collection::vec(-2.0_f32..2.0, 9),
        ) {
            // Combining is linear: ⟨combine(row), d_out⟩ = ⟨row, combine_backward(d_out)⟩.
            for (head, rows, outs) in [(head(true, 3), 12, 9), (head(false, 3), 9, 9), (head(true, 1), 10, 9)] {
                let (mut out, mut d_row) = (vec![0.0; outs], vec![0.0; rows]);
                head.combine(&row[..rows], &mut out);
                head.combine_backward(&d_out, &mut d_row);
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                prop_assert!((dot(&out, &d_out) - dot(&row[..rows], &d_row)).abs() < 1e-3);
            }
        }
    }
}
