//! Proximal policy optimisation ([Schulman et al. 2017](https://arxiv.org/abs/1707.06347)), top to bottom.
//!
//! Collect `envs × steps` transitions with the current policy; estimate advantages (GAE); for some epochs, walk over
//! the transitions in shuffled minibatches and follow the gradient of a clipped surrogate. Details follow "The 37
//! implementation details of PPO" ([Huang et al. 2022](https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/))
//! and what "What matters in on-policy RL" ([Andrychowicz et al. 2021](https://arxiv.org/abs/2006.05990)) measured:
//! separate tanh networks for policy and value, orthogonal first weights with a small last policy layer, advantages
//! normalised by minibatch. Unlike most, a truncated episode is continued with the value of its final observation.
//!
//! [`PpoLearner`] is pure: a rollout in, new weights and [`PpoStats`] out, no clock, no thread, no file.
//! [`Ppo`](crate::Ppo) drives it.

use air_core::seed::Seed;
use air_train::TrainError;
use air_train::nn::{
    Activation, Adam, Init, Mlp, MlpConfig, Module, Optimizer as _, Scratch, clip_grad_norm,
};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::error::{Result, RlError};
pub use crate::ppo_config::PpoConfig;
use crate::rollout::Rollout;
use crate::{categorical, gae};

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

/// Policy and value network with their optimisers; learns from one rollout at a time.
#[derive(Clone, Debug)]
pub struct PpoLearner {
    config: PpoConfig,
    seed: Seed,
    /// Updates done.
    iteration: u64,
    /// Transitions learned from.
    steps: u64,
    /// Observation → logits of the actions.
    pub(crate) actor: Mlp,
    /// Observation → value.
    pub(crate) critic: Mlp,
    pub(crate) actor_adam: Adam,
    pub(crate) critic_adam: Adam,
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
    d_value: Vec<f32>,
    log_probs: Vec<f32>,
    scratch: Scratch,
}

impl PpoLearner {
    /// Fresh networks for observations of `obs_len` items and `actions` choices; weights follow from `seed`.
    pub fn new(config: &PpoConfig, obs_len: usize, actions: usize, seed: Seed) -> Result<Self> {
        config.validate()?;
        let net = |outputs, output_gain, name| {
            let mut sizes = vec![obs_len];
            sizes.extend(&config.hidden);
            sizes.push(outputs);
            let init = Init::Orthogonal { hidden_gain: 2_f32.sqrt(), output_gain };
            let config = MlpConfig { sizes, hidden: Activation::Tanh, init, ..MlpConfig::default() };
            Mlp::new(&config, seed.child(name, 0)).map_err(network)
        };
        let adam = || Adam::new(config.lr).eps(1e-5);
        Ok(Self {
            config: config.clone(),
            seed,
            iteration: 0,
            steps: 0,
            actor: net(actions, 0.01, "actor")?,
            critic: net(1, 1.0, "critic")?,
            actor_adam: adam(),
            critic_adam: adam(),
            buffers: Buffers::default(),
        })
    }

    /// The policy network: observation → logits.
    pub fn actor(&self) -> &Mlp {
        &self.actor
    }

    /// The value network: observation → value.
    pub fn critic(&self) -> &Mlp {
        &self.critic
    }

    /// The configuration.
    pub fn config(&self) -> &PpoConfig {
        &self.config
    }

    /// Updates done; also the version of the weights.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    /// Counts on from where a saved run stood; shuffling and learning rate depend on these two only.
    pub(crate) fn resume_at(&mut self, iteration: u64, steps: u64) {
        (self.iteration, self.steps) = (iteration, steps);
    }

    /// Learns from one rollout collected with the present policy.
    pub fn update(&mut self, rollout: &Rollout) -> Result<PpoStats> {
        self.iteration += 1;
        self.steps += rollout.rows() as u64;
        self.set_lr();
        self.estimate(rollout)?;
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
        let stats = sums.stats(epochs, explained_variance(&self.buffers.values, &self.buffers.returns));
        self.check(&stats)?;
        Ok(stats)
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

        let choices = actor.outputs();
        b.d_logits.resize(n * choices, 0.0);
        b.log_probs.resize(choices, 0.0);
        let logits = actor.forward(&b.obs, n).map_err(network)?;
        let samples = rows.iter().zip(&b.batch_advantages);
        let gradients = logits.chunks_exact(choices).zip(b.d_logits.chunks_exact_mut(choices));
        for ((&row, &advantage), (logits, d)) in samples.zip(gradients) {
            let (action, old) = (rollout.action[row as usize] as usize, rollout.log_prob[row as usize]);
            sums.policy(&policy_loss(config, logits, action, old, advantage, &mut b.log_probs, d));
            for d in d {
                *d *= scale;
            }
        }
        descend(actor, &b.d_logits, config.grad_clip, &mut self.actor_adam)?;

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
        self.critic_adam.set_lr(lr);
    }

    /// Numbers that stopped being numbers end the run here, with a name, rather than later as a policy that does nothing.
    fn check(&self, stats: &PpoStats) -> Result<()> {
        let bad = if !stats.policy_loss.is_finite() {
            "policy loss"
        } else if !stats.value_loss.is_finite() {
            "value loss"
        } else if !self.actor.params().iter().chain(self.critic.params()).all(|w| w.is_finite()) {
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

/// Loss of the policy on one transition, `−min(ρA, clip(ρ, 1 ± ε)A) − c·H` with `ρ = π(a)/π_old(a)`, and its gradient
/// by the logits.
///
/// With `∂log π(a)/∂z_j = [j = a] − p_j` and `∂H/∂z_j = −p_j (log p_j + H)`; where the minimum takes the clipped,
/// constant branch, the surrogate has no gradient.
fn policy_loss(
    config: &PpoConfig,
    logits: &[f32],
    action: usize,
    old_log_prob: f32,
    advantage: f32,
    log_probs: &mut [f32],
    d_logits: &mut [f32],
) -> PolicyTerm {
    categorical::log_softmax(logits, log_probs);
    let entropy = categorical::entropy(log_probs);
    let log_ratio = log_probs[action] - old_log_prob;
    let ratio = log_ratio.exp();
    let free = ratio * advantage;
    let held = ratio.clamp(1.0 - config.clip, 1.0 + config.clip) * advantage;
    let d_log_prob = if free <= held { -free } else { 0.0 };
    for (j, (d, log_p)) in d_logits.iter_mut().zip(log_probs.iter()).enumerate() {
        let p = log_p.exp();
        let chosen = if j == action { 1.0 } else { 0.0 };
        *d = d_log_prob * (chosen - p) + config.entropy * p * (log_p + entropy);
    }
    PolicyTerm {
        surrogate: -free.min(held),
        entropy,
        kl: ratio - 1.0 - log_ratio,
        clipped: (ratio - 1.0).abs() > config.clip,
    }
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

fn descend(net: &mut Mlp, d_out: &[f32], grad_clip: f32, adam: &mut Adam) -> Result<()> {
    net.backward_from_zero(d_out).map_err(network)?;
    if grad_clip > 0.0 {
        clip_grad_norm(net.grads_mut(), grad_clip);
    }
    let (params, grads) = net.params_and_grads();
    adam.step(params, grads).map_err(network)
}

fn network(error: TrainError) -> RlError {
    RlError::Network(Box::new(error))
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
