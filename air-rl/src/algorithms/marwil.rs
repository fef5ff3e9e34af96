//! Monotonic advantage re-weighted imitation learning ([Wang et al. 2018](https://papers.nips.cc/paper/7866)), top to bottom.
//!
//! Imitate what was recorded, and the more so the better it went: each step weighs `exp(β A / c)`, with A the return that
//! followed less what a value network expected, and c the running deviation of A. With β = 0 it is behaviour cloning.

use std::fmt;

use air_core::seed::Seed;
use air_train::nn::{Adam, Mlp};
use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::learn::imitate::Imitator;
use crate::learn::nets::{self, descend, network};
use crate::learn::offline_data::Dataset;
use crate::play::actor::Actor;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::{Figures, Settings};
use crate::train::offline::{Drawing, OfflineLearner, OfflineSettings};

/// No step weighs more than this.
const MAX_WEIGHT: f32 = 20.0;

/// Everything MARWIL can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarwilConfig {
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
    /// How much better steps weigh more; 0 imitates all alike.
    pub beta: f32,
}

impl Default for MarwilConfig {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            lr: 1e-3,
            batch: 128,
            updates: 200,
            evaluate_episodes: 10,
            gamma: 0.99,
            beta: 1.0,
        }
    }
}

impl Settings for MarwilConfig {
    fn validate(&self) -> Result<()> {
        Check::unit("gamma", self.gamma)?;
        Check::at("beta", self.beta >= 0.0 && self.beta.is_finite(), "must not be negative")?;
        Check::recorded(&self.hidden, self.lr, self.batch, self.updates, self.evaluate_episodes)
    }
}

impl OfflineSettings for MarwilConfig {
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
pub struct MarwilStats {
    /// Weighted mean −log π of what was recorded.
    pub loss: f32,
    /// Half the squared error of the value.
    pub value_loss: f32,
}

impl Figures for MarwilStats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.loss, &mut self.value_loss].into_iter()
    }
}

impl fmt::Display for MarwilStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}  value loss {:.4}", self.loss, self.value_loss)
    }
}

/// A policy that imitates what went well, and the value network that knows what did.
#[derive(Clone, Debug)]
pub struct MarwilLearner {
    config: MarwilConfig,
    policy: Imitator,
    value: Mlp,
    adam: Adam,
    /// c², the running mean of squared advantages; 0 before the first.
    square: f32,
    weights: Vec<f32>,
    obs: Vec<f32>,
    d_value: Vec<f32>,
}

impl OfflineLearner for MarwilLearner {
    type Config = MarwilConfig;
    type Stats = MarwilStats;

    const NAME: &'static str = "marwil";

    fn new(config: &MarwilConfig, task: &Task, seed: Seed) -> Result<Self> {
        Ok(Self {
            policy: Imitator::new(task, &config.hidden, config.lr, seed.child("actor", 0))?,
            value: nets::relu(task.inputs(), &config.hidden, 1, seed.child("value", 0))?,
            adam: Adam::new(config.lr),
            config: config.clone(),
            square: 0.0,
            weights: Vec::new(),
            obs: Vec::new(),
            d_value: Vec::new(),
        })
    }

    fn policy(&self) -> Actor {
        self.policy.actor.greedy()
    }

    fn learn(&mut self, data: &Dataset, rows: &[usize]) -> Result<MarwilStats> {
        let value_loss = self.weigh(data, rows)?;
        Ok(MarwilStats { loss: self.policy.fit(data, rows, &self.weights)?, value_loss })
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        self.policy.state(state)?;
        state.network("value", &mut self.value)?;
        let mut rest = (self.square, self.adam.clone());
        state.value("learner", &mut rest)?;
        (self.square, self.adam) = rest;
        Ok(())
    }
}

impl MarwilLearner {
    /// Weighs the batch's steps by their advantages, then moves the values towards the returns; returns their loss.
    fn weigh(&mut self, data: &Dataset, rows: &[usize]) -> Result<f32> {
        let Self { config, value, adam, weights, obs, d_value, .. } = self;
        let scale = 1.0 / rows.len() as f32;
        data.transitions.gather(rows, obs);
        d_value.clear();
        let values = value.forward(obs, rows.len()).map_err(network)?;
        d_value.extend(rows.iter().zip(values).map(|(&row, value)| value - data.returns[row]));
        let square = d_value.iter().map(|a| a * a).sum::<f32>() * scale;
        self.square = if self.square == 0.0 { square } else { 0.99 * self.square + 0.01 * square };
        let c = self.square.sqrt().max(1e-6);
        weights.clear();
        weights.extend(d_value.iter().map(|d| (config.beta * -d / c).exp().min(MAX_WEIGHT)));
        for d in &mut *d_value {
            *d *= scale;
        }
        descend(value, d_value, 0.0, adam)?;
        Ok(0.5 * square)
    }
}
