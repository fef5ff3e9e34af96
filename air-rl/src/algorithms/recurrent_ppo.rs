//! PPO with a memory, top to bottom: [`ppo`](crate::ppo)'s objective over networks that see through gated recurrent units
//! ([Cho et al. 2014](https://arxiv.org/abs/1406.1078)), for environments that do not show all there is to know.
//!
//! Policy and value network have units of their own. What the policy remembers goes with each environment from one rollout
//! to the next and is forgotten where an episode begins; the learner sees whole sequences of `steps` steps, begins them with
//! what was remembered then, and follows gradients back through time to each episode's or the rollout's first step. A
//! minibatch is some environments' sequences. A truncated episode is continued with the value that its final observation
//! has after all that came before it.
//!
//! [`RecurrentPpoLearner`] is pure: a rollout in, new weights and [`PpoStats`] out. [`RecurrentPpo`](crate::RecurrentPpo)
//! drives it.

mod config;

use air_core::seed::Seed;
use air_train::nn::{
    Activation, Adam, Gru, GruScratch, Init, Mlp, Module as _, Optimizer as _, Scratch, clip_grad_norm,
};
use rand::RngExt as _;

use crate::algorithms::ppo::PpoStats;
use crate::error::{Result, RlError};
use crate::learn::gae::Estimate;
use crate::learn::nets::{self, network};
use crate::learn::policy_loss::{
    Objective, PolicyGradient, PolicyLoss, Sums, explained_variance, normalize, shuffle, value_loss,
};
use crate::play::actor::{Actor, Explore, Head};
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Learner;
pub use config::RecurrentPpoConfig;

/// Policy and value network with their memories and optimisers; learns from one rollout at a time.
#[derive(Clone, Debug)]
pub struct RecurrentPpoLearner {
    config: RecurrentPpoConfig,
    seed: Seed,
    iteration: u64,
    actor: Actor,
    critic: Remembering,
    /// What the critic remembers of each environment, `[envs, units]`.
    critic_state: Vec<f32>,
    actor_adams: (Adam, Adam),
    std_adam: Adam,
    critic_adams: (Adam, Adam),
    buffers: Buffers,
}

/// Units, and the dense layers that see through them.
#[derive(Clone, Debug)]
struct Remembering {
    memory: Gru,
    net: Mlp,
}

/// Working memory, kept between updates. Sequences lie step by step, `[steps, sequences, …]`.
#[derive(Clone, Debug, Default)]
struct Buffers {
    estimate: Estimate,
    order: Vec<u32>,
    sequences: Sequences,
    /// What the critic remembered before the rollout, `[envs, units]`.
    critic_before: Vec<f32>,
    cut_state: Vec<f32>,
    last_state: Vec<f32>,
    advantages: Vec<f32>,
    gradient: PolicyGradient,
    d_value: Vec<f32>,
    scratch: Scratch,
    gru: GruScratch,
}

/// Some environments' steps, side by side.
#[derive(Clone, Debug, Default)]
struct Sequences {
    /// Row of the rollout of each.
    rows: Vec<u32>,
    obs: Vec<f32>,
    begins: Vec<bool>,
    /// What was remembered before the first step, `[sequences, units]`.
    state: Vec<f32>,
}

impl Sequences {
    /// Those of `envs`.
    fn gather(&mut self, rollout: &Rollout, envs: &[u32]) {
        self.rows.clear();
        self.obs.clear();
        self.begins.clear();
        for t in 0..rollout.steps() {
            for &env in envs {
                let row = env as usize * rollout.steps() + t;
                self.rows.push(row as u32);
                self.obs.extend_from_slice(rollout.obs_row(row));
                self.begins.push(rollout.begins[row]);
            }
        }
    }

    /// Begins with the rows of `envs` of `states[all envs, units]`.
    fn remember(&mut self, states: &[f32], envs: &[u32], units: usize) {
        self.state.clear();
        for &env in envs {
            self.state.extend_from_slice(&states[env as usize * units..(env as usize + 1) * units]);
        }
    }

