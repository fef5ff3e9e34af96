//! Running means and deviations, of observations and of returns; saved with the policy that has seen the world through them.

use serde::{Deserialize, Serialize};

use crate::play::rollout::Rollout;

/// Keeps the quotient finite where nothing has varied yet.
const EPS: f64 = 1e-8;
/// Normalised values are held within ± this.
pub(crate) const LIMIT: f32 = 10.0;

/// Mean and variance of a stream of rows (Welford's recurrence, in f64).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: f64,
    mean: Vec<f64>,
    /// Sum of squared distances from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Of rows of `len` items; nothing seen yet.
    pub fn new(len: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; len], squares: vec![0.0; len] }
    }

    /// Takes in one row.
    pub fn observe(&mut self, row: &[f32]) {
        self.count += 1.0;
        for ((&x, mean), squares) in row.iter().zip(&mut self.mean).zip(&mut self.squares) {
            let before = f64::from(x) - *mean;
            *mean += before / self.count;
            *squares += before * (f64::from(x) - *mean);
        }
    }

    /// Variance of each item; 1 before the second row.
    pub fn variance(&self) -> impl Iterator<Item = f64> + '_ {
        self.squares.iter().map(|s| if self.count < 2.0 { 1.0 } else { s / self.count })
    }
}

/// Brings observations to mean 0 and deviation 1. What it applies is frozen while a batch is played, and takes in what
/// was played only afterwards: so a policy and its learner see the same numbers, however many runners there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    moments: Moments,
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Normalizer {
    /// For observations of `len` items; changes nothing yet.
    pub fn new(len: usize) -> Self {
        Self { moments: Moments::new(len), mean: vec![0.0; len], scale: vec![1.0; len] }
    }

    /// Normalises rows in place.
    pub fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = ((*x - mean) * scale).clamp(-LIMIT, LIMIT);
            }
        }
    }

    /// What is subtracted from each item, and what it is multiplied with then.
    pub(crate) fn applied(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.scale)
    }

    /// Takes in rows as they were before normalising.
    pub fn observe(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.mean.len()) {
            self.moments.observe(row);
        }
    }

    /// Applies from now on what has been seen.
    pub fn refresh(&mut self) {
        let Self { moments, mean, scale } = self;
        for (((mean, scale), &m), v) in mean.iter_mut().zip(scale).zip(&moments.mean).zip(moments.variance())
        {
            *mean = m as f32;
            *scale = (1.0 / (v + EPS).sqrt()) as f32;
        }
    }

    /// Items of an observation.
    pub fn len(&self) -> usize {
        self.mean.len()
    }

    /// Is there nothing in an observation? Never, of a well-formed space.
    pub fn is_empty(&self) -> bool {
        self.mean.is_empty()
    }
}

/// Divides rewards by the running deviation of the discounted return, as Gymnasium's `NormalizeReward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardScaler {
    moments: Moments,
    /// The discounted return so far of each environment's episode. Episodes do not outlive a run.
    #[serde(skip)]
    returns: Vec<f64>,
}

impl Default for RewardScaler {
    fn default() -> Self {
        Self { moments: Moments::new(1), returns: Vec::new() }
    }
}

impl RewardScaler {
    /// Scales the rewards of a rollout in place, environment by environment.
    pub fn apply(&mut self, gamma: f32, rollout: &mut Rollout) {
        self.returns.resize(rollout.envs(), 0.0);
        let steps = rollout.steps();
        for (env, total) in self.returns.iter_mut().enumerate() {
            for row in env * steps..(env + 1) * steps {
                *total = *total * f64::from(gamma) + f64::from(rollout.reward[row]);
                self.moments.observe(&[*total as f32]);
                if rollout.terminated[row] || rollout.truncated[row] {
                    *total = 0.0;
                }
            }
        }
        let variance = self.moments.variance().next().unwrap_or(1.0);
        let scale = (1.0 / (variance + EPS).sqrt()) as f32;
        for reward in &mut rollout.reward {
            *reward = (*reward * scale).clamp(-LIMIT, LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_to_mean_zero_and_deviation_one_once_refreshed() {
        let rows: Vec<f32> = (0..400).map(|i| if i % 2 == 0 { i as f32 } else { 7.0 }).collect();
        let mut normalizer = Normalizer::new(2);
        let mut seen = rows.clone();
        normalizer.observe(&rows);
        normalizer.apply(&mut seen);
        assert_eq!(seen[1], 7.0, "applied before it was refreshed");
        normalizer.refresh();
        let mut seen = rows;
        normalizer.apply(&mut seen);
        let mean = seen.iter().step_by(2).sum::<f32>() / 200.0;
        let variance = seen.iter().step_by(2).map(|x| x * x).sum::<f32>() / 200.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
        assert!(seen.iter().skip(1).step_by(2).all(|&x| x == 0.0), "a constant is not zero");
    }
}
