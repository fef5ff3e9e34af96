//! Proximal policy optimisation ([Schulman et al. 2017](https://arxiv.org/abs/1707.06347)), top to bottom.
//!
//! Collect `envs × steps` transitions with the current policy; estimate advantages (GAE); for some epochs, walk over
//! the transitions in shuffled minibatches and follow the gradient of a clipped surrogate. Details follow "The 37
//! implementation details of PPO" ([Huang et al. 2022](https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/))
//! and what "What matters in on-policy RL" ([Andrychowicz et al. 2021](https://arxiv.org/abs/2006.05990)) measured:
//! separate tanh networks for policy and value, orthogonal first weights with a small last policy layer, advantages
//! normalised by minibatch. Unlike most, a truncated episode is continued with the value of its final observation.
//!
//! Actions may be discrete (with masks), multi-discrete (one distribution for each decision, their log-probabilities added)
//! or continuous (normal distributions with deviations that do not depend on the observation, clipped at the environment).
//!
//! [`PpoLearner`] is pure: a rollout in, new weights and [`PpoStats`] out, no clock, no thread, no file.
//! [`Ppo`](crate::Ppo) drives it.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_core::team::Team;
use air_train::nn::{Activation, Adam, Init, Mlp, Module as _, Optimizer as _, Scratch};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::gae::Estimate;
use crate::learn::nets::{self, Layers, descend, network};
use crate::learn::normalize::{Normalizer, RewardScaler};
use crate::learn::policy_loss::{
    Objective, PolicyGradient, PolicyLoss, Sums, explained_variance, normalize, shuffle, value_loss,
};
use crate::play::actor::{Actor, Explore, Head};
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Learner;
pub use config::PpoConfig;

/// What one update did, means over its minibatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PpoStats {
    /// Clipped surrogate, to be minimised (without the entropy bonus).
    pub policy_loss: f32,
    /// Half the squared error of the value.
    pub value_loss: f32,
    /// Entropy of the policy, nats.
    pub entropy: f32,
    /// How far the policy moved from the one that collected: KL divergence, nats (estimator k3 of Schulman's note).
    pub kl: f32,
    /// Share of transitions whose ratio was outside the clip range.
    pub clip_fraction: f32,
    /// Share of the returns' variance that the critic had explained before the update; 1 is perfect.
    pub explained_variance: f32,
    /// Epochs done; fewer than configured when `target_kl` stopped them.
    pub epochs: usize,
}

impl fmt::Display for PpoStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entropy {:.3}  kl {:.4}", self.entropy, self.kl)
    }
}

/// Policy and value network with their optimisers; learns from one rollout at a time.
#[derive(Clone, Debug)]
pub struct PpoLearner {
    config: PpoConfig,
    seed: Seed,
    /// Updates done.
    iteration: u64,
    /// Transitions learned from.
    steps: u64,
    /// Observation → logits or means of the actions.
    actor: Actor,
    /// Observation → value.
    critic: Mlp,
    actor_adam: Adam,
    /// Of the log standard deviations, where there are any.
    std_adam: Adam,
    critic_adam: Adam,
    reward_scaler: Option<RewardScaler>,
    /// Policy and value network learn at the same time if there are two.
    team: Team,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    estimate: Estimate,
    order: Vec<u32>,
    policy: PolicyBuffers,
    value: ValueBuffers,
    scratch: Scratch,
}

#[derive(Clone, Debug, Default)]
struct PolicyBuffers {
    obs: Vec<f32>,
    advantages: Vec<f32>,
    gradient: PolicyGradient,
}

#[derive(Clone, Debug, Default)]
struct ValueBuffers {
    obs: Vec<f32>,
    d_value: Vec<f32>,
}

/// What an epoch does that does not wait for anything else.
enum Half<'a> {
    Policy(PolicyHalf<'a>, Sums, &'a mut Result<Sums>),
    Value(ValueHalf<'a>, f64, &'a mut Result<f64>),
}

/// The policy with its optimisers.
struct PolicyHalf<'a> {
    config: &'a PpoConfig,
    actor: &'a mut Actor,
    adam: &'a mut Adam,
    std_adam: &'a mut Adam,
    buffers: &'a mut PolicyBuffers,
}

/// The value network with its optimiser.
struct ValueHalf<'a> {
    config: &'a PpoConfig,
    critic: &'a mut Mlp,
    adam: &'a mut Adam,
    buffers: &'a mut ValueBuffers,
}

