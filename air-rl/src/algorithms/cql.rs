//! Conservative Q-learning ([Kumar et al. 2020](https://arxiv.org/abs/2006.04779)) over discrete actions, top to bottom.
//!
//! Double Q-learning on what was recorded, plus `α (log Σ exp Q(s, ·) − Q(s, a))`: actions that nobody has tried are
//! valued low instead of by wishful thinking.

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Adam, Mlp, Module as _, Scratch};
use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::learn::categorical;
use crate::learn::nets::{self, descend, network, polyak};
use crate::learn::offline_data::Dataset;
use crate::learn::values::ValueHead;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::{Figures, Settings};
use crate::train::offline::{Drawing, OfflineLearner, OfflineSettings};

/// Everything CQL can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CqlConfig {
    /// Units of the hidden layers, of all networks alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Transitions in a batch.
    pub batch: usize,
    /// Gradient steps in an iteration.
    pub updates: usize,
    /// Episodes played after each iteration, to see how good the policy is; nothing is learned from them.
    pub evaluate_episodes: u64,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// How conservative: weight of what holds untried actions down. 0 is plain Q-learning.
    pub alpha: f32,
    /// How far the target network follows after each gradient step (Polyak averaging).
    pub tau: f32,
}

impl Default for CqlConfig {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            lr: 1e-3,
            batch: 128,
            updates: 200,
            evaluate_episodes: 10,
            gamma: 0.99,
            alpha: 1.0,
            tau: 0.01,
        }
    }
}

impl Settings for CqlConfig {
    fn validate(&self) -> Result<()> {
        Check::unit("gamma", self.gamma)?;
        Check::at("alpha", self.alpha >= 0.0 && self.alpha.is_finite(), "must not be negative")?;
        Check::unit("tau", self.tau)?;
        Check::recorded(&self.hidden, self.lr, self.batch, self.updates, self.evaluate_episodes)
    }
}

impl OfflineSettings for CqlConfig {
    fn gamma(&self) -> f32 {
        self.gamma
    }

    fn drawing(&self) -> Drawing {
        let &Self { batch, updates, evaluate_episodes, .. } = self;
        Drawing { batch, updates, evaluate_episodes }
    }
}

/// What a gradient step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CqlStats {
    /// Huber loss of the values.
    pub loss: f32,
    /// What the conservative term is, before its weight.
    pub gap: f32,
    /// Value of the recorded actions.
    pub value: f32,
}

impl Figures for CqlStats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.loss, &mut self.gap, &mut self.value].into_iter()
    }
}

impl fmt::Display for CqlStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}  gap {:.3}  value {:.2}", self.loss, self.gap, self.value)
    }
}

/// A Q-network and the target that follows it.
#[derive(Clone, Debug)]
pub struct CqlLearner {
    config: CqlConfig,
    choices: usize,
    actor: Actor,
    target: Mlp,
    adam: Adam,
    buffers: Buffers,
}

/// Working memory, kept between updates.
#[derive(Clone, Debug, Default)]
struct Buffers {
    obs: Vec<f32>,
    next_obs: Vec<f32>,
    best: Vec<usize>,
    d_out: Vec<f32>,
    targets: Vec<f32>,
    log_probs: Vec<f32>,
    scratch: Scratch,
}

impl OfflineLearner for CqlLearner {
    type Config = CqlConfig;
    type Stats = CqlStats;

    const NAME: &'static str = "cql";

    fn new(config: &CqlConfig, task: &Task, seed: Seed) -> Result<Self> {
        let choices = task.discrete("CQL")?;
        let net = nets::relu(task.inputs(), &config.hidden, choices, seed.child("values", 0))?;
        let head = Head::Values(ValueHead { duelling: false, support: None });
        Ok(Self {
            config: config.clone(),
            choices,
            target: net.clone(),
            actor: Actor::new(net, head, task.action_space.clone(), Explore::Never)?,
            adam: Adam::new(config.lr),
            buffers: Buffers::default(),
        })
    }

    fn policy(&self) -> Actor {
        self.actor.greedy()
    }

    fn learn(&mut self, data: &Dataset, rows: &[usize]) -> Result<CqlStats> {
        let Self { config, actor, target, adam, choices, buffers: b, .. } = self;
        let (n, k, steps) = (rows.len(), *choices, &data.transitions);
        steps.gather(rows, &mut b.obs);
        steps.gather_next(rows, &mut b.next_obs);
        b.best.clear();
        let outputs = actor.net.infer(&b.next_obs, n, &mut b.scratch).map_err(network)?;
        b.best.extend(outputs.chunks_exact(k).map(categorical::mode));
        b.targets.clear();
        let outputs = target.infer(&b.next_obs, n, &mut b.scratch).map_err(network)?;
        for ((values, &best), &row) in outputs.chunks_exact(k).zip(&b.best).zip(rows) {
            b.targets.push(steps.reward[row] + steps.discount[row] * values[best]);
        }
        b.d_out.resize(n * k, 0.0);
        b.log_probs.resize(k, 0.0);
        let outputs = actor.net.forward(&b.obs, n).map_err(network)?;
        let gradients = outputs.chunks_exact(k).zip(b.d_out.chunks_exact_mut(k));
        let (mut stats, scale) = (CqlStats::default(), 1.0 / n as f32);
        for (((values, d), &target), &row) in gradients.zip(&b.targets).zip(rows) {
            let taken = steps.action.choices[row] as usize;
            let (loss, gap) = conservative_loss(config.alpha, values, taken, target, &mut b.log_probs, d);
            stats.loss += loss * scale;
            stats.gap += gap * scale;
            stats.value += values[taken] * scale;
            for d in d {
                *d *= scale;
            }
        }
        descend(&mut actor.net, &b.d_out, 10.0, adam)?;
        polyak(target.params_mut(), actor.net.params(), config.tau);
        Ok(stats)
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        state.network("target", &mut self.target)?;
        state.value("learner", &mut self.adam)
    }
}

/// Huber loss of Q(s, a) against its target, the gap `log Σ exp Q − Q(a)`, and the gradient of `loss + α gap`:
/// `∂gap/∂Q_j = softmax_j − [j = a]`.
fn conservative_loss(
    alpha: f32,
    values: &[f32],
    taken: usize,
    target: f32,
    log_probs: &mut [f32],
    d: &mut [f32],
) -> (f32, f32) {
    categorical::log_softmax(values, log_probs);
    for (d, log_p) in d.iter_mut().zip(&*log_probs) {
        *d = alpha * log_p.exp();
    }
    let error = values[taken] - target;
    d[taken] += error.clamp(-1.0, 1.0) - alpha;
    let huber = if error.abs() <= 1.0 { 0.5 * error * error } else { error.abs() - 0.5 };
    (huber, -log_probs[taken])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_gradient_equals_finite_differences(
            values in proptest::collection::vec(-2.0_f32..2.0, 4),
            taken in 0_usize..4,
            target in -4.0_f32..4.0,
            alpha in 0.0_f32..2.0,
        ) {
            let loss = |values: &[f32]| {
                let (loss, gap) = conservative_loss(alpha, values, taken, target, &mut [0.0; 4], &mut [0.0; 4]);
                loss + alpha * gap
            };
            let mut d = [0.0; 4];
            conservative_loss(alpha, &values, taken, target, &mut [0.0; 4], &mut d);
            for j in 0..4 {
                let (mut up, mut down) = (values.clone(), values.clone());
                up[j] += 5e-3;
                down[j] -= 5e-3;
                prop_assert!((d[j] - (loss(&up) - loss(&down)) / 1e-2).abs() < 1e-2);
            }
        }
    }
}
