//! V-trace ([Espeholt et al. 2018](https://arxiv.org/abs/1802.01561)): values and advantages from what an older policy played.
//!
//! With ρₜ = min(ρ̄, π(aₜ)/μ(aₜ)), cₜ = λ min(1, π(aₜ)/μ(aₜ)), π the policy that learns and μ the one that played:
//!
//! ```text
//! δₜ = ρₜ (rₜ + γ V(sₜ₊₁) − V(sₜ))
//! vₜ − V(sₜ) = δₜ + γ cₜ (vₜ₊₁ − V(sₜ₊₁))
//! ```
//!
//! and the advantage of aₜ is `rₜ + γ vₜ₊₁ − V(sₜ)`. Where an episode ends or the row stops, vₜ₊₁ is V of what followed.

use air_train::nn::{Mlp, Scratch};

use crate::error::Result;
use crate::learn::gae::Estimate;
use crate::learn::nets::network;
use crate::learn::policy_loss::log_prob;
use crate::play::actor::Actor;
use crate::play::rollout::Rollout;

/// What V-trace can be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vtrace {
    /// Discount γ.
    pub gamma: f32,
    /// λ: 1 is the published trace, less trusts the critic more.
    pub lambda: f32,
    /// ρ̄: ratios above it count as much.
    pub rho_bar: f32,
}

/// One environment's consecutive steps; all of one length.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// `log π(aₜ) − log μ(aₜ)`.
    pub log_ratios: &'a [f32],
    /// Rewards.
    pub rewards: &'a [f32],
    /// V(sₜ).
    pub values: &'a [f32],
    /// V of what followed each step, 0 where nothing did (see [`gae::next_values`](crate::gae::next_values)).
    pub next_values: &'a [f32],
}

impl Vtrace {
    /// Writes vₜ to `targets` and `rₜ + γ vₜ₊₁ − V(sₜ)` to `advantages`, as long as the steps.
    pub fn trace(
        &self,
        steps: Steps<'_>,
        ended: impl Fn(usize) -> bool,
        targets: &mut [f32],
        advantages: &mut [f32],
    ) {
        let Steps { log_ratios, rewards, values, next_values } = steps;
        // vₜ₊₁ − V(sₜ₊₁) of the step after the present one.
        let mut beyond = 0.0;
        for t in (0..targets.len()).rev() {
            let ratio = log_ratios[t].exp();
            if ended(t) {
                beyond = 0.0;
            }
            advantages[t] = rewards[t] + self.gamma * (next_values[t] + beyond) - values[t];
            let delta = ratio.min(self.rho_bar) * (rewards[t] + self.gamma * next_values[t] - values[t]);
            beyond = delta + self.gamma * self.lambda * ratio.min(1.0) * beyond;
            targets[t] = values[t] + beyond;
        }
    }
}

/// V-trace over a whole rollout; working memory, kept between updates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    estimate: Estimate,
    log_ratios: Vec<f32>,
    log_probs: Vec<f32>,
    scratch: Scratch,
}

impl Trace {
    /// The targets of the values, `[envs, steps]`.
    pub(crate) fn targets(&self) -> &[f32] {
        &self.estimate.returns
    }

    /// The advantages of the actions, `[envs, steps]`.
    pub(crate) fn advantages(&self) -> &[f32] {
        &self.estimate.advantages
    }

