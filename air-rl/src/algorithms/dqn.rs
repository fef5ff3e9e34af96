//! Deep Q-learning ([Mnih et al. 2015](https://www.nature.com/articles/nature14236)) with Rainbow's parts
//! ([Hessel et al. 2018](https://arxiv.org/abs/1710.02298)) as switches, top to bottom.
//!
//! Act greedily by Q with some chance of anything else, keep what happened in a replay buffer, and move Q(s, a) of drawn
//! transitions towards `r + γⁿ Q'(s', a*)`, where Q' is a target network that follows slowly. Parts:
//!
//! - **double**: a* is the online network's choice, not the target's;
//! - **duelling**: Q is put together from a value and advantages ([`ValueHead`]);
//! - **n-step**: r is a discounted sum over n steps ([`Replay`] folds it);
//! - **prioritised**: transitions are drawn by their last error ([`SumTree`]), and weighted for it;
//! - **noisy**: every weight is μ + σ ε with factorised ε, drawn anew for each update and each iteration of playing; μ and σ
//!   are learned, and the policy outside of training is μ. The target network is without noise;
//! - **distributional** (C51): a distribution over returns instead of their mean, learned by cross-entropy.
//!
//! [`DqnLearner`] is pure: a rollout in, new weights and [`DqnStats`] out. [`Dqn`](crate::Dqn) drives it.

mod config;

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Mlp, Module as _, Optimizer as _, Scratch, clip_grad_norm};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learn::nets::{self, Layers, descend, network, polyak};
use crate::learn::replay::Replay;
use crate::learn::sum_tree::SumTree;
use crate::learn::values::{Support, ValueHead};
use crate::learn::{categorical, gaussian};
use crate::play::actor::{Actor, Explore, Head};
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::Learner;
pub use config::DqnConfig;

/// Keeps every priority above zero.
const PRIORITY_EPS: f64 = 1e-6;

/// What a round of updates did, means over its batches; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DqnStats {
    /// Huber loss of the values, or cross-entropy of the distributions.
    pub loss: f32,
    /// Value of the actions taken.
    pub value: f32,
    /// Chance of a random action in the next iteration.
    pub epsilon: f32,
    /// Transitions in the replay buffer.
    pub replay: usize,
}

impl fmt::Display for DqnStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {:.2}  loss {:.4}  epsilon {:.3}", self.value, self.loss, self.epsilon)
    }
}

/// A Q-network, the target that follows it, and what it has seen.
#[derive(Clone, Debug)]
pub struct DqnLearner {
    config: DqnConfig,
    seed: Seed,
    iteration: u64,
    steps: u64,
    choices: usize,
    head: ValueHead,
    /// Observation → values; the online network itself.
    actor: Actor,
    adam: Adam,
    target: Mlp,
    noise: Option<Noise>,
    replay: Replay,
    priorities: Option<Priorities>,
    buffers: Buffers,
}

/// Weights as distributions: the network's are `mean + sigma · eps`.
#[derive(Clone, Debug)]
struct Noise {
    mean: Vec<f32>,
    sigma: Vec<f32>,
    eps: Vec<f32>,
    adam: Adam,
    d_sigma: Vec<f32>,
    factors: Vec<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Priorities {
    tree: SumTree,
    /// What a new transition gets: the highest met, so that it is drawn soon.
    highest: f64,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    rows: Vec<usize>,
    weights: Vec<f32>,
    obs: Vec<f32>,
    next_obs: Vec<f32>,
    /// Values of the next state, to choose by: `[batch, choices]`.
    chooses: Vec<f32>,
    /// The targets: `[batch]`, or distributions `[batch, atoms]`.
    targets: Vec<f32>,
    /// One row of values or logits, `[choices, atoms]`, and its gradient.
    row: Vec<f32>,
    d_row: Vec<f32>,
    d_out: Vec<f32>,
    log_probs: Vec<f32>,
    scratch: Scratch,
}

impl Learner for DqnLearner {
    type Config = DqnConfig;
    type Stats = DqnStats;

    const NAME: &'static str = "dqn";

