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

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Init, Mlp, Optimizer as _, Scratch, clip_grad_norm};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Explore, Head};
use crate::checkpoint::State;
use crate::error::{Result, RlError};
use crate::learner::Learner;
use crate::nets::{self, descend, network};
use crate::normalize::{Normalizer, RewardScaler};
pub use crate::ppo_config::PpoConfig;
use crate::rollout::Rollout;
use crate::sampler::Sampling;
use crate::space::Space;
use crate::task::Task;
use crate::{categorical, gae, gaussian};

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
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    values: Vec<f32>,
    next_values: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
    cut_values: Vec<f32>,
    last_values: Vec<f32>,
    order: Vec<u32>,
    obs: Vec<f32>,
    batch_advantages: Vec<f32>,
    d_logits: Vec<f32>,
    d_log_std: Vec<f32>,
    d_value: Vec<f32>,
    log_probs: Vec<f32>,
    scratch: Scratch,
}

impl Learner for PpoLearner {
    type Config = PpoConfig;
    type Stats = PpoStats;

    const NAME: &'static str = "ppo";

    fn new(config: &PpoConfig, task: &Task, seed: Seed) -> Result<Self> {
        let net = |outputs, output_gain, name| {
            let init = Init::Orthogonal { hidden_gain: 2_f32.sqrt(), output_gain };
            let (hidden, output) = (Activation::Tanh, Activation::Identity);
            nets::mlp(task.inputs(), &config.hidden, outputs, hidden, output, init, seed.child(name, 0))
        };
        let adam = || Adam::new(config.lr).eps(1e-5);
        let space = &task.action_space;
        let head = match space {
            Space::Box { low, .. } => Head::Gaussian { log_std: vec![config.log_std; low.len()] },
            Space::Discrete { .. } | Space::MultiDiscrete { .. } => Head::Categorical,
        };
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
        self.estimate(rollout)?;
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
            for rows in order.chunks(self.config.minibatch) {
                self.minibatch(rollout, rows, &mut sums)?;
            }
            epochs += 1;
            let kl = (sums.kl - before.kl) / (sums.rows - before.rows);
            if self.config.target_kl.is_some_and(|target| kl > f64::from(target)) {
                break;
            }
        }
        self.buffers.order = order;
        Ok(sums.stats(epochs, explained_variance(&self.buffers.values, &self.buffers.returns)))
    }

    /// Values of everything seen, then advantages and returns, environment by environment.
    fn estimate(&mut self, rollout: &Rollout) -> Result<()> {
        let b = &mut self.buffers;
        let critic = &self.critic;
        let scratch = &mut b.scratch;
        let mut value = |obs: &[f32], rows, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(critic.infer(obs, rows, scratch).map_err(network)?);
            Ok::<(), RlError>(())
        };
        value(&rollout.obs, rollout.rows(), &mut b.values)?;
        value(&rollout.last_obs, rollout.envs(), &mut b.last_values)?;
        value(&rollout.cut_obs, rollout.cut_rows.len(), &mut b.cut_values)?;

        // Where a row was cut off, the value of its final observation; `next_values` keeps these and fills in the rest.
        b.next_values.resize(rollout.rows(), 0.0);
        for (&row, &value) in rollout.cut_rows.iter().zip(&b.cut_values) {
            b.next_values[row] = value;
        }
        b.advantages.resize(rollout.rows(), 0.0);
        for env in 0..rollout.envs() {
            let first = env * rollout.steps();
            let rows = first..first + rollout.steps();
            gae::next_values(
                &b.values[rows.clone()],
                &rollout.terminated[rows.clone()],
                &rollout.truncated[rows.clone()],
                b.last_values[env],
                &mut b.next_values[rows.clone()],
            );
            gae::advantages(
                self.config.gamma,
                self.config.lambda,
                &rollout.reward[rows.clone()],
                &b.values[rows.clone()],
                &b.next_values[rows.clone()],
                |t| rollout.terminated[first + t] || rollout.truncated[first + t],
                &mut b.advantages[rows],
            );
        }
        b.returns.clear();
        b.returns.extend(b.advantages.iter().zip(&b.values).map(|(a, v)| a + v));
        Ok(())
    }

    /// One gradient step of both networks on some rows.
    fn minibatch(&mut self, rollout: &Rollout, rows: &[u32], sums: &mut Sums) -> Result<()> {
        let Self { config, actor, critic, buffers: b, .. } = self;
        let (n, scale) = (rows.len(), 1.0 / rows.len() as f32);
        b.obs.clear();
        b.batch_advantages.clear();
        for &row in rows {
            b.obs.extend_from_slice(rollout.obs_row(row as usize));
            b.batch_advantages.push(b.advantages[row as usize]);
        }
        if config.normalize_advantages {
            normalize(&mut b.batch_advantages);
        }

        let (net, head, space) = actor.parts();
        let (width, groups) = (net.outputs(), space.groups());
        b.d_logits.resize(n * width, 0.0);
        b.d_log_std.resize(width, 0.0);
        b.d_log_std.fill(0.0);
        b.log_probs.resize(width, 0.0);
        let outputs = net.forward(&b.obs, n).map_err(network)?;
        let samples = rows.iter().map(|&row| row as usize).zip(&b.batch_advantages);
        let gradients = outputs.chunks_exact(width).zip(b.d_logits.chunks_exact_mut(width));
        for ((row, &advantage), (outputs, d)) in samples.zip(gradients) {
            let old = rollout.log_prob[row];
            let term = if let Head::Gaussian { log_std } = head {
                let drawn = rollout.action.reals_of(row);
                gaussian_loss(config, outputs, log_std, drawn, old, advantage, d, &mut b.d_log_std)
            } else {
                let (taken, mask) = (rollout.action.choices_of(row), rollout.mask_row(row));
                policy_loss(config, groups, outputs, mask, taken, old, advantage, &mut b.log_probs, d)
            };
            sums.policy(&term);
            for d in d {
                *d *= scale;
            }
        }
        if let Head::Gaussian { log_std } = head {
            for d in &mut b.d_log_std {
                *d *= scale;
            }
            if config.grad_clip > 0.0 {
                clip_grad_norm(&mut b.d_log_std, config.grad_clip);
            }
            self.std_adam.step(log_std, &b.d_log_std).map_err(network)?;
        }
        descend(net, &b.d_logits, config.grad_clip, &mut self.actor_adam)?;

        b.d_value.clear();
        let values = critic.forward(&b.obs, n).map_err(network)?;
        for (&row, &value) in rows.iter().zip(values) {
            let (old, target) = (b.values[row as usize], b.returns[row as usize]);
            let (loss, d) = value_loss(config.value_clip, value, old, target);
            sums.value_loss += f64::from(loss);
            b.d_value.push(d * scale);
        }
        descend(critic, &b.d_value, config.grad_clip, &mut self.critic_adam)
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

    /// Numbers that stopped being numbers end the run here, with a name, rather than later as a policy that does nothing.
    fn check(&self, stats: &PpoStats) -> Result<()> {
        let bad = if !stats.policy_loss.is_finite() {
            "policy loss"
        } else if !stats.value_loss.is_finite() {
            "value loss"
        } else if !nets::finite([&self.actor.net, &self.critic]) {
            "a weight"
        } else {
            return Ok(());
        };
        Err(RlError::Diverged { what: bad, iteration: self.iteration })
    }
}

