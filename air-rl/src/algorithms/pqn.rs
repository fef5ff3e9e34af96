//! Parallelised Q-network ([Gallici et al. 2024](https://arxiv.org/abs/2407.04811)), top to bottom: Q-learning as simple as
//! it gets.
//!
//! Step many environments side by side, act greedily by Q with some chance of anything else, and move Q(s, a) of the whole
//! rollout towards Peng's λ-returns, some passes over shuffled minibatches. There is no replay buffer (the many environments
//! stand in for it) and no target network (normalised layers keep the values from running away).
//!
//! [`PqnLearner`] is pure: a rollout in, new weights and [`PqnStats`] out. [`Pqn`](crate::Pqn) drives it.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Module as _, Optimizer as _, Scratch};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::categorical;
use crate::learn::gae::Estimate;
use crate::learn::nets::{self, Layers, descend, network};
use crate::learn::policy_loss::shuffle;
use crate::learn::values::ValueHead;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Learner;
pub use config::PqnConfig;

/// What one update did, means over its minibatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PqnStats {
    /// Half the squared error of the values.
    pub loss: f32,
    /// Value of the actions taken.
    pub value: f32,
    /// Chance of a random action in the next iteration.
    pub epsilon: f32,
}

impl fmt::Display for PqnStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  loss {:.4}  epsilon {:.3}", self.value, self.loss, self.epsilon)
    }
}

/// A Q-network and its optimiser; learns from one rollout at a time.
#[derive(Clone, Debug)]
pub struct PqnLearner {
    config: PqnConfig,
    seed: Seed,
    iteration: u64,
    steps: u64,
    choices: usize,
    /// Observation → values.
    actor: Actor,
    adam: Adam,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    estimate: Estimate,
    order: Vec<u32>,
    obs: Vec<f32>,
    d_values: Vec<f32>,
    scratch: Scratch,
}

impl Learner for PqnLearner {
    type Config = PqnConfig;
    type Stats = PqnStats;

    const NAME: &'static str = "pqn";

    fn new(config: &PqnConfig, task: &Task, seed: Seed) -> Result<Self> {
        let choices = task.discrete("PQN")?;
        let PqnConfig { conv, hidden, layer_norm, .. } = config;
        let layers = Layers { conv, hidden, activation: Activation::Relu, layer_norm: *layer_norm };
        let net = nets::seeing(task, layers, choices, Init::KaimingUniform, seed.child("values", 0))?;
        let head = Head::Values(ValueHead { duelling: false, support: None });
        let explore = Explore::Epsilon(config.epsilon_start);
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            steps: 0,
            choices,
            actor: Actor::new(net, head, task.action_space.clone(), explore)?,
            adam: Adam::new(config.lr),
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &PqnConfig {
        &self.config
    }

    fn sampling(config: &PqnConfig) -> Sampling {
        let &PqnConfig { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<PqnStats> {
        self.iteration += 1;
        self.steps += rollout.rows() as u64;
        let falls = match self.config.lr_decay_steps {
            0 => 0.0,
            over => (self.steps as f32 / over as f32).min(1.0),
        };
        self.adam.set_lr(self.config.lr * (1.0 - 0.9 * falls));
        self.estimate(rollout)?;

        let mut stats = PqnStats::default();
        let mut order = std::mem::take(&mut self.buffers.order);
        order.clear();
        order.extend(0..rollout.rows() as u32);
        let mut rng = self.seed.child("shuffle", self.iteration).rng();
        for _ in 0..self.config.epochs {
            shuffle(&mut order, |below| rng.random_range(0..below));
            for rows in order.chunks(self.config.minibatch) {
                self.minibatch(rollout, rows, &mut stats)?;
            }
        }
        self.buffers.order = order;
        let seen = (self.config.epochs * rollout.rows()) as f32;
        stats.loss /= seen;
        stats.value /= seen;
        nets::check(&[("loss", stats.loss)], [self.actor.net.params()], self.iteration)?;
        stats.epsilon = self.explore();
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("values", &mut self.actor.net)?;
        let mut rest = (self.iteration, self.steps, self.adam.clone());
        state.value("learner", &mut rest)?;
        (self.iteration, self.steps, self.adam) = rest;
        self.explore();
        Ok(())
    }
}

impl PqnLearner {
    /// The chance of a random action that the next iteration plays with.
    fn explore(&mut self) -> f32 {
        let c = &self.config;
        let done = (self.steps as f32 / c.epsilon_steps.max(1) as f32).min(1.0);
        let epsilon = c.epsilon_start + done * (c.epsilon_end - c.epsilon_start);
        self.actor.explore = Explore::Epsilon(epsilon);
        epsilon
    }

    /// The λ-returns of the rollout, by the value of the best action at each step:
    /// `Gₜ = rₜ + γ ((1 − λ) max Q(sₜ₊₁, ·) + λ Gₜ₊₁)`, which is what generalised advantage estimation comes to.
    fn estimate(&mut self, rollout: &Rollout) -> Result<()> {
        let Self { config, choices, actor, buffers: b, .. } = self;
        let Estimate { values, cut_values, last_values, .. } = &mut b.estimate;
        let everything: &[bool] = &[];
        for (obs, mask, values) in [
            (&rollout.obs, &rollout.mask[..], values),
            (&rollout.last_obs, &rollout.last_mask[..], last_values),
            (&rollout.cut_obs, everything, cut_values),
        ] {
            let rows = obs.len() / rollout.obs_len();
            let of_actions = actor.net.infer(obs, rows, &mut b.scratch).map_err(network)?;
            values.clear();
            values.extend(of_actions.chunks_exact(*choices).enumerate().map(|(i, row)| {
                let mask = if mask.is_empty() { mask } else { &mask[i * *choices..(i + 1) * *choices] };
                row[categorical::masked_mode(row, mask)]
            }));
        }
        b.estimate.advantages(rollout, config.gamma, config.lambda);
        Ok(())
    }

    /// One gradient step on some rows; adds their sums to `stats`.
    fn minibatch(&mut self, rollout: &Rollout, rows: &[u32], stats: &mut PqnStats) -> Result<()> {
        let Self { config, choices, actor, adam, buffers: b, .. } = self;
        let scale = 1.0 / rows.len() as f32;
        rollout.gather(rows, &mut b.obs);
        b.d_values.clear();
        b.d_values.resize(rows.len() * *choices, 0.0);
        let values = actor.net.forward(&b.obs, rows.len()).map_err(network)?;
        let gradients = values.chunks_exact(*choices).zip(b.d_values.chunks_exact_mut(*choices));
        for (&row, (values, d)) in rows.iter().zip(gradients) {
            let taken = rollout.action.choices[row as usize] as usize;
            let error = values[taken] - b.estimate.returns[row as usize];
            stats.loss += 0.5 * error * error;
            stats.value += values[taken];
            d[taken] = error * scale;
        }
        descend(&mut actor.net, &b.d_values, config.grad_clip, adam)
    }
}

#[cfg(test)]
mod tests;
