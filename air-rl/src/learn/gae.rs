//! Generalised advantage estimation ([Schulman et al. 2016](https://arxiv.org/abs/1506.02438)).

use air_train::nn::{Mlp, Scratch};

use crate::error::Result;
use crate::learn::nets::network;
use crate::play::rollout::Rollout;

/// How one row (one environment's consecutive steps) ends or goes on at each step, in values:
/// what the critic expects after step t. The one place where `terminated` and `truncated` part ways:
///
/// - terminated: nothing follows, zero (also when the same step was truncated);
/// - truncated: the value of the *final* observation, not of the next episode's first;
/// - otherwise: the value of the next observation.
///
/// `values[t]` is the critic's value of the observation step t acted on, `last_value` of the observation after the row's
/// last step. `out[t]` must hold the value of the final observation where step t was truncated; every other item is
/// written. All slices have one length.
pub fn next_values(
    values: &[f32],
    terminated: &[bool],
    truncated: &[bool],
    last_value: f32,
    out: &mut [f32],
) {
    for (t, out) in out.iter_mut().enumerate() {
        if terminated[t] {
            *out = 0.0;
        } else if !truncated[t] {
            *out = values.get(t + 1).copied().unwrap_or(last_value);
        }
    }
}

/// Advantages of one row, written to `advantages`:
/// `A[t] = δ[t] + γλ A[t+1]` within an episode, with `δ[t] = r[t] + γ next_value[t] − value[t]`.
///
/// `ended[t]` (terminated or truncated) stops the sum, so nothing leaks from one episode into another.
pub fn advantages(
    gamma: f32,
    lambda: f32,
    rewards: &[f32],
    values: &[f32],
    next_values: &[f32],
    ended: impl Fn(usize) -> bool,
    advantages: &mut [f32],
) {
    let mut sum = 0.0;
    for t in (0..advantages.len()).rev() {
        let delta = rewards[t] + gamma * next_values[t] - values[t];
        sum = if ended(t) { delta } else { delta + gamma * lambda * sum };
        advantages[t] = sum;
    }
}

/// Values of a whole rollout and what follows from them; working memory, kept between updates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimate {
    /// Of every observation acted on, `[envs, steps]`.
    pub values: Vec<f32>,
    /// Of the final observations of [`Rollout::cut_rows`].
    pub cut_values: Vec<f32>,
    /// Of [`Rollout::last_obs`].
    pub last_values: Vec<f32>,
    /// Of what followed every step, `[envs, steps]`.
    pub next_values: Vec<f32>,
    /// `[envs, steps]`.
    pub advantages: Vec<f32>,
    /// What the values should have been: advantage plus value, `[envs, steps]`.
    pub returns: Vec<f32>,
}

impl Estimate {
    /// The critic's values of everything seen.
    pub(crate) fn values(&mut self, rollout: &Rollout, critic: &Mlp, scratch: &mut Scratch) -> Result<()> {
        for (obs, rows, to) in [
            (&rollout.obs, rollout.rows(), &mut self.values),
            (&rollout.last_obs, rollout.envs(), &mut self.last_values),
            (&rollout.cut_obs, rollout.cut_rows.len(), &mut self.cut_values),
        ] {
            to.clear();
            to.extend_from_slice(critic.infer(obs, rows, scratch).map_err(network)?);
        }
        Ok(())
    }

    /// Values of what followed every step, from the three kinds of values, environment by environment.
    pub(crate) fn follow(&mut self, rollout: &Rollout) {
        let Self { values, cut_values, last_values, next_values: next, .. } = self;
        next.resize(rollout.rows(), 0.0);
        // Where a row was cut off, the value of its final observation; `next_values` keeps these and fills in the rest.
        for (&row, &value) in rollout.cut_rows.iter().zip(&*cut_values) {
            next[row] = value;
        }
        for (env, &last_value) in last_values.iter().enumerate() {
            let rows = env * rollout.steps()..(env + 1) * rollout.steps();
            let (terminated, truncated) =
                (&rollout.terminated[rows.clone()], &rollout.truncated[rows.clone()]);
            next_values(&values[rows.clone()], terminated, truncated, last_value, &mut next[rows]);
        }
    }

    /// [`follow`](Self::follow), then advantages and returns.
    pub(crate) fn advantages(&mut self, rollout: &Rollout, gamma: f32, lambda: f32) {
        self.follow(rollout);
        let Self { values, next_values: next, advantages: out, returns, .. } = self;
        out.resize(rollout.rows(), 0.0);
        for first in (0..rollout.rows()).step_by(rollout.steps()) {
            let rows = first..first + rollout.steps();
            let ended = |t| rollout.terminated[first + t] || rollout.truncated[first + t];
            let (reward, values) = (&rollout.reward[rows.clone()], &values[rows.clone()]);
            advantages(gamma, lambda, reward, values, &next[rows.clone()], ended, &mut out[rows]);
        }
        returns.clear();
        returns.extend(out.iter().zip(&*values).map(|(a, v)| a + v));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        rewards: Vec<f32>,
        values: Vec<f32>,
        cut_values: Vec<f32>,
        terminated: Vec<bool>,
        truncated: Vec<bool>,
        last_value: f32,
    }

