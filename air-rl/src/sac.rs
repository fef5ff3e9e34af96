//! Soft actor-critic ([Haarnoja et al. 2018](https://arxiv.org/abs/1812.05905)), top to bottom.
//!
//! Keep what happened in a replay buffer; move two critics towards `r + γ (min Q'(s', a') − α log π(a'|s'))` with a' drawn from
//! the policy and Q' slow targets; move the policy up the smaller critic, plus α times its entropy; and move α so that the
//! entropy stays near a target. Actions are normal draws brought into the bounds by a tanh.
//!
//! [`SacLearner`] is pure: a rollout in, new weights and [`SacStats`] out. [`Sac`](crate::Sac) drives it.

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Optimizer as _, Scratch};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Explore, Head};
use crate::checkpoint::State;
use crate::error::{Result, RlError};
use crate::learner::Learner;
use crate::nets::{self, descend, network};
use crate::replay::{Minibatch, Replay};
use crate::rollout::Rollout;
pub use crate::sac_config::SacConfig;
use crate::sampler::Sampling;
use crate::squashed::Squashed;
use crate::task::Task;
use crate::twin::TwinCritic;

/// What a round of updates did, means over its batches; zeros before the first.
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
    /// Transitions in the replay buffer.
    pub replay: usize,
}

impl fmt::Display for SacStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  entropy {:.2}  alpha {:.3}", self.value, self.entropy, self.alpha)
    }
}

/// A policy, its critics, its temperature, and what they have seen.
#[derive(Clone, Debug)]
pub struct SacLearner {
    config: SacConfig,
    seed: Seed,
    iteration: u64,
    /// Gradient steps of the critics.
    updates: u64,
    actions: usize,
    target_entropy: f32,
    actor: Actor,
    adam: Adam,
    critic: TwinCritic,
    log_alpha: [f32; 1],
    alpha_adam: Adam,
    replay: Replay,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    batch: Minibatch,
    next: Squashed,
    present: Squashed,
    targets: Vec<f32>,
    outputs: Vec<f32>,
    d_action: Vec<f32>,
    d_outputs: Vec<f32>,
    scratch: Scratch,
}

impl Learner for SacLearner {
    type Config = SacConfig;
    type Stats = SacStats;

    const NAME: &'static str = "sac";