    /// Weighs a rollout by the present policy and values.
    pub(crate) fn follow(
        &mut self,
        rollout: &Rollout,
        actor: &Actor,
        critic: &Mlp,
        vtrace: Vtrace,
    ) -> Result<()> {
        let Self { estimate, log_ratios, log_probs, scratch } = self;
        let outputs = actor.net.infer(&rollout.obs, rollout.rows(), scratch).map_err(network)?;
        log_probs.resize(actor.net.outputs(), 0.0);
        log_ratios.clear();
        log_ratios.extend(outputs.chunks_exact(actor.net.outputs()).enumerate().map(|(row, outputs)| {
            log_prob(rollout, row, outputs, &actor.head, actor.action_space(), log_probs)
                - rollout.log_prob[row]
        }));
        estimate.values(rollout, critic, scratch)?;
        estimate.follow(rollout);
        let Estimate { values, next_values, advantages, returns, .. } = estimate;
        advantages.resize(rollout.rows(), 0.0);
        returns.resize(rollout.rows(), 0.0);
        for first in (0..rollout.rows()).step_by(rollout.steps()) {
            let rows = first..first + rollout.steps();
            let steps = Steps {
                log_ratios: &log_ratios[rows.clone()],
                rewards: &rollout.reward[rows.clone()],
                values: &values[rows.clone()],
                next_values: &next_values[rows.clone()],
            };
            let ended = |t| rollout.terminated[first + t] || rollout.truncated[first + t];
            vtrace.trace(steps, ended, &mut returns[rows.clone()], &mut advantages[rows]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        log_ratios: Vec<f32>,
        rewards: Vec<f32>,
        values: Vec<f32>,
        next_values: Vec<f32>,
        ended: Vec<bool>,
    }

    fn row() -> impl Strategy<Value = Row> {
        (1_usize..20).prop_flat_map(|n| {
            let floats = || proptest::collection::vec(-2.0_f32..2.0, n);
            (
                floats(),
                floats(),
                floats(),
                floats(),
                proptest::collection::vec(proptest::bool::weighted(0.2), n),
            )
                .prop_map(|(log_ratios, rewards, values, mut next_values, ended)| {
                    // What follows a step within an episode is the next step's value.
                    for t in (0..values.len() - 1).filter(|&t| !ended[t]) {
                        next_values[t] = values[t + 1];
                    }
                    Row { log_ratios, rewards, values, next_values, ended }
                })
        })
    }

    fn trace(r: &Row, vtrace: Vtrace) -> (Vec<f32>, Vec<f32>) {
        let n = r.rewards.len();
        let (mut targets, mut advantages) = (vec![0.0; n], vec![0.0; n]);
        let steps = Steps {
            log_ratios: &r.log_ratios,
            rewards: &r.rewards,
            values: &r.values,
            next_values: &r.next_values,
        };
        vtrace.trace(steps, |t| r.ended[t], &mut targets, &mut advantages);
        (targets, advantages)
    }

    /// Equation (1) of the paper as it stands: `vₛ = V(xₛ) + Σₜ γᵗ⁻ˢ (∏ cᵢ) δₜ`, each sum and product written out, in f64.
    fn definition(r: &Row, v: Vtrace) -> (Vec<f64>, Vec<f64>) {
        let (gamma, lambda, rho_bar) = (f64::from(v.gamma), f64::from(v.lambda), f64::from(v.rho_bar));
        let n = r.rewards.len();
        let ratio = |t: usize| f64::from(r.log_ratios[t]).exp();
        let delta = |t: usize| {
            let next = f64::from(r.next_values[t]);
            rho_bar.min(ratio(t)) * (f64::from(r.rewards[t]) + gamma * next - f64::from(r.values[t]))
        };
        let end = |s: usize| (s..n).find(|&t| r.ended[t]).unwrap_or(n - 1);
        let targets: Vec<f64> = (0..n)
            .map(|s| {
                let sum: f64 = (s..=end(s))
                    .map(|t| {
                        let traces: f64 = (s..t).map(|i| lambda * ratio(i).min(1.0)).product();
                        gamma.powi((t - s) as i32) * traces * delta(t)
                    })
                    .sum();
                f64::from(r.values[s]) + sum
            })
            .collect();
        let advantages = (0..n)
            .map(|t| {
                let next =
                    if r.ended[t] || t + 1 == n { f64::from(r.next_values[t]) } else { targets[t + 1] };
                f64::from(r.rewards[t]) + gamma * next - f64::from(r.values[t])
            })
            .collect();
        (targets, advantages)
    }

    proptest! {
        #[test]
        fn equals_the_sums_and_products_of_the_paper(
            r in row(),
            gamma in 0.0_f32..=1.0,
            lambda in 0.0_f32..=1.0,
            rho_bar in 0.5_f32..2.0,
        ) {
            let vtrace = Vtrace { gamma, lambda, rho_bar };
            let (got, want) = (trace(&r, vtrace), definition(&r, vtrace));
            for (got, want) in got.0.iter().zip(&want.0).chain(got.1.iter().zip(&want.1)) {
                prop_assert!((f64::from(*got) - want).abs() < 1e-3 * (1.0 + want.abs()), "{got} {want}");
            }
        }

        /// Played by the policy that learns, the targets are λ-returns: values plus GAE's advantages.
        #[test]
        fn on_policy_it_is_generalised_advantage_estimation(r in row(), lambda in 0.0_f32..=1.0) {
            let r = Row { log_ratios: vec![0.0; r.rewards.len()], ..r };
            let (targets, _) = trace(&r, Vtrace { gamma: 0.9, lambda, rho_bar: 1.0 });
            let mut advantages = vec![0.0; r.rewards.len()];
            let ended = |t: usize| r.ended[t];
            crate::learn::gae::advantages(0.9, lambda, &r.rewards, &r.values, &r.next_values, ended, &mut advantages);
            for ((target, value), advantage) in targets.iter().zip(&r.values).zip(&advantages) {
                prop_assert!((target - value - advantage).abs() < 1e-4);
            }
        }
    }
}
