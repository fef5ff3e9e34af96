//! What PQN can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::train::learner::Settings;

/// Everything PQN can be told. The defaults learn CartPole-v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PqnConfig {
    /// Environments stepped side by side, over all runners. They stand in for a replay buffer: take many.
    pub envs: usize,
    /// Steps of each environment an iteration; a batch is `envs × steps` transitions.
    pub steps: usize,
    /// Runners the environments are divided among. Results do not depend on it.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own. Results do not depend on it.
    pub parallel: bool,
    /// Convolutions before the hidden layers, for observations that are images (planes, rows, columns): filters, kernel and
    /// stride of each, without padding, with ReLU throughout the network. Empty: what is observed is seen flat.
    pub conv: Vec<[usize; 3]>,
    /// Units of the hidden layers.
    pub hidden: Vec<usize>,
    /// Normalise each hidden layer before its activation. Without it, values may diverge: there is no target network.
    pub layer_norm: bool,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Environment steps over which the learning rate falls linearly to a tenth; 0 keeps it.
    pub lr_decay_steps: u64,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// λ of the returns: 0 looks one step ahead, 1 to the end of the rollout.
    pub lambda: f32,
    /// Passes over a batch.
    pub epochs: usize,
    /// Transitions in a minibatch; the last of an epoch may be smaller.
    pub minibatch: usize,
    /// Limit on the norm of the gradient; 0 means none.
    pub grad_clip: f32,
    /// Chance of a random action at the start.
    pub epsilon_start: f32,
    /// Chance of a random action in the end.
    pub epsilon_end: f32,
    /// Environment steps over which it falls.
    pub epsilon_steps: u64,
}

impl Default for PqnConfig {
    fn default() -> Self {
        Self {
            envs: 32,
            steps: 32,
            runners: 1,
            parallel: false,
            conv: Vec::new(),
            hidden: vec![64, 64],
            layer_norm: true,
            lr: 1e-3,
            lr_decay_steps: 0,
            gamma: 0.99,
            lambda: 0.95,
            epochs: 2,
            minibatch: 128,
            grad_clip: 10.0,
            epsilon_start: 1.0,
            epsilon_end: 0.02,
            epsilon_steps: 50_000,
        }
    }
}

impl Settings for PqnConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::conv(&self.conv)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::unit("lambda", self.lambda)?;
        Check::at("epochs", self.epochs > 0, "must be at least 1")?;
        Check::at("minibatch", self.minibatch > 0, "must be at least 1")?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::unit("epsilon_start", self.epsilon_start)?;
        Check::unit("epsilon_end", self.epsilon_end)
    }
}
