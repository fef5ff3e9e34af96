//! IMPALA ([Espeholt et al. 2018](https://arxiv.org/abs/1802.01561)) and APPO (its asynchronous runners under
//! [`ppo`](crate::ppo)'s objective, after [RLlib's](https://docs.ray.io/en/latest/rllib/rllib-algorithms.html)), top to bottom.
//!
//! Runners play on while the learner learns, so what they bring was played by a policy some updates old. V-trace weighs it
//! by how likely the present policy makes it, and gives the values their targets and the actions their advantages. Then
//!
//! - IMPALA follows `ρ A ∇log π`, with ρ the probability ratio up to ρ̄, in one pass over shuffled minibatches;
//! - APPO follows the clipped surrogate of that ratio, in some passes, with advantages normalised by minibatch.
//!
//! [`TracedLearner`] is pure: a rollout in, new weights and [`TracedStats`] out. [`Impala`](crate::Impala) and
//! [`Appo`](crate::Appo) drive it; that runners play on is the part of `async_workers`.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Mlp, Module as _};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::nets::{self, descend, network};
use crate::learn::policy_loss::{PolicyGradient, Sums, normalize, shuffle, value_loss};
use crate::learn::vtrace::Trace;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Learner;
pub use config::{AppoConfig, ImpalaConfig, Traced};

/// IMPALA as a learner.
pub type ImpalaLearner = TracedLearner<ImpalaConfig>;

/// APPO as a learner.
pub type AppoLearner = TracedLearner<AppoConfig>;

/// What one update did, means over its minibatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TracedStats {
    /// What the policy minimises (without the entropy bonus).
    pub policy_loss: f32,
    /// Half the squared error of the value.
    pub value_loss: f32,
    /// Entropy of the policy, nats.
    pub entropy: f32,
    /// How far the policy was from the one that played: KL divergence, nats (estimator k3 of Schulman's note).
    pub kl: f32,
    /// Updates between the policy that played and the one that learned.
    pub lag: u64,
}

impl fmt::Display for TracedStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entropy {:.3}  kl {:.4}  lag {}", self.entropy, self.kl, self.lag)
    }
}

/// Policy and value network with their optimisers; learns from what an older policy played.
#[derive(Clone, Debug)]
pub struct TracedLearner<C> {
    config: C,
    seed: Seed,
    iteration: u64,
    actor: Actor,
    critic: Mlp,
    actor_adam: Adam,
    std_adam: Adam,
    critic_adam: Adam,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    trace: Trace,
    order: Vec<u32>,
    obs: Vec<f32>,
    advantages: Vec<f32>,
    gradient: PolicyGradient,
    d_value: Vec<f32>,
}

impl<C: Traced> Learner for TracedLearner<C> {
    type Config = C;
    type Stats = TracedStats;

    const NAME: &'static str = C::NAME;
    const ASYNCHRONOUS: bool = true;

    fn new(config: &C, task: &Task, seed: Seed) -> Result<Self> {
        let terms = config.terms();
        let net = |outputs, output_gain, name| {
            let init = Init::Orthogonal { hidden_gain: 2_f32.sqrt(), output_gain };
            let (hidden, output) = (Activation::Tanh, Activation::Identity);
            nets::mlp(task.inputs(), config.hidden(), outputs, hidden, output, init, seed.child(name, 0))
        };
        let adam = || Adam::new(terms.lr).eps(1e-5);
        let space = &task.action_space;
        let head = Head::drawn(space, terms.log_std);
        let policy = net(head.outputs(space), 0.01, "actor")?;
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            actor: Actor::new(policy, head, space.clone(), Explore::Draw)?,
            critic: net(1, 1.0, "critic")?,
            actor_adam: adam(),
            std_adam: adam(),
            critic_adam: adam(),
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &C {
        &self.config
    }

    fn sampling(config: &C) -> Sampling {
        config.terms().sampling
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<TracedStats> {
        let (terms, lag) = (self.config.terms(), self.iteration.saturating_sub(rollout.version));
        self.iteration += 1;
        self.buffers.trace.follow(rollout, &self.actor, &self.critic, terms.vtrace)?;
        let mut order = std::mem::take(&mut self.buffers.order);
        order.clear();
        order.extend(0..rollout.rows() as u32);
        let mut rng = self.seed.child("shuffle", self.iteration).rng();
        let mut sums = Sums::default();
        for _ in 0..terms.epochs {
            shuffle(&mut order, |below| rng.random_range(0..below));
            for rows in order.chunks(terms.minibatch) {
                self.minibatch(rollout, rows, &mut sums)?;
            }
        }
        self.buffers.order = order;
        let stats = sums.stats(terms.epochs, 0.0);
        let stats = TracedStats {
            policy_loss: stats.policy_loss,
            value_loss: stats.value_loss,
            entropy: stats.entropy,
            kl: stats.kl,
            lag,
        };
        self.check(&stats)?;
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        state.network("critic", &mut self.critic)?;
        let adams = (self.actor_adam.clone(), self.std_adam.clone(), self.critic_adam.clone());
        let mut rest = (self.iteration, self.actor.head.clone(), adams);
        state.value("learner", &mut rest)?;
        (self.iteration, self.actor.head, (self.actor_adam, self.std_adam, self.critic_adam)) = rest;
        Ok(())
    }
}

impl<C: Traced> TracedLearner<C> {
    /// One gradient step of both networks on some rows.
    fn minibatch(&mut self, rollout: &Rollout, rows: &[u32], sums: &mut Sums) -> Result<()> {
        let Self { config, actor, critic, buffers: b, .. } = self;
        let (terms, n, scale) = (config.terms(), rows.len(), 1.0 / rows.len() as f32);
        rollout.gather(rows, &mut b.obs);
        b.advantages.clear();
        b.advantages.extend(rows.iter().map(|&row| b.trace.advantages()[row as usize]));
        if terms.normalize_advantages {
            normalize(&mut b.advantages);
        }
        let (net, head, space) = actor.parts();
        let outputs = net.forward(&b.obs, n).map_err(network)?;
        terms.loss.over(rollout, rows, (outputs, head, space), &b.advantages, sums, &mut b.gradient);
        b.gradient.step_log_std(head, terms.grad_clip, &mut self.std_adam)?;
        descend(net, &b.gradient.outputs, terms.grad_clip, &mut self.actor_adam)?;

        b.d_value.clear();
        for (&row, &value) in rows.iter().zip(critic.forward(&b.obs, n).map_err(network)?) {
            let (loss, d) = value_loss(None, value, value, b.trace.targets()[row as usize]);
            sums.value_loss += f64::from(loss);
            b.d_value.push(d * scale);
        }
        descend(critic, &b.d_value, terms.grad_clip, &mut self.critic_adam)
    }

    /// Losses and weights are numbers.
    fn check(&self, stats: &TracedStats) -> Result<()> {
        let losses = [("policy loss", stats.policy_loss), ("value loss", stats.value_loss)];
        nets::check(&losses, [self.actor.net.params(), self.critic.params()], self.iteration)
    }
}

#[cfg(test)]
mod tests;