    fn new(config: &SacConfig, task: &Task, seed: Seed) -> Result<Self> {
        let actions = task.finite_bounds("SAC")?.0.len();
        let net = nets::mlp(
            task.inputs(),
            &config.hidden,
            2 * actions,
            Activation::Relu,
            Activation::Identity,
            Init::KaimingUniform,
            seed.child("actor", 0),
        )?;
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            updates: 0,
            actions,
            target_entropy: config.target_entropy.unwrap_or(-(actions as f32)),
            actor: Actor::new(net, Head::Squashed, task.action_space.clone(), Explore::Uniform)?,
            adam: Adam::new(config.lr),
            critic: TwinCritic::new(task.inputs(), actions, &config.hidden, config.critic_lr, seed)?,
            log_alpha: [config.alpha.ln()],
            alpha_adam: Adam::new(config.alpha_lr),
            replay: Replay::new(task, config.capacity, config.envs, config.n_step, config.gamma),
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &SacConfig {
        &self.config
    }

    fn sampling(config: &SacConfig) -> Sampling {
        let &SacConfig { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<SacStats> {
        self.iteration += 1;
        self.replay.absorb(rollout, |_| {});
        let mut stats = SacStats::default();
        if self.replay.len() >= self.config.learning_starts.max(1) {
            self.actor.explore = Explore::Draw;
            let mut rng = self.seed.child("update", self.iteration).rng();
            for _ in 0..self.config.updates {
                self.replay.sample(self.config.batch, &mut rng, &mut self.buffers.batch);
                self.learn(&mut rng, &mut stats)?;
            }
            let n = self.config.updates as f32;
            stats.critic_loss /= n;
            stats.value /= n;
            self.check(&stats)?;
        }
        stats.alpha = self.log_alpha[0].exp();
        stats.replay = self.replay.len();
        Ok(stats)
    }

    /// The replay buffer is not saved: a run that goes on fills it anew before it learns.
    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        self.critic.state(state)?;
        let mut rest =
            ((self.iteration, self.updates), (self.adam.clone(), self.alpha_adam.clone(), self.log_alpha));
        state.value("learner", &mut rest)?;
        (self.iteration, self.updates) = rest.0;
        (self.adam, self.alpha_adam, self.log_alpha) = rest.1;
        // Trained already: it need not begin with anything.
        if self.updates > 0 {
            self.actor.explore = Explore::Draw;
        }
        Ok(())
    }
}

impl SacLearner {
    /// One gradient step of the critics on the batch, and one of policy and temperature if it is their turn.
    fn learn(&mut self, rng: &mut Pcg64, stats: &mut SacStats) -> Result<()> {
        let Self { config, actor, critic, buffers: b, actions, .. } = self;
        let (n, alpha) = (config.batch, self.log_alpha[0].exp());
        let batch = &b.batch;

        let outputs = actor.net.infer(&batch.next_obs, n, &mut b.scratch).map_err(network)?;
        b.next.draw(outputs, *actions, rng);
        critic.target_min(&batch.next_obs, &b.next.action, n, &mut b.targets)?;
        for (i, target) in b.targets.iter_mut().enumerate() {
            let soft = *target - alpha * b.next.log_prob[i];
            *target = batch.reward[i] + batch.discount[i] * soft;
        }
        let (loss, value) = critic.fit(&batch.obs, &batch.action, &b.targets)?;
        stats.critic_loss += loss;
        stats.value += value;

        if self.updates.is_multiple_of(config.policy_delay as u64) {
            let mean_log_prob = self.improve(rng)?;
            stats.entropy = -mean_log_prob;
            if self.config.alpha_lr > 0.0 {
                // α falls while the policy is more random than it should be: ∂/∂log α of −log α · (log π + H).
                let d = -(mean_log_prob + self.target_entropy);
                self.alpha_adam.step(&mut self.log_alpha, &[d]).map_err(network)?;
            }
        }
        self.updates += 1;
        self.critic.follow(self.config.tau);
        Ok(())
    }

    /// One step of the policy up `min Q − α log π`; returns the mean log-density of what it drew.
    fn improve(&mut self, rng: &mut Pcg64) -> Result<f32> {
        let Self { config, actor, adam, critic, buffers: b, actions, .. } = self;
        let (n, alpha) = (config.batch, self.log_alpha[0].exp());
        b.outputs.clear();
        b.outputs.extend_from_slice(actor.net.forward(&b.batch.obs, n).map_err(network)?);
        b.present.draw(&b.outputs, *actions, rng);
        critic.ascent(&b.batch.obs, &b.present.action, n, true, &mut b.d_action)?;
        for d in &mut b.d_action {
            *d = -*d;
        }
        b.present.backward(&b.outputs, *actions, alpha, &b.d_action, &mut b.d_outputs);
        descend(&mut actor.net, &b.d_outputs, 0.0, adam)?;
        Ok(b.present.log_prob.iter().sum::<f32>() / n as f32)
    }

    /// Numbers that stopped being numbers end the run here, with a name.
    fn check(&self, stats: &SacStats) -> Result<()> {
        let what = if !stats.critic_loss.is_finite() {
            "critic loss"
        } else if !stats.entropy.is_finite() || !self.log_alpha[0].is_finite() {
            "entropy"
        } else {
            return Ok(());
        };
        Err(RlError::Diverged { what, iteration: self.iteration })
    }
}

#[cfg(test)]
#[path = "sac_tests.rs"]
mod tests;
