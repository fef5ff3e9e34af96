//! Soft actor-critic ([Haarnoja et al. 2018](https://arxiv.org/abs/1812.05905)), top to bottom.
//!
//! Keep what happened in a replay buffer; move two critics towards `r + γ (min Q'(s', a') − α log π(a'|s'))` with a' drawn from
//! the policy and Q' slow targets; move the policy up the smaller critic, plus α times its entropy; and move α so that the
//! entropy stays near a target. Actions are normal draws brought into the bounds by a tanh.
//!
//! [`SacStep`] is pure: a batch in, new weights and [`SacStats`] out. [`ReplayLearner`] draws batches, [`Sac`](crate::Sac) drives it.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Adam, Optimizer as _, Scratch};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::nets::{self, descend, network};
use crate::learn::replay::Minibatch;
use crate::learn::squashed::Squashed;
use crate::learn::twin::TwinCritic;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Figures;
use crate::train::off_policy::{ReplayLearner, ReplayStep};
pub use config::SacConfig;

/// What a gradient step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SacStats {
    /// Half the squared error of the critics.
    pub critic_loss: f32,
    /// Value of the actions taken.
    pub value: f32,
    /// Entropy of the policy, nats.
    pub entropy: f32,
    /// Temperature α.
    pub alpha: f32,
}

impl fmt::Display for SacStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  entropy {:.2}  alpha {:.3}", self.value, self.entropy, self.alpha)
    }
}

impl Figures for SacStats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.critic_loss, &mut self.value, &mut self.entropy, &mut self.alpha].into_iter()
    }
}

/// SAC as a learner.
pub type SacLearner = ReplayLearner<SacStep>;

/// A policy, its critics and its temperature.
#[derive(Clone, Debug)]
pub struct SacStep {
    config: SacConfig,
    /// Gradient steps of the critics.
    updates: u64,
    actions: usize,
    target_entropy: f32,
    actor: Actor,
    adam: Adam,
    critic: TwinCritic,
    log_alpha: [f32; 1],
    alpha_adam: Adam,
    /// Of the policy's last step.
    entropy: f32,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    next: Squashed,
    present: Squashed,
    targets: Vec<f32>,
    outputs: Vec<f32>,
    d_action: Vec<f32>,
    d_outputs: Vec<f32>,
    scratch: Scratch,
}

impl ReplayStep for SacStep {
    type Config = SacConfig;
    type Stats = SacStats;

    const NAME: &'static str = "sac";

    fn new(config: &SacConfig, task: &Task, seed: Seed) -> Result<Self> {
        let actions = task.finite_bounds("SAC")?.0.len();
        let net = nets::relu(task.inputs(), &config.hidden, 2 * actions, seed.child("actor", 0))?;
        Ok(Self {
            config: config.clone(),
            updates: 0,
            actions,
            target_entropy: config.target_entropy.unwrap_or(-(actions as f32)),
            actor: Actor::new(net, Head::Squashed, task.action_space.clone(), Explore::Uniform)?,
            adam: Adam::new(config.lr),
            critic: TwinCritic::new(task.inputs(), actions, &config.hidden, config.critic_lr, seed)?,
            log_alpha: [config.alpha.ln()],
            alpha_adam: Adam::new(config.alpha_lr),
            entropy: 0.0,
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &SacConfig {
        &self.config
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    /// One gradient step of the critics on the batch, and one of policy and temperature if it is their turn.
    fn learn(&mut self, batch: &Minibatch, rng: &mut Pcg64) -> Result<SacStats> {
        self.actor.explore = Explore::Draw;
        let Self { config, actor, critic, buffers: b, actions, .. } = self;
        let (n, alpha) = (batch.reward.len(), self.log_alpha[0].exp());

        let outputs = actor.net.infer(&batch.next_obs, n, &mut b.scratch).map_err(network)?;
        b.next.draw(outputs, *actions, rng);
        critic.target_min(&batch.next_obs, &b.next.action, n, &mut b.targets)?;
        for (i, target) in b.targets.iter_mut().enumerate() {
            let soft = *target - alpha * b.next.log_prob[i];
            *target = batch.reward[i] + batch.discount[i] * soft;
        }
        let (critic_loss, value) = critic.fit(&batch.obs, &batch.action, &b.targets)?;

        if self.updates.is_multiple_of(config.policy_delay as u64) {
            let mean_log_prob = self.improve(batch, rng)?;
            self.entropy = -mean_log_prob;
            if self.config.alpha_lr > 0.0 {
                // α falls while the policy is more random than it should be: ∂/∂log α of −log α · (log π + H).
                let d = -(mean_log_prob + self.target_entropy);
                self.alpha_adam.step(&mut self.log_alpha, &[d]).map_err(network)?;
            }
        }
        self.updates += 1;
        self.critic.follow(self.config.tau);
        Ok(SacStats { critic_loss, value, entropy: self.entropy, alpha: self.log_alpha[0].exp() })
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        self.critic.state(state)?;
        let optimizers = (self.adam.clone(), self.alpha_adam.clone());
        let mut rest = (self.updates, self.log_alpha, self.entropy, optimizers);
        state.value("learner", &mut rest)?;
        (self.updates, self.log_alpha, self.entropy, (self.adam, self.alpha_adam)) = rest;
        // Trained already: it need not begin with anything.
        if self.updates > 0 {
            self.actor.explore = Explore::Draw;
        }
        Ok(())
    }
}

impl SacStep {
    /// One step of the policy up `min Q − α log π`; returns the mean log-density of what it drew.
    fn improve(&mut self, batch: &Minibatch, rng: &mut Pcg64) -> Result<f32> {
        let Self { actor, adam, critic, buffers: b, actions, .. } = self;
        let (n, alpha) = (batch.reward.len(), self.log_alpha[0].exp());
        b.outputs.clear();
        b.outputs.extend_from_slice(actor.net.forward(&batch.obs, n).map_err(network)?);
        b.present.draw(&b.outputs, *actions, rng);
        critic.ascent(&batch.obs, &b.present.action, n, true, &mut b.d_action)?;
        for d in &mut b.d_action {
            *d = -*d;
        }
        b.present.backward(&b.outputs, *actions, alpha, &b.d_action, &mut b.d_outputs);
        descend(&mut actor.net, &b.d_outputs, 0.0, adam)?;
        Ok(b.present.log_prob.iter().sum::<f32>() / n as f32)
    }
}

#[cfg(test)]
mod tests;