/// What [`policy_loss`] found for one transition.
#[derive(Clone, Copy, Debug)]
struct PolicyTerm {
    surrogate: f32,
    entropy: f32,
    kl: f32,
    clipped: bool,
}

/// The clipped surrogate `−min(ρA, clip(ρ, 1 ± ε)A)` with `ρ = exp(log_ratio)`, and its derivative by `log π(a)`: where
/// the minimum takes the clipped, constant branch there is none.
#[inline]
fn surrogate(clip: f32, log_ratio: f32, advantage: f32) -> (PolicyTerm, f32) {
    let ratio = log_ratio.exp();
    let free = ratio * advantage;
    let held = ratio.clamp(1.0 - clip, 1.0 + clip) * advantage;
    let term = PolicyTerm {
        surrogate: -free.min(held),
        entropy: 0.0,
        kl: ratio - 1.0 - log_ratio,
        clipped: (ratio - 1.0).abs() > clip,
    };
    (term, if free <= held { -free } else { 0.0 })
}

/// Loss of a policy over choices on one transition, surrogate − c·H, and its gradient by the logits. `groups` says how
/// many choices each decision has; log-probabilities and entropies of decisions add up.
///
/// With `∂log π(a)/∂z_j = [j = a] − p_j` and `∂H/∂z_j = −p_j (log p_j + H)`, within each decision; what is masked has
/// neither probability nor gradient.
#[allow(clippy::too_many_arguments)]
#[inline]
fn policy_loss(
    config: &PpoConfig,
    groups: &[u32],
    logits: &[f32],
    mask: &[bool],
    taken: &[u32],
    old_log_prob: f32,
    advantage: f32,
    log_probs: &mut [f32],
    d_logits: &mut [f32],
) -> PolicyTerm {
    let (mut at, mut log_prob) = (0, 0.0);
    for (&n, &action) in groups.iter().zip(taken) {
        let group = at..at + n as usize;
        at = group.end;
        let mask = if mask.is_empty() { mask } else { &mask[group.clone()] };
        categorical::masked_log_softmax(&logits[group.clone()], mask, &mut log_probs[group.clone()]);
        log_prob += log_probs[group.start + action as usize];
    }
    let (mut term, d_log_prob) = surrogate(config.clip, log_prob - old_log_prob, advantage);
    let mut at = 0;
    for (&n, &action) in groups.iter().zip(taken) {
        let group = at..at + n as usize;
        at = group.end;
        let log_probs = &log_probs[group.clone()];
        let entropy = categorical::entropy(log_probs);
        term.entropy += entropy;
        for (j, (d, &log_p)) in d_logits[group].iter_mut().zip(log_probs).enumerate() {
            let p = log_p.exp();
            let chosen = if j == action as usize { 1.0 } else { 0.0 };
            *d = d_log_prob * (chosen - p);
            if p > 0.0 {
                *d += config.entropy * p * (log_p + entropy);
            }
        }
    }
    term
}