    fn new(config: &DqnConfig, task: &Task, seed: Seed) -> Result<Self> {
        let choices = task.discrete("DQN")?;
        let support = (config.atoms > 0).then_some(Support {
            atoms: config.atoms,
            low: config.v_min,
            high: config.v_max,
        });
        let head = ValueHead { duelling: config.duelling, support };
        let DqnConfig { conv, hidden, .. } = config;
        let layers = Layers { conv, hidden, activation: Activation::Relu, layer_norm: false };
        let net =
            nets::seeing(task, layers, head.outputs(choices), Init::KaimingUniform, seed.child("values", 0))?;
        let noise = config.noisy.then(|| Noise::new(&net, config));
        let priorities =
            config.prioritized.then(|| Priorities { tree: SumTree::new(config.capacity), highest: 1.0 });
        let explore = Explore::Epsilon(config.epsilon_start);
        let mut learner = Self {
            config: config.clone(),
            seed,
            iteration: 0,
            steps: 0,
            choices,
            target: net.clone(),
            actor: Actor::new(net, Head::Values(head.clone()), task.action_space.clone(), explore)?,
            head,
            adam: Adam::new(config.lr),
            noise,
            replay: Replay::new(task, config.capacity, config.envs, config.n_step, config.gamma),
            priorities,
            buffers: Buffers::default(),
        };
        learner.explore();
        Ok(learner)
    }

    fn config(&self) -> &DqnConfig {
        &self.config
    }

    fn sampling(config: &DqnConfig) -> Sampling {
        let &DqnConfig { envs, steps, runners, parallel, .. } = config;
        Sampling { envs, steps, runners, parallel }
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn policy(&self) -> Actor {
        let mut policy = self.actor.greedy();
        if let Some(noise) = &self.noise {
            policy.net.params_mut().copy_from_slice(&noise.mean);
        }
        policy
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<DqnStats> {
        self.iteration += 1;
        self.steps += rollout.rows() as u64;
        let Self { replay, priorities, .. } = self;
        replay.absorb(rollout, |row| {
            if let Some(Priorities { tree, highest }) = priorities {
                tree.set(row, *highest);
            }
        });
        let mut stats = DqnStats::default();
        if self.replay.len() >= self.config.learning_starts.max(1) {
            let falls = match self.config.lr_decay_steps {
                0 => 0.0,
                over => (self.steps as f32 / over as f32).min(1.0),
            };
            self.adam.set_lr(self.config.lr * (1.0 - 0.9 * falls));
            let mut rng = self.seed.child("replay", self.iteration).rng();
            for _ in 0..self.config.updates {
                self.learn(&mut rng, &mut stats)?;
            }
            stats.loss /= self.config.updates as f32;
            stats.value /= self.config.updates as f32;
            nets::check(&[("loss", stats.loss)], [self.actor.net.params()], self.iteration)?;
        }
        self.explore();
        if let Explore::Epsilon(epsilon) = self.actor.explore {
            stats.epsilon = epsilon;
        }
        stats.replay = self.replay.len();
        Ok(stats)
    }

    /// Without `save_replay`, a run that goes on fills its buffer anew before it learns.
    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        if self.config.save_replay {
            self.replay.state(state)?;
            if let Some(priorities) = &mut self.priorities {
                let rows = priorities.tree.rows();
                state.value("priorities", priorities)?;
                state.expect("priorities", priorities.tree.rows() == rows)?;
            }
        }
        state.network("values", &mut self.actor.net)?;
        state.network("target", &mut self.target)?;
        let noise = self.noise.take();
        let mut rest =
            (self.iteration, self.steps, self.adam.clone(), noise.map(|n| (n.mean, n.sigma, n.adam)));
        state.value("learner", &mut rest)?;
        let noise;
        (self.iteration, self.steps, self.adam, noise) = rest;
        self.noise = noise.map(|(mean, sigma, adam)| Noise {
            mean,
            sigma,
            adam,
            ..Noise::new(&self.actor.net, &self.config)
        });
        self.explore();
        Ok(())
    }
}

impl DqnLearner {
    /// What playing the next iteration departs from the best by.
    fn explore(&mut self) {
        let c = &self.config;
        let done = (self.steps as f32 / c.epsilon_steps.max(1) as f32).min(1.0);
        self.actor.explore = Explore::Epsilon(c.epsilon_start + done * (c.epsilon_end - c.epsilon_start));
        if let Some(noise) = &mut self.noise {
            let mut rng = self.seed.child("noise", self.iteration).rng();
            noise.draw(&mut self.actor.net, &mut rng);
        }
    }

