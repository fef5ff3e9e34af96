//! Implicit Q-learning ([Kostrikov et al. 2021](https://arxiv.org/abs/2110.06169)), top to bottom.
//!
//! V(s) is an upper expectile of Q(s, a) over what was recorded, so nothing that was not is ever asked for; two critics
//! move towards `r + γ V(s')`; and the policy imitates what was recorded, each step by `exp(β (Q − V))`. Actions may be of
//! any kind: critics see choices one-hot.

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Adam, Mlp, Scratch};
use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::learn::imitate::Imitator;
use crate::learn::nets::{self, descend, network};
use crate::learn::offline_data::Dataset;
use crate::learn::twin::TwinCritic;
use crate::play::actor::Actor;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::{Figures, Settings};
use crate::train::offline::{Drawing, OfflineLearner, OfflineSettings};

/// No step weighs more than this.
const MAX_WEIGHT: f32 = 100.0;

/// Everything IQL can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IqlConfig {
    /// Units of the hidden layers, of all networks alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Transitions in a batch.
    pub batch: usize,
    /// Gradient steps in an iteration.
    pub updates: usize,
    /// Episodes played after each iteration, to see how good the policy is; nothing is learned from them.
    pub evaluate_episodes: u64,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// The expectile τ that V is of Q: ½ is the mean, towards 1 the best that was recorded.
    pub expectile: f32,
    /// How much better steps weigh more in the policy.
    pub beta: f32,
    /// How far the target critics follow after each gradient step (Polyak averaging).
    pub tau: f32,
}

impl Default for IqlConfig {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            lr: 1e-3,
            batch: 128,
            updates: 200,
            evaluate_episodes: 10,
            gamma: 0.99,
            expectile: 0.7,
            beta: 3.0,
            tau: 0.005,
        }
    }
}

impl Settings for IqlConfig {
    fn validate(&self) -> Result<()> {
        Check::unit("gamma", self.gamma)?;
        Check::unit("expectile", self.expectile)?;
        Check::at("beta", self.beta >= 0.0 && self.beta.is_finite(), "must not be negative")?;
        Check::unit("tau", self.tau)?;
        Check::recorded(&self.hidden, self.lr, self.batch, self.updates, self.evaluate_episodes)
    }
}

impl OfflineSettings for IqlConfig {
    fn gamma(&self) -> f32 {
        self.gamma
    }

    fn drawing(&self) -> Drawing {
        let &Self { batch, updates, evaluate_episodes, .. } = self;
        Drawing { batch, updates, evaluate_episodes }
    }
}

/// What a gradient step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IqlStats {
    /// Weighted mean −log π of what was recorded.
    pub loss: f32,
    /// Expectile loss of V.
    pub value_loss: f32,
    /// Half the squared error of the critics.
    pub critic_loss: f32,
}

impl Figures for IqlStats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.loss, &mut self.value_loss, &mut self.critic_loss].into_iter()
    }
}

impl fmt::Display for IqlStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "loss {:.4}  value loss {:.4}  critic loss {:.4}",
            self.loss, self.value_loss, self.critic_loss
        )
    }
}

/// A policy, the value network and the critics that say what to imitate.
#[derive(Clone, Debug)]
pub struct IqlLearner {
    config: IqlConfig,
    groups: Vec<u32>,
    policy: Imitator,
    value: Mlp,
    adam: Adam,
    critic: TwinCritic,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    obs: Vec<f32>,
    next_obs: Vec<f32>,
    actions: Vec<f32>,
    q: Vec<f32>,
    targets: Vec<f32>,
    d_value: Vec<f32>,
    weights: Vec<f32>,
    scratch: Scratch,
}

impl OfflineLearner for IqlLearner {
    type Config = IqlConfig;
    type Stats = IqlStats;

    const NAME: &'static str = "iql";

    fn new(config: &IqlConfig, task: &Task, seed: Seed) -> Result<Self> {
        let space = &task.action_space;
        let actions = space.choices().max(space.row_len());
        Ok(Self {
            policy: Imitator::new(task, &config.hidden, config.lr, seed.child("actor", 0))?,
            value: nets::relu(task.inputs(), &config.hidden, 1, seed.child("value", 0))?,
            adam: Adam::new(config.lr),
            critic: TwinCritic::new(task.inputs(), actions, &config.hidden, config.lr, seed)?,
            groups: space.groups().to_vec(),
            config: config.clone(),
            buffers: Buffers::default(),
        })
    }

    fn policy(&self) -> Actor {
        self.policy.actor.greedy()
    }

    /// One gradient step of V, the policy and the critics, in this order.
    fn learn(&mut self, data: &Dataset, rows: &[usize]) -> Result<IqlStats> {
        let Self { config, groups, policy, value, adam, critic, buffers: b, .. } = self;
        let (n, steps) = (rows.len(), &data.transitions);
        let mut stats = IqlStats::default();
        steps.gather(rows, &mut b.obs);
        steps.gather_next(rows, &mut b.next_obs);
        b.actions.clear();
        for &row in rows {
            if groups.is_empty() {
                b.actions.extend_from_slice(steps.action.reals_of(row));
            }
            for (&n, &choice) in
                groups.iter().zip(if groups.is_empty() { &[] } else { steps.action.choices_of(row) })
            {
                b.actions.extend((0..n).map(|j| f32::from(u8::from(j == choice))));
            }
        }
        b.targets.clear();
        let next = value.infer(&b.next_obs, n, &mut b.scratch).map_err(network)?;
        b.targets.extend(rows.iter().zip(next).map(|(&row, v)| steps.reward[row] + steps.discount[row] * v));

        critic.target_min(&b.obs, &b.actions, n, &mut b.q)?;
        b.d_value.clear();
        b.weights.clear();
        for (v, q) in value.forward(&b.obs, n).map_err(network)?.iter().zip(&b.q) {
            let (loss, d) = expectile(config.expectile, q - v);
            stats.value_loss += loss / n as f32;
            b.d_value.push(-d / n as f32);
            b.weights.push((config.beta * (q - v)).exp().min(MAX_WEIGHT));
        }
        descend(value, &b.d_value, 0.0, adam)?;
        stats.loss = policy.fit(data, rows, &b.weights)?;
        stats.critic_loss = critic.fit(&b.obs, &b.actions, &b.targets)?.0;
        critic.follow(config.tau);
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        self.policy.state(state)?;
        self.critic.state(state)?;
        state.network("value", &mut self.value)?;
        state.value("learner", &mut self.adam)
    }
}

/// `|τ − [u < 0]| u²` and its derivative by u.
fn expectile(tau: f32, u: f32) -> (f32, f32) {
    let weight = if u < 0.0 { 1.0 - tau } else { tau };
    (weight * u * u, 2.0 * weight * u)
}

#[cfg(test)]
mod tests {
    use super::expectile;

    #[test]
    fn the_expectiles_derivative_equals_finite_differences_and_its_zero_the_expectile() {
        for tau in [0.5, 0.7, 0.9] {
            for u in [-2.0, -0.3, 0.2, 1.5] {
                let numeric = (expectile(tau, u + 1e-3).0 - expectile(tau, u - 1e-3).0) / 2e-3;
                assert!((expectile(tau, u).1 - numeric).abs() < 2e-3);
            }
            // Of 0 and 1 in equal parts, the τ-expectile is τ.
            let slope: f32 = [0.0, 1.0].map(|q| expectile(tau, q - tau).1).iter().sum();
            assert!(slope.abs() < 1e-6);
        }
    }
}