/// Loss of a policy of normal distributions on one transition, surrogate − c·H, and its gradient by the means; that by
/// the log deviations is added to `d_log_std`.
///
/// With `z = (a − μ)/σ`: `∂log π(a)/∂μ = z/σ`, `∂log π(a)/∂log σ = z² − 1`, `∂H/∂log σ = 1`.
#[allow(clippy::too_many_arguments)]
fn gaussian_loss(
    config: &PpoConfig,
    mean: &[f32],
    log_std: &[f32],
    drawn: &[f32],
    old_log_prob: f32,
    advantage: f32,
    d_mean: &mut [f32],
    d_log_std: &mut [f32],
) -> PolicyTerm {
    let log_ratio = gaussian::log_prob(drawn, mean, log_std) - old_log_prob;
    let (mut term, d_log_prob) = surrogate(config.clip, log_ratio, advantage);
    term.entropy = gaussian::entropy(log_std);
    let gradients = d_mean.iter_mut().zip(d_log_std);
    for (((&a, &mean), &log_std), (d_mean, d_log_std)) in drawn.iter().zip(mean).zip(log_std).zip(gradients) {
        let inverse = (-log_std).exp();
        let z = (a - mean) * inverse;
        *d_mean = d_log_prob * z * inverse;
        *d_log_std += d_log_prob * (z * z - 1.0) - config.entropy;
    }
    term
}

/// Loss of the value on one transition, `½(v − target)²`, and its derivative; with a clip, the larger of that and the
/// same for `v` held within `old ± clip`.
fn value_loss(clip: Option<f32>, value: f32, old: f32, target: f32) -> (f32, f32) {
    let error = value - target;
    let free = 0.5 * error * error;
    let Some(clip) = clip else { return (free, error) };
    let held_error = value.clamp(old - clip, old + clip) - target;
    let held = 0.5 * held_error * held_error;
    // Inside the range both are the same; outside, the held one is constant.
    if held > free { (held, 0.0) } else { (free, error) }
}

/// To mean 0 and deviation 1.
fn normalize(values: &mut [f32]) {
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = 1.0 / (variance.sqrt() + 1e-8);
    for v in values {
        *v = (*v - mean) * scale;
    }
}

/// Fisher–Yates; `pick(n)` draws below n.
fn shuffle(order: &mut [u32], mut pick: impl FnMut(usize) -> usize) {
    for i in (1..order.len()).rev() {
        order.swap(i, pick(i + 1));
    }
}

/// 1 − Var(returns − values) / Var(returns); 0 where the returns do not vary.
fn explained_variance(values: &[f32], returns: &[f32]) -> f32 {
    let variance = |of: &dyn Fn(usize) -> f64| {
        let n = returns.len() as f64;
        let mean = (0..returns.len()).map(of).sum::<f64>() / n;
        (0..returns.len()).map(|i| (of(i) - mean).powi(2)).sum::<f64>() / n
    };
    let of_returns = variance(&|i| f64::from(returns[i]));
    let of_errors = variance(&|i| f64::from(returns[i]) - f64::from(values[i]));
    if of_returns > 0.0 { (1.0 - of_errors / of_returns) as f32 } else { 0.0 }
}

/// Running sums over transitions, in f64.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rows: f64,
    surrogate: f64,
    value_loss: f64,
    entropy: f64,
    kl: f64,
    clipped: f64,
}

impl Sums {
    #[inline]
    fn policy(&mut self, term: &PolicyTerm) {
        self.rows += 1.0;
        self.surrogate += f64::from(term.surrogate);
        self.entropy += f64::from(term.entropy);
        self.kl += f64::from(term.kl);
        self.clipped += f64::from(u8::from(term.clipped));
    }

    fn stats(&self, epochs: usize, explained_variance: f32) -> PpoStats {
        let mean = |sum: f64| (sum / self.rows) as f32;
        PpoStats {
            policy_loss: mean(self.surrogate),
            value_loss: mean(self.value_loss),
            entropy: mean(self.entropy),
            kl: mean(self.kl),
            clip_fraction: mean(self.clipped),
            explained_variance,
            epochs,
        }
    }
}

#[cfg(test)]
#[path = "ppo_tests.rs"]
mod tests;