    /// One gradient step on one batch.
    fn learn(&mut self, rng: &mut Pcg64, stats: &mut DqnStats) -> Result<()> {
        self.sample(rng);
        if let Some(noise) = &mut self.noise {
            noise.draw(&mut self.actor.net, rng);
        }
        self.aim()?;
        let Self { config, head, actor, target, replay, priorities, noise, buffers: b, .. } = self;
        let (n, atoms, width) = (b.rows.len(), head.atoms(), actor.net.outputs());
        b.d_out.resize(n * width, 0.0);
        b.d_row.resize(self.choices * atoms, 0.0);
        let (mut loss, mut value) = (0.0, 0.0);
        let outputs = actor.net.forward(&b.obs, n).map_err(network)?;
        for (i, (output, d_out)) in
            outputs.chunks_exact(width).zip(b.d_out.chunks_exact_mut(width)).enumerate()
        {
            let (row, scale) = (b.rows[i], b.weights[i] / n as f32);
            let taken = replay.action.choices[row] as usize;
            head.combine(output, &mut b.row);
            b.d_row.fill(0.0);
            let error = if let Some(support) = &head.support {
                let group = taken * atoms..(taken + 1) * atoms;
                let target = &b.targets[i * atoms..(i + 1) * atoms];
                b.log_probs.resize(atoms, 0.0);
                categorical::log_softmax(&b.row[group.clone()], &mut b.log_probs);
                let (error, mean) = cross_entropy(support, &b.log_probs, target, scale, &mut b.d_row[group]);
                value += mean;
                loss += b.weights[i] * error;
                error
            } else {
                let error = b.row[taken] - b.targets[i];
                let (huber, d) = huber(error);
                b.d_row[taken] = d * scale;
                value += b.row[taken];
                loss += b.weights[i] * huber;
                error.abs()
            };
            head.combine_backward(&b.d_row, d_out);
            if let Some(Priorities { tree, highest }) = priorities {
                let priority = (f64::from(error) + PRIORITY_EPS).powf(f64::from(config.priority_alpha));
                tree.set(row, priority);
                *highest = highest.max(priority);
            }
        }
        stats.loss += loss / n as f32;
        stats.value += value / n as f32;
        if let Some(noise) = noise {
            noise.descend(&mut actor.net, &b.d_out, config.grad_clip, &mut self.adam)?;
            polyak(target.params_mut(), &noise.mean, config.tau);
        } else {
            descend(&mut actor.net, &b.d_out, config.grad_clip, &mut self.adam)?;
            polyak(target.params_mut(), actor.net.params(), config.tau);
        }
        Ok(())
    }

    /// Draws the rows of a batch, with the weights that make up for drawing some more than others.
    fn sample(&mut self, rng: &mut Pcg64) {
        let Self { config, replay, priorities, buffers: b, .. } = self;
        let (n, len) = (config.batch, replay.len());
        b.rows.clear();
        b.weights.clear();
        if let Some(Priorities { tree, .. }) = priorities {
            let done = (self.steps as f64 / config.priority_beta_steps.max(1) as f64).min(1.0);
            let beta = f64::from(config.priority_beta) * (1.0 - done) + done;
            let share = tree.total() / n as f64;
            for i in 0..n {
                let row = tree.find((i as f64 + rng.random::<f64>()) * share);
                b.rows.push(row);
                b.weights.push((tree.get(row) * len as f64 / tree.total()).powf(-beta) as f32);
            }
            let most = b.weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            for weight in &mut b.weights {
                *weight /= most;
            }
        } else {
            b.rows.extend((0..n).map(|_| rng.random_range(0..len)));
            b.weights.resize(n, 1.0);
        }
        replay.gather(&b.rows, &mut b.obs);
        replay.gather_next(&b.rows, &mut b.next_obs);
    }

