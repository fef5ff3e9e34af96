//! Behaviour cloning ([Pomerleau 1989](https://papers.nips.cc/paper/95)), top to bottom: make what was recorded likely.

use std::fmt;

use air_core::seed::Seed;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::checkpoint::State;
use crate::error::{Check, Result, RlError};
use crate::imitate::Imitator;
use crate::learner::Settings;
use crate::offline::{OfflineLearner, OfflineSettings};
use crate::offline_data::Dataset;
use crate::task::Task;

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

    fn transitions(&self) -> u64 {
        (self.updates as u64) * (self.batch as u64)
    }

    fn evaluate_episodes(&self) -> u64 {
        self.evaluate_episodes
    }
}

/// What an iteration did, means over its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BcStats {
    /// Mean −log π of what was recorded.
    pub loss: f32,
}

impl fmt::Display for BcStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)
    }
}

/// A policy that imitates.
#[derive(Clone, Debug)]
pub struct BcLearner {
    config: BcConfig,
    seed: Seed,
    iteration: u64,
    policy: Imitator,
    rows: Vec<usize>,
    weights: Vec<f32>,
}

impl OfflineLearner for BcLearner {
    type Config = BcConfig;
    type Stats = BcStats;

    const NAME: &'static str = "bc";

    fn new(config: &BcConfig, task: &Task, seed: Seed) -> Result<Self> {
        Ok(Self {
            policy: Imitator::new(task, &config.hidden, config.lr, seed.child("actor", 0))?,
            config: config.clone(),
            seed,
            iteration: 0,
            rows: Vec::new(),
            weights: vec![1.0; config.batch],
        })
    }

    fn config(&self) -> &Self::Config {
        &self.config
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn policy(&self) -> Actor {
        self.policy.actor.greedy()
    }

    fn update(&mut self, data: &Dataset) -> Result<BcStats> {
        self.iteration += 1;
        let mut rng = self.seed.child("update", self.iteration).rng();
        let mut loss = 0.0;
        for _ in 0..self.config.updates {
            self.rows.clear();
            self.rows.extend((0..self.config.batch).map(|_| rng.random_range(0..data.len())));
            loss += self.policy.fit(data, &self.rows, &self.weights)? / self.config.updates as f32;
        }
        if !loss.is_finite() {
            return Err(RlError::Diverged { what: "loss", iteration: self.iteration });
        }
        Ok(BcStats { loss })
    }

    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        self.policy.state(state)?;
        state.value("learner", &mut self.iteration)
    }
}
