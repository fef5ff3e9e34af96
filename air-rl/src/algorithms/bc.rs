//! Behaviour cloning ([Pomerleau 1989](https://papers.nips.cc/paper/95)), top to bottom: make what was recorded likely.

use std::fmt;

use air_core::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::learn::imitate::Imitator;
use crate::learn::offline_data::Dataset;
use crate::play::actor::Actor;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::{Figures, Settings};
use crate::train::offline::{Drawing, OfflineLearner, OfflineSettings};

/// Everything behaviour cloning can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BcConfig {
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
}

impl Default for BcConfig {
    fn default() -> Self {
        Self { hidden: vec![64, 64], lr: 1e-3, batch: 128, updates: 200, evaluate_episodes: 10 }
    }
}

impl Settings for BcConfig {
    fn validate(&self) -> Result<()> {
        Check::recorded(&self.hidden, self.lr, self.batch, self.updates, self.evaluate_episodes)
    }
}

impl OfflineSettings for BcConfig {
    fn gamma(&self) -> f32 {
        1.0
    }

    fn drawing(&self) -> Drawing {
        let &Self { batch, updates, evaluate_episodes, .. } = self;
        Drawing { batch, updates, evaluate_episodes }
    }
}

/// What a gradient step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BcStats {
    /// Mean −log π of what was recorded.
    pub loss: f32,
}

impl Figures for BcStats {
    fn figures(&mut self) -> impl Iterator<Item = &mut f32> {
        [&mut self.loss].into_iter()
    }
}

impl fmt::Display for BcStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)
    }
}

/// A policy that imitates.
#[derive(Clone, Debug)]
pub struct BcLearner {
    policy: Imitator,
    weights: Vec<f32>,
}

impl OfflineLearner for BcLearner {
    type Config = BcConfig;
    type Stats = BcStats;

    const NAME: &'static str = "bc";

    fn new(config: &BcConfig, task: &Task, seed: Seed) -> Result<Self> {
        Ok(Self {
            policy: Imitator::new(task, &config.hidden, config.lr, seed.child("actor", 0))?,
            weights: Vec::new(),
        })
    }

    fn policy(&self) -> Actor {
        self.policy.actor.greedy()
    }

    fn learn(&mut self, data: &Dataset, rows: &[usize]) -> Result<BcStats> {
        self.weights.resize(rows.len(), 1.0);
        Ok(BcStats { loss: self.policy.fit(data, rows, &self.weights)? })
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        self.policy.state(state)
    }
}