    /// What the values or distributions of the batch should be.
    fn aim(&mut self) -> Result<()> {
        let Self { config, choices, head, actor, target, replay, buffers: b, .. } = self;
        let (n, atoms) = (b.rows.len(), head.atoms());
        b.row.resize(*choices * atoms, 0.0);
        b.chooses.resize(n * *choices, 0.0);
        let chooser = if config.double { &actor.net } else { &*target };
        let outputs = chooser.infer(&b.next_obs, n, &mut b.scratch).map_err(network)?;
        for (row, values) in outputs.chunks_exact(chooser.outputs()).zip(b.chooses.chunks_exact_mut(*choices))
        {
            head.values(row, values);
        }
        b.targets.clear();
        b.targets.resize(n * atoms, 0.0);
        let outputs = target.infer(&b.next_obs, n, &mut b.scratch).map_err(network)?;
        for (i, output) in outputs.chunks_exact(target.outputs()).enumerate() {
            let row = b.rows[i];
            let values = &b.chooses[i * *choices..(i + 1) * *choices];
            let best = categorical::masked_mode(values, replay.next_mask_row(row));
            let (reward, discount) = (replay.reward[row], replay.discount[row]);
            head.combine(output, &mut b.row);
            let next = &b.row[best * atoms..(best + 1) * atoms];
            let to = &mut b.targets[i * atoms..(i + 1) * atoms];
            if let Some(support) = &head.support {
                b.log_probs.resize(atoms, 0.0);
                categorical::log_softmax(next, &mut b.log_probs);
                project(support, &b.log_probs, reward, discount, to);
            } else {
                to[0] = reward + discount * next[0];
            }
        }
        Ok(())
    }
}

/// Huber loss, quadratic within ±1, and its derivative.
fn huber(error: f32) -> (f32, f32) {
    if error.abs() <= 1.0 {
        (0.5 * error * error, error)
    } else {
        (error.abs() - 0.5, error.clamp(-1.0, 1.0))
    }
}

/// Cross-entropy of a predicted distribution against a target, the predicted mean, and the gradient by the logits times
/// `scale`: `softmax − target`.
fn cross_entropy(
    support: &Support,
    log_probs: &[f32],
    target: &[f32],
    scale: f32,
    d_logits: &mut [f32],
) -> (f32, f32) {
    let (mut loss, mut mean) = (0.0, 0.0);
    for (i, ((&log_p, &t), d)) in log_probs.iter().zip(target).zip(d_logits).enumerate() {
        let p = log_p.exp();
        loss -= t * log_p;
        mean += p * support.at(i);
        *d = (p - t) * scale;
    }
    (loss, mean)
}

/// The distribution of `reward + discount · Z`, put back onto the support: mass between two atoms is shared by nearness,
/// mass beyond the ends goes to them.
fn project(support: &Support, log_probs: &[f32], reward: f32, discount: f32, to: &mut [f32]) {
    let last = support.atoms - 1;
    for (i, log_p) in log_probs.iter().enumerate() {
        let z = (reward + discount * support.at(i)).clamp(support.low, support.high);
        let at = ((z - support.low) / support.step()).clamp(0.0, last as f32);
        let below = (at as usize).min(last);
        let above = (below + 1).min(last);
        let (p, share) = (log_p.exp(), at - below as f32);
        to[below] += p * (1.0 - share);
        to[above] += p * share;
    }
}

impl Noise {
    fn new(net: &Mlp, config: &DqnConfig) -> Self {
        let len = net.params().len();
        let mut sigma = vec![0.0; len];
        for layer in net.layers().iter().filter(|layer| layer.window.is_none()) {
            let first = config.noisy_sigma / (layer.inputs as f32).sqrt();
            sigma[layer.weights().start..layer.bias().end].fill(first);
        }
        Self {
            mean: net.params().to_vec(),
            sigma,
            eps: vec![0.0; len],
            adam: Adam::new(config.lr),
            d_sigma: vec![0.0; len],
            factors: Vec::new(),
        }
    }

    /// Draws factorised noise, `ε_ij = f(ε_i) f(ε_j)` with `f(x) = sgn(x) √|x|`, and puts the weights it gives into `net`.
    fn draw(&mut self, net: &mut Mlp, rng: &mut Pcg64) {
        for i in 0..net.layers().len() {
            let layer = net.layers()[i];
            if layer.window.is_some() {
                continue; // Rainbow's noise is in the dense layers
            }
            self.factors.resize(layer.inputs + layer.outputs, 0.0);
            gaussian::fill(rng, &mut self.factors);
            for x in &mut self.factors {
                *x = x.abs().sqrt().copysign(*x);
            }
            let (inputs, outputs) = self.factors.split_at(layer.inputs);
            for (row, &a) in self.eps[layer.weights()].chunks_exact_mut(layer.outputs).zip(inputs) {
                for (eps, &b) in row.iter_mut().zip(outputs) {
                    *eps = a * b;
                }
            }
            self.eps[layer.bias()].copy_from_slice(outputs);
        }
        for (((w, mean), sigma), eps) in
            net.params_mut().iter_mut().zip(&self.mean).zip(&self.sigma).zip(&self.eps)
        {
            *w = mean + sigma * eps;
        }
    }

    /// A step for means and deviations; `∂L/∂μ = ∂L/∂w`, `∂L/∂σ = ε ∂L/∂w`.
    fn descend(&mut self, net: &mut Mlp, d_out: &[f32], grad_clip: f32, adam: &mut Adam) -> Result<()> {
        net.backward_from_zero(d_out).map_err(network)?;
        if grad_clip > 0.0 {
            clip_grad_norm(net.grads_mut(), grad_clip);
        }
        for ((d, grad), eps) in self.d_sigma.iter_mut().zip(net.grads()).zip(&self.eps) {
            *d = grad * eps;
        }
        self.adam.set_lr(adam.lr());
        self.adam.step(&mut self.sigma, &self.d_sigma).map_err(network)?;
        adam.step(&mut self.mean, net.grads()).map_err(network)
    }
}

#[cfg(test)]
mod tests;