    /// Outputs of a network for all steps, `[steps, sequences, outputs]`.
    fn forward<'n>(&self, memory: &mut Gru, net: &'n mut Mlp) -> Result<&'n [f32]> {
        let sequences = self.state.len() / memory.units();
        let states = memory.forward(&self.obs, &self.state, &self.begins, sequences).map_err(network)?;
        net.forward(states, self.rows.len()).map_err(network)
    }
}

impl Learner for RecurrentPpoLearner {
    type Config = RecurrentPpoConfig;
    type Stats = PpoStats;

    const NAME: &'static str = "recurrent-ppo";

    fn new(config: &RecurrentPpoConfig, task: &Task, seed: Seed) -> Result<Self> {
        let net = |outputs, output_gain, name| {
            let (seed, units) = (seed.child(name, 0), config.units);
            let init = Init::Orthogonal { hidden_gain: 2_f32.sqrt(), output_gain };
            let (hidden, output) = (Activation::Tanh, Activation::Identity);
            Ok::<_, RlError>(Remembering {
                memory: Gru::new(task.inputs(), units, seed).map_err(network)?,
                net: nets::mlp(units, &config.hidden, outputs, hidden, output, init, seed)?,
            })
        };
        let adam = || Adam::new(config.lr).eps(1e-5);
        let space = &task.action_space;
        let head = Head::drawn(space, config.log_std);
        let policy = net(head.outputs(space), 0.01, "actor")?;
        let mut actor = Actor::new(policy.net, head, space.clone(), Explore::Draw)?;
        actor.memory = Some(policy.memory);
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            actor,
            critic: net(1, 1.0, "critic")?,
            critic_state: vec![0.0; config.envs * config.units],
            actor_adams: (adam(), adam()),
            std_adam: adam(),
            critic_adams: (adam(), adam()),
            buffers: Buffers::default(),
        })
    }

    fn config(&self) -> &RecurrentPpoConfig {
        &self.config
    }

    fn sampling(config: &RecurrentPpoConfig) -> Sampling {
        let &RecurrentPpoConfig { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<PpoStats> {
        self.iteration += 1;
        let mut order = std::mem::take(&mut self.buffers.order);
        order.clear();
        order.extend(0..rollout.envs() as u32);
        self.estimate(rollout, &order)?;
        let mut rng = self.seed.child("shuffle", self.iteration).rng();
        let mut sums = Sums::default();
        for _ in 0..self.config.epochs {
            shuffle(&mut order, |below| rng.random_range(0..below));
            for envs in order.chunks(self.config.sequences) {
                self.minibatch(rollout, envs, &mut sums)?;
            }
        }
        self.buffers.order = order;
        let explained = explained_variance(&self.buffers.estimate.values, &self.buffers.estimate.returns);
        let stats = sums.stats(self.config.epochs, explained);
        self.check(&stats)?;
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        if let Some(memory) = &mut self.actor.memory {
            state.memory("actor_memory", memory)?;
        }
        state.network("critic", &mut self.critic.net)?;
        state.memory("critic_memory", &mut self.critic.memory)?;
        let adams = (self.actor_adams.clone(), self.std_adam.clone(), self.critic_adams.clone());
        let mut rest = (self.iteration, self.actor.head.clone(), adams);
        state.value("learner", &mut rest)?;
        (self.iteration, self.actor.head, (self.actor_adams, self.std_adam, self.critic_adams)) = rest;
        Ok(())
    }
}

impl RecurrentPpoLearner {
    /// Values of everything seen, each after all that came before it; then advantages and returns.
    fn estimate(&mut self, rollout: &Rollout, envs: &[u32]) -> Result<()> {
        let Self { config, critic: Remembering { memory, net }, critic_state, buffers: b, .. } = self;
        let (n, units) = (rollout.envs(), config.units);
        let Estimate { values, cut_values, last_values, .. } = &mut b.estimate;
        b.critic_before.clone_from(critic_state);
        b.sequences.gather(rollout, envs);
        let states =
            memory.forward(&b.sequences.obs, critic_state, &b.sequences.begins, n).map_err(network)?;
        values.resize(rollout.rows(), 0.0);
        let of_steps = net.infer(states, rollout.rows(), &mut b.scratch).map_err(network)?;
        for (&row, &value) in b.sequences.rows.iter().zip(of_steps) {
            values[row as usize] = value;
        }

        b.cut_state.clear();
        for &row in &rollout.cut_rows {
            let (env, t) = (row / rollout.steps(), row % rollout.steps());
            b.cut_state.extend_from_slice(&states[(t * n + env) * units..][..units]);
        }
        critic_state.copy_from_slice(&states[states.len() - n * units..]);
        b.last_state.clone_from(critic_state);
        let ends = [
            (&rollout.cut_obs, &mut b.cut_state, cut_values),
            (&rollout.last_obs, &mut b.last_state, last_values),
        ];
        for (obs, state, values) in ends {
            memory.step(obs, state, &mut b.gru).map_err(network)?;
            values.clear();
            let rows = state.len() / units;
            values.extend_from_slice(net.infer(state, rows, &mut b.scratch).map_err(network)?);
        }
        b.estimate.advantages(rollout, config.gamma, config.lambda);
        Ok(())
    }

    /// One gradient step of both networks on the sequences of some environments.
    fn minibatch(&mut self, rollout: &Rollout, envs: &[u32], sums: &mut Sums) -> Result<()> {
        let Self { config, actor, critic, buffers: b, .. } = self;
        b.sequences.gather(rollout, envs);
        b.advantages.clear();
        b.advantages.extend(b.sequences.rows.iter().map(|&row| b.estimate.advantages[row as usize]));
        normalize(&mut b.advantages);

        b.sequences.remember(&rollout.state, envs, config.units);
        let Actor { net, head, memory: Some(memory), space, .. } = actor else { return Ok(()) };
        let loss = PolicyLoss { objective: Objective::Clipped(config.clip), entropy: config.entropy };
        let outputs = b.sequences.forward(memory, net)?;
        loss.over(rollout, &b.sequences.rows, (outputs, head, space), &b.advantages, sums, &mut b.gradient);
        b.gradient.step_log_std(head, config.grad_clip, &mut self.std_adam)?;
        descend(memory, net, &b.gradient.outputs, config.grad_clip, &mut self.actor_adams)?;

        b.sequences.remember(&b.critic_before, envs, config.units);
        let values = b.sequences.forward(&mut critic.memory, &mut critic.net)?;
        let scale = 1.0 / values.len() as f32;
        b.d_value.clear();
        for (&row, &value) in b.sequences.rows.iter().zip(values) {
            let (old, target) = (b.estimate.values[row as usize], b.estimate.returns[row as usize]);
            let (loss, d) = value_loss(config.value_clip, value, old, target);
            sums.value_loss += f64::from(loss);
            b.d_value.push(d * scale);
        }
        let Remembering { memory, net } = critic;
        descend(memory, net, &b.d_value, config.grad_clip, &mut self.critic_adams)
    }

    /// Losses and weights are numbers.
    fn check(&self, stats: &PpoStats) -> Result<()> {
        let memory = self.actor.memory.as_ref().map_or(&[][..], |memory| memory.params());
        let weights =
            [memory, self.actor.net.params(), self.critic.memory.params(), self.critic.net.params()];
        let losses = [("policy loss", stats.policy_loss), ("value loss", stats.value_loss)];
        nets::check(&losses, weights, self.iteration)
    }
}

/// One step down the gradient of the outputs that [`Sequences::forward`] last gave, back through dense layers and time.
fn descend(
    memory: &mut Gru,
    net: &mut Mlp,
    d_out: &[f32],
    clip: f32,
    adams: &mut (Adam, Adam),
) -> Result<()> {
    net.zero_grads();
    memory.backward_from_zero(net.backward_input(d_out).map_err(network)?).map_err(network)?;
    if clip > 0.0 {
        clip_grad_norm(memory.grads_mut(), clip);
        clip_grad_norm(net.grads_mut(), clip);
    }
    let (params, grads) = memory.params_and_grads();
    adams.0.step(params, grads).map_err(network)?;
    let (params, grads) = net.params_and_grads();
    adams.1.step(params, grads).map_err(network)
}

#[cfg(test)]
mod tests;