impl Learner for PpoLearner {
    type Config = PpoConfig;
    type Stats = PpoStats;

    const NAME: &'static str = "ppo";

    fn new(config: &PpoConfig, task: &Task, seed: Seed) -> Result<Self> {
        let net = |outputs, output_gain, name| {
            let init = Init::Orthogonal { hidden_gain: 2_f32.sqrt(), output_gain };
            let PpoConfig { conv, hidden, .. } = config;
            let layers = Layers { conv, hidden, activation: Activation::Tanh, layer_norm: false };
            nets::seeing(task, layers, outputs, init, seed.child(name, 0))
        };
        let adam = || Adam::new(config.lr).eps(1e-5);
        let space = &task.action_space;
        let head = Head::drawn(space, config.log_std);
        let policy = net(head.outputs(space), 0.01, "actor")?;
        let mut actor = Actor::new(policy, head, space.clone(), Explore::Draw)?;
        actor.normalizer = config.normalize_observations.then(|| Normalizer::new(task.inputs()));
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            steps: 0,
            actor,
            critic: net(1, 1.0, "critic")?,
            actor_adam: adam(),
            std_adam: adam(),
            critic_adam: adam(),
            reward_scaler: config.normalize_rewards.then(RewardScaler::default),
            team: Team::new(config.threads)?,
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &PpoConfig {
        &self.config
    }

    fn sampling(config: &PpoConfig) -> Sampling {
        let &PpoConfig { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    /// Learns from one rollout collected with the present policy; normalises it in place if told to.
    fn update(&mut self, rollout: &mut Rollout) -> Result<PpoStats> {
        self.iteration += 1;
        self.steps += rollout.rows() as u64;
        self.set_lr();
        self.normalize(rollout);
        let Buffers { estimate, scratch, .. } = &mut self.buffers;
        estimate.values(rollout, &self.critic, scratch)?;
        estimate.advantages(rollout, self.config.gamma, self.config.lambda);
        let stats = self.epochs(rollout)?;
        if let Some(normalizer) = &mut self.actor.normalizer {
            normalizer.refresh();
        }
        self.check(&stats)?;
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        state.network("critic", &mut self.critic)?;
        let mut rest = (
            (self.iteration, self.steps),
            (self.actor_adam.clone(), self.std_adam.clone(), self.critic_adam.clone()),
            (self.actor.head.clone(), self.actor.normalizer.clone(), self.reward_scaler.clone()),
        );
        state.value("learner", &mut rest)?;
        (self.iteration, self.steps) = rest.0;
        (self.actor_adam, self.std_adam, self.critic_adam) = rest.1;
        (self.actor.head, self.actor.normalizer, self.reward_scaler) = rest.2;
        Ok(())
    }
}

impl PpoLearner {
    /// The value network: observation → value.
    pub fn critic(&self) -> &Mlp {
        &self.critic
    }

    /// Brings observations and rewards to the scales learned so far, and learns from theirs.
    fn normalize(&mut self, rollout: &mut Rollout) {
        if let Some(normalizer) = &mut self.actor.normalizer {
            // What was seen counts from the next iteration on: this one was played with the old scales.
            normalizer.observe(&rollout.obs);
            normalizer.apply(&mut rollout.obs);
            normalizer.apply(&mut rollout.last_obs);
            normalizer.apply(&mut rollout.cut_obs);
        }
        if let Some(scaler) = &mut self.reward_scaler {
            scaler.apply(self.config.gamma, rollout);
        }
    }

    /// Walks over the rollout in shuffled minibatches, some times.
    fn epochs(&mut self, rollout: &Rollout) -> Result<PpoStats> {
        let mut sums = Sums::default();
        let mut order = std::mem::take(&mut self.buffers.order);
        order.clear();
        order.extend(0..rollout.rows() as u32);
        let mut rng = self.seed.child("shuffle", self.iteration).rng();
        let mut epochs = 0;
        for _ in 0..self.config.epochs {
            shuffle(&mut order, |below| rng.random_range(0..below));
            let before = sums;
            sums = self.epoch(rollout, &order, sums)?;
            epochs += 1;
            let kl = (sums.kl - before.kl) / (sums.rows - before.rows);
            if self.config.target_kl.is_some_and(|target| kl > f64::from(target)) {
                break;
            }
        }
        self.buffers.order = order;
        Ok(sums
            .stats(epochs, explained_variance(&self.buffers.estimate.values, &self.buffers.estimate.returns)))
    }

    /// One pass over the rows in this order; policy and value network need nothing of each other meanwhile.
    fn epoch(&mut self, rollout: &Rollout, order: &[u32], sums: Sums) -> Result<Sums> {
        let Self { config, actor, critic, actor_adam, std_adam, critic_adam, buffers, team, .. } = self;
        let config: &PpoConfig = config;
        let Buffers { estimate, policy, value, .. } = buffers;
        let policy = PolicyHalf { config, actor, adam: actor_adam, std_adam, buffers: policy };
        let value = ValueHalf { config, critic, adam: critic_adam, buffers: value };
        let (mut learned, mut valued) = (Ok(sums), Ok(0.0));
        let halves =
            [Half::Policy(policy, sums, &mut learned), Half::Value(value, sums.value_loss, &mut valued)];
        let (estimate, batches) = (&*estimate, || order.chunks(config.minibatch));
        team.each(halves, |half| match half {
            Half::Policy(mut half, sums, to) => {
                *to = batches().try_fold(sums, |sums, rows| half.minibatch(rollout, estimate, rows, sums));
            }
            Half::Value(mut half, loss, to) => {
                *to = batches().try_fold(loss, |loss, rows| half.minibatch(rollout, estimate, rows, loss));
            }
        });
        let mut sums = learned?;
        sums.value_loss = valued?;
        Ok(sums)
    }

    fn set_lr(&mut self) {
        let done = match self.config.lr_decay_steps {
            0 => 0.0,
            over => (self.steps as f64 / over as f64).min(1.0) as f32,
        };
        let lr = self.config.lr * (1.0 - 0.9 * done);
        self.actor_adam.set_lr(lr);
        self.std_adam.set_lr(lr);
        self.critic_adam.set_lr(lr);
    }

    /// Losses and weights are numbers.
    fn check(&self, stats: &PpoStats) -> Result<()> {
        let losses = [("policy loss", stats.policy_loss), ("value loss", stats.value_loss)];
        nets::check(&losses, [self.actor.net.params(), self.critic.params()], self.iteration)
    }
}

impl PolicyHalf<'_> {
    /// One gradient step of the policy on some rows.
    fn minibatch(
        &mut self,
        rollout: &Rollout,
        estimate: &Estimate,
        rows: &[u32],
        mut sums: Sums,
    ) -> Result<Sums> {
        let Self { config, actor, adam, std_adam, buffers: b } = self;
        rollout.gather(rows, &mut b.obs);
        b.advantages.clear();
        b.advantages.extend(rows.iter().map(|&row| estimate.advantages[row as usize]));
        if config.normalize_advantages {
            normalize(&mut b.advantages);
        }
        let (net, head, space) = actor.parts();
        let loss = PolicyLoss { objective: Objective::Clipped(config.clip), entropy: config.entropy };
        let outputs = net.forward(&b.obs, rows.len()).map_err(network)?;
        loss.over(rollout, rows, (outputs, head, space), &b.advantages, &mut sums, &mut b.gradient);
        b.gradient.step_log_std(head, config.grad_clip, std_adam)?;
        descend(net, &b.gradient.outputs, config.grad_clip, adam)?;
        Ok(sums)
    }
}

impl ValueHalf<'_> {
    /// One gradient step of the value network on some rows; adds to the sum of its losses.
    fn minibatch(
        &mut self,
        rollout: &Rollout,
        estimate: &Estimate,
        rows: &[u32],
        mut sum: f64,
    ) -> Result<f64> {
        let Self { config, critic, adam, buffers: b } = self;
        rollout.gather(rows, &mut b.obs);
        b.d_value.clear();
        let scale = 1.0 / rows.len() as f32;
        let values = critic.forward(&b.obs, rows.len()).map_err(network)?;
        for (&row, &value) in rows.iter().zip(values) {
            let (old, target) = (estimate.values[row as usize], estimate.returns[row as usize]);
            let (loss, d) = value_loss(config.value_clip, value, old, target);
            sum += f64::from(loss);
            b.d_value.push(d * scale);
        }
        descend(critic, &b.d_value, config.grad_clip, adam)?;
        Ok(sum)
    }
}
