//! What recurrent PPO can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::train::learner::Settings;

/// Everything recurrent PPO can be told. The defaults learn Recall.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecurrentPpoConfig {
    /// Environments stepped side by side, over all runners.
    pub envs: usize,
    /// Steps of each environment an iteration; also how far back gradients go, at most.
    pub steps: usize,
    /// Runners the environments are divided among. Results do not depend on it.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own. Results do not depend on it.
    pub parallel: bool,
    /// Gated recurrent units that observations reach policy and value network through; each has its own.
    pub units: usize,
    /// Units of the hidden layers that follow, of policy and value network alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// λ of generalised advantage estimation: 0 trusts the critic, 1 the returns.
    pub lambda: f32,
    /// The probability ratio may gain within 1 ± this.
    pub clip: f32,
    /// The value may gain within the old one ± this. None: no such limit.
    pub value_clip: Option<f32>,
    /// Weight of the entropy bonus.
    pub entropy: f32,
    /// Passes over a batch.
    pub epochs: usize,
    /// Environments whose steps make a minibatch; the last of an epoch may have fewer.
    pub sequences: usize,
    /// Limit on the norm of each network's gradient; 0 means none.
    pub grad_clip: f32,
    /// Log standard deviation that continuous actions begin with, in units of the action.
    pub log_std: f32,
}

impl Default for RecurrentPpoConfig {
    fn default() -> Self {
        Self {
            envs: 16,
            steps: 64,
            runners: 1,
            parallel: false,
            units: 32,
            hidden: vec![32],
            lr: 3e-3,
            gamma: 0.98,
            lambda: 0.95,
            clip: 0.2,
            value_clip: None,
            entropy: 0.0,
            epochs: 4,
            sequences: 4,
            grad_clip: 0.5,
            log_std: 0.0,
        }
    }
}

impl Settings for RecurrentPpoConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::at("units", (1..=8192).contains(&self.units), "must be between 1 and 8192")?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::unit("lambda", self.lambda)?;
        Check::positive("clip", self.clip)?;
        Check::positive("value_clip", self.value_clip.unwrap_or(1.0))?;
        Check::at("entropy", self.entropy >= 0.0 && self.entropy.is_finite(), "must not be negative")?;
        Check::at("epochs", self.epochs > 0, "must be at least 1")?;
        Check::at("sequences", self.sequences > 0, "must be at least 1")?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::at("log_std", self.log_std.abs() <= 20.0, "must be within ±20")
    }
}
