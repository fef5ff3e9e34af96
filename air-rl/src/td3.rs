//! Twin delayed deep deterministic policy gradient ([Fujimoto et al. 2018](https://arxiv.org/abs/1802.09477)), top to bottom.
//!
//! Keep what happened in a replay buffer; move two critics towards `r + γ min Q'(s', π'(s') + noise)`, where π' and Q' are slow
//! targets and the noise is clipped; every second time, move the policy up the first critic, and the targets after.
//!
//! [`Td3Learner`] is pure: a rollout in, new weights and [`Td3Stats`] out. [`Td3`](crate::Td3) drives it.

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Mlp, Module as _, Scratch};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Explore, Head};
use crate::checkpoint::State;
use crate::error::{Result, RlError};
use crate::gaussian;
use crate::learner::Learner;
use crate::nets::{self, descend, network, polyak};
use crate::replay::{Minibatch, Replay};
use crate::rollout::Rollout;
use crate::sampler::Sampling;
use crate::task::Task;
pub use crate::td3_config::Td3Config;
use crate::twin::TwinCritic;

/// What a round of updates did, means over its batches; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Td3Stats {
    /// Half the squared error of the critics.
    pub critic_loss: f32,
    /// Value of the actions taken.
    pub value: f32,
    /// Transitions in the replay buffer.
    pub replay: usize,
}

impl fmt::Display for Td3Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  critic loss {:.4}", self.value, self.critic_loss)
    }
}

/// A policy, its critics and the targets of both, and what they have seen.
#[derive(Clone, Debug)]
pub struct Td3Learner {
    config: Td3Config,
    seed: Seed,
    iteration: u64,
    /// Gradient steps of the critics.
    updates: u64,
    actor: Actor,
    target: Mlp,
    adam: Adam,
    critic: TwinCritic,
    replay: Replay,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    batch: Minibatch,
    actions: Vec<f32>,
    noise: Vec<f32>,
    targets: Vec<f32>,
    d_actions: Vec<f32>,
    scratch: Scratch,
}

impl Learner for Td3Learner {
    type Config = Td3Config;
    type Stats = Td3Stats;

    const NAME: &'static str = "td3";

    fn new(config: &Td3Config, task: &Task, seed: Seed) -> Result<Self> {
        let actions = task.finite_bounds("TD3")?.0.len();
        let net = nets::mlp(
            task.inputs(),
            &config.hidden,
            actions,
            Activation::Relu,
            Activation::Tanh,
            Init::KaimingUniform,
            seed.child("actor", 0),
        )?;
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            updates: 0,
            target: net.clone(),
            actor: Actor::new(net, Head::Bounded, task.action_space.clone(), Explore::Uniform)?,
            adam: Adam::new(config.lr),
            critic: TwinCritic::new(task.inputs(), actions, &config.hidden, config.critic_lr, seed)?,
            replay: Replay::new(task, config.capacity, config.envs, config.n_step, config.gamma),
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &Td3Config {
        &self.config
    }

    fn sampling(config: &Td3Config) -> Sampling {
        let &Td3Config { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<Td3Stats> {
        self.iteration += 1;
        self.replay.absorb(rollout, |_| {});
        let mut stats = Td3Stats::default();
        if self.replay.len() >= self.config.learning_starts.max(1) {
            self.actor.explore = Explore::Noise(self.config.explore_noise);
            let mut rng = self.seed.child("update", self.iteration).rng();
            for _ in 0..self.config.updates {
                self.replay.sample(self.config.batch, &mut rng, &mut self.buffers.batch);
                self.learn(&mut rng, &mut stats)?;
            }
            stats.critic_loss /= self.config.updates as f32;
            stats.value /= self.config.updates as f32;
            if !stats.critic_loss.is_finite() {
                return Err(RlError::Diverged { what: "critic loss", iteration: self.iteration });
            }
        }
        stats.replay = self.replay.len();
        Ok(stats)
    }

    /// The replay buffer is not saved: a run that goes on fills it anew before it learns.
    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        state.network("actor_target", &mut self.target)?;
        self.critic.state(state)?;
        let mut rest = (self.iteration, self.updates, self.adam.clone());
        state.value("learner", &mut rest)?;
        (self.iteration, self.updates, self.adam) = rest;
        // Trained already: it need not begin with anything.
        if self.updates > 0 {
            self.actor.explore = Explore::Noise(self.config.explore_noise);
        }
        Ok(())
    }
}

impl Td3Learner {
    /// One gradient step of the critics on the batch, and one of the policy if it is its turn.
    fn learn(&mut self, rng: &mut Pcg64, stats: &mut Td3Stats) -> Result<()> {
        let Self { config, target, critic, buffers: b, .. } = self;
        let (n, batch) = (config.batch, &b.batch);
        b.actions.clear();
        b.actions.extend_from_slice(target.infer(&batch.next_obs, n, &mut b.scratch).map_err(network)?);
        b.noise.resize(b.actions.len(), 0.0);
        gaussian::fill(rng, &mut b.noise);
        let most = config.target_noise_clip;
        for (action, noise) in b.actions.iter_mut().zip(&b.noise) {
            *action = (*action + (config.target_noise * noise).clamp(-most, most)).clamp(-1.0, 1.0);
        }
        critic.target_min(&batch.next_obs, &b.actions, n, &mut b.targets)?;
        for ((target, reward), discount) in b.targets.iter_mut().zip(&batch.reward).zip(&batch.discount) {
            *target = reward + discount * *target;
        }
        let (loss, value) = critic.fit(&batch.obs, &batch.action, &b.targets)?;
        stats.critic_loss += loss;
        stats.value += value;

        self.updates += 1;
        if self.updates.is_multiple_of(config.policy_delay as u64) {
            self.improve()?;
            self.critic.follow(self.config.tau);
            polyak(self.target.params_mut(), self.actor.net.params(), self.config.tau);
        }
        Ok(())
    }

    /// One step of the policy up the first critic: `∂Q/∂θ = ∂Q/∂a ∂π/∂θ`.
    fn improve(&mut self) -> Result<()> {
        let Self { config, actor, adam, critic, buffers: b, .. } = self;
        b.actions.clear();
        b.actions.extend_from_slice(actor.net.forward(&b.batch.obs, config.batch).map_err(network)?);
        critic.ascent(&b.batch.obs, &b.actions, config.batch, false, &mut b.d_actions)?;
        for d in &mut b.d_actions {
            *d = -*d;
        }
        descend(&mut actor.net, &b.d_actions, 0.0, adam)
    }
}

#[cfg(test)]
#[path = "td3_tests.rs"]
mod tests;
