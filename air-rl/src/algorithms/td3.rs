//! Twin delayed deep deterministic policy gradient ([Fujimoto et al. 2018](https://arxiv.org/abs/1802.09477)), top to bottom.
//!
//! Keep what happened in a replay buffer; move two critics towards `r + γ min Q'(s', π'(s') + noise)`, where π' and Q' are slow
//! targets and the noise is clipped; every second time, move the policy up the first critic, and the targets after.
//!
//! [`Td3Step`] is pure: a batch in, new weights and [`Td3Stats`] out. [`ReplayLearner`] draws batches, [`Td3`](crate::Td3) drives it.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Mlp, Module as _, Scratch};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::gaussian;
use crate::learn::nets::{self, descend, network, polyak};
use crate::learn::replay::Minibatch;
use crate::learn::twin::TwinCritic;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Figures;
use crate::train::off_policy::{ReplayLearner, ReplayStep};
pub use config::Td3Config;

/// What a gradient step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Td3Stats {
    /// Half the squared error of the critics.
    pub critic_loss: f32,
    /// Value of the actions taken.
    pub value: f32,
}

impl fmt::Display for Td3Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  critic loss {:.4}", self.value, self.critic_loss)
    }
}

impl Figures for Td3Stats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.critic_loss, &mut self.value].into_iter()
    }
}

/// TD3 as a learner.
pub type Td3Learner = ReplayLearner<Td3Step>;

/// A policy, its critics and the targets of both.
#[derive(Clone, Debug)]
pub struct Td3Step {
    config: Td3Config,
    /// Gradient steps of the critics.
    updates: u64,
    actor: Actor,
    target: Mlp,
    adam: Adam,
    critic: TwinCritic,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    actions: Vec<f32>,
    noise: Vec<f32>,
    targets: Vec<f32>,
    d_actions: Vec<f32>,
    scratch: Scratch,
}

impl ReplayStep for Td3Step {
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
            updates: 0,
            target: net.clone(),
            actor: Actor::new(net, Head::Bounded, task.action_space.clone(), Explore::Uniform)?,
            adam: Adam::new(config.lr),
            critic: TwinCritic::new(task.inputs(), actions, &config.hidden, config.critic_lr, seed)?,
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &Td3Config {
        &self.config
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    /// One gradient step of the critics on the batch, and one of the policy if it is its turn.
    fn learn(&mut self, batch: &Minibatch, rng: &mut Pcg64) -> Result<Td3Stats> {
        self.actor.explore = Explore::Noise(self.config.explore_noise);
        let Self { config, target, critic, buffers: b, .. } = self;
        let n = batch.reward.len();
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
        let (critic_loss, value) = critic.fit(&batch.obs, &batch.action, &b.targets)?;

        self.updates += 1;
        if self.updates.is_multiple_of(config.policy_delay as u64) {
            self.improve(batch)?;
            self.critic.follow(self.config.tau);
            polyak(self.target.params_mut(), self.actor.net.params(), self.config.tau);
        }
        Ok(Td3Stats { critic_loss, value })
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        state.network("actor_target", &mut self.target)?;
        self.critic.state(state)?;
        let mut rest = (self.updates, self.adam.clone());
        state.value("learner", &mut rest)?;
        (self.updates, self.adam) = rest;
        // Trained already: it need not begin with anything.
        if self.updates > 0 {
            self.actor.explore = Explore::Noise(self.config.explore_noise);
        }
        Ok(())
    }
}

impl Td3Step {
    /// One step of the policy up the first critic: `∂Q/∂θ = ∂Q/∂a ∂π/∂θ`.
    fn improve(&mut self, batch: &Minibatch) -> Result<()> {
        let Self { actor, adam, critic, buffers: b, .. } = self;
        let n = batch.reward.len();
        b.actions.clear();
        b.actions.extend_from_slice(actor.net.forward(&batch.obs, n).map_err(network)?);
        critic.ascent(&batch.obs, &b.actions, n, false, &mut b.d_actions)?;
        for d in &mut b.d_actions {
            *d = -*d;
        }
        descend(&mut actor.net, &b.d_actions, 0.0, adam)
    }
}

#[cfg(test)]
mod tests;