    fn row() -> impl Strategy<Value = Row> {
        (1_usize..24).prop_flat_map(|n| {
            let floats = || proptest::collection::vec(-3.0_f32..3.0, n);
            let flags = || proptest::collection::vec(proptest::bool::weighted(0.2), n);
            (floats(), floats(), floats(), flags(), flags(), -3.0_f32..3.0).prop_map(
                |(rewards, values, cut_values, terminated, truncated, last_value)| Row {
                    rewards,
                    values,
                    cut_values,
                    terminated,
                    truncated,
                    last_value,
                },
            )
        })
    }

    fn estimate(r: &Row, gamma: f32, lambda: f32) -> Vec<f32> {
        let (mut next, mut out) = (r.cut_values.clone(), vec![0.0; r.rewards.len()]);
        next_values(&r.values, &r.terminated, &r.truncated, r.last_value, &mut next);
        advantages(
            gamma,
            lambda,
            &r.rewards,
            &r.values,
            &next,
            |t| r.terminated[t] || r.truncated[t],
            &mut out,
        );
        out
    }

    /// The definition instead of the recursion: for every t, the λ-weighted mean of all n-step returns up to the
    /// episode's end or the row's, each written out; O(n³) and in f64.
    fn oracle(r: &Row, gamma: f64, lambda: f64) -> Vec<f64> {
        let n = r.rewards.len();
        (0..n)
            .map(|t| {
                let end = (t..n).find(|&k| r.terminated[k] || r.truncated[k]).unwrap_or(n - 1);
                let n_step = |k: usize| -> f64 {
                    let paid: f64 =
                        (t..=k).map(|i| gamma.powi((i - t) as i32) * f64::from(r.rewards[i])).sum();
                    let after = if k < end || !(r.terminated[k] || r.truncated[k]) {
                        if k + 1 < n { r.values[k + 1] } else { r.last_value }
                    } else if r.terminated[k] {
                        0.0
                    } else {
                        r.cut_values[k]
                    };
                    paid + gamma.powi((k - t + 1) as i32) * f64::from(after)
                };
                let mixed: f64 =
                    (t..end).map(|k| (1.0 - lambda) * lambda.powi((k - t) as i32) * n_step(k)).sum::<f64>()
                        + lambda.powi((end - t) as i32) * n_step(end);
                mixed - f64::from(r.values[t])
            })
            .collect()
    }

    proptest! {
        #[test]
        fn equals_the_lambda_return_written_out(r in row(), gamma in 0.0_f32..=1.0, lambda in 0.0_f32..=1.0) {
            for (got, want) in estimate(&r, gamma, lambda).iter().zip(oracle(&r, gamma.into(), lambda.into())) {
                prop_assert!((f64::from(*got) - want).abs() < 1e-3, "{got} {want}");
            }
        }

        #[test]
        fn nothing_leaks_across_an_end(mut r in row(), at in 0_usize..24, noise in -100.0_f32..100.0) {
            let at = at % r.rewards.len();
            r.truncated[at] = true;
            let before = estimate(&r, 0.99, 0.95);
            r.rewards[at + 1..].fill(noise);
            r.values[at + 1..].fill(noise);
            r.last_value = noise;
            prop_assert_eq!(&estimate(&r, 0.99, 0.95)[..=at], &before[..=at]);
        }

        #[test]
        fn a_termination_ignores_every_later_value_even_when_truncated_too(mut r in row(), at in 0_usize..24) {
            let at = at % r.rewards.len();
            r.terminated[at] = true;
            r.truncated[at] = true;
            let before = estimate(&r, 0.99, 0.95)[at];
            r.cut_values[at] = 1e6;
            prop_assert_eq!(estimate(&r, 0.99, 0.95)[at], before);
            prop_assert_eq!(before, r.rewards[at] - r.values[at]);
        }
    }

    #[test]
    fn truncation_counts_the_final_observations_value() {
        let r = Row {
            rewards: vec![1.0],
            values: vec![2.0],
            cut_values: vec![10.0],
            terminated: vec![false],
            truncated: vec![true],
            last_value: -7.0,
        };
        assert_eq!(estimate(&r, 0.5, 0.9), [1.0 + 0.5 * 10.0 - 2.0]);
    }
}
