//! What PPO can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::train::learner::Settings;

/// Everything PPO can be told. The defaults learn CartPole-v1 in about 80 000 steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // switches, which is what they are in a file of settings
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// Environments stepped side by side, over all runners. More give less correlated batches.
    pub envs: usize,
    /// Steps of each environment an iteration; a batch is `envs × steps` transitions.
    pub steps: usize,
    /// Runners the environments are divided among. Results do not depend on it.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own. Off, all take turns on the calling thread: faster where
    /// a step takes microseconds, and on two cores or fewer. Results do not depend on it.
    pub parallel: bool,
    /// Threads that learn: with two, policy and value network learn at the same time. Results do not depend on it.
    pub threads: usize,
    /// Convolutions before the hidden layers, for observations that are images (planes, rows, columns): filters, kernel and
    /// stride of each, without padding, with ReLU throughout the network. Empty: what is observed is seen flat.
    pub conv: Vec<[usize; 3]>,
    /// Units of the hidden layers, of policy and value network alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Environment steps over which the learning rate falls linearly to a tenth; 0 keeps it.
    pub lr_decay_steps: u64,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// λ of generalised advantage estimation: 0 trusts the critic, 1 the returns.
    pub lambda: f32,
    /// The probability ratio may gain within 1 ± this.
    pub clip: f32,
    /// The value may gain within the old one ± this. None: no such limit (Andrychowicz et al. found none best).
    pub value_clip: Option<f32>,
    /// Weight of the entropy bonus.
    pub entropy: f32,
    /// Passes over a batch.
    pub epochs: usize,
    /// Transitions in a minibatch; the last of an epoch may be smaller.
    pub minibatch: usize,
    /// Limit on the norm of each network's gradient; 0 means none.
    pub grad_clip: f32,
    /// Stops an iteration's epochs once the policy has moved this far (KL divergence, nats). None: all epochs.
    pub target_kl: Option<f32>,
    /// Log standard deviation that continuous actions begin with, in units of the action.
    pub log_std: f32,
    /// Bring observations to mean 0 and deviation 1 by what has been seen; kept in the checkpoint with the policy.
    pub normalize_observations: bool,
    /// Divide rewards by the deviation of the discounted return, as seen so far.
    pub normalize_rewards: bool,
    /// Normalise advantages within a minibatch to mean 0, deviation 1.
    pub normalize_advantages: bool,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            envs: 8,
            steps: 64,
            runners: 1,
            parallel: false,
            threads: 1,
            conv: Vec::new(),
            hidden: vec![32, 32],
            lr: 3e-3,
            lr_decay_steps: 0,
            gamma: 0.98,
            lambda: 0.95,
            clip: 0.2,
            value_clip: None,
            entropy: 0.0,
            epochs: 2,
            minibatch: 32,
            grad_clip: 0.5,
            target_kl: None,
            log_std: 0.0,
            normalize_observations: false,
            normalize_rewards: false,
            normalize_advantages: true,
        }
    }
}

impl Settings for PpoConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::conv(&self.conv)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::at("threads", (1..=256).contains(&self.threads), "must be between 1 and 256")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::unit("lambda", self.lambda)?;
        Check::positive("clip", self.clip)?;
        Check::positive("value_clip", self.value_clip.unwrap_or(1.0))?;
        Check::at("entropy", self.entropy >= 0.0 && self.entropy.is_finite(), "must not be negative")?;
        Check::at("epochs", self.epochs > 0, "must be at least 1")?;
        Check::at("minibatch", self.minibatch > 0, "must be at least 1")?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::at("log_std", self.log_std.abs() <= 20.0, "must be within ±20")?;
        Check::positive("target_kl", self.target_kl.unwrap_or(1.0))
    }
}
