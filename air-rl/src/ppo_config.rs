//! What PPO can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Result, RlError};

/// Everything PPO can be told. The defaults learn CartPole-v1 in about 80 000 steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            normalize_advantages: true,
        }
    }
}

impl PpoConfig {
    /// The first setting out of its range, as an error.
    pub fn validate(&self) -> Result<()> {
        let check = |field, ok: bool, why: &str| {
            if ok { Ok(()) } else { Err(RlError::Config { field, why: why.into() }) }
        };
        let unit = |x: f32| (0.0..=1.0).contains(&x);
        let positive = |x: f32| x > 0.0 && x.is_finite();
        check("envs", (1..=1 << 16).contains(&self.envs), "must be between 1 and 65536")?;
        check("steps", (1..=1 << 20).contains(&self.steps), "must be between 1 and 1048576")?;
        check(
            "envs",
            self.envs.saturating_mul(self.steps) <= 1 << 26,
            "times steps must be at most 67108864",
        )?;
        check("runners", (1..=self.envs).contains(&self.runners), "must be between 1 and envs")?;
        check("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        check("lr", positive(self.lr), "must be positive")?;
        check("gamma", unit(self.gamma), "must be between 0 and 1")?;
        check("lambda", unit(self.lambda), "must be between 0 and 1")?;
        check("clip", positive(self.clip), "must be positive")?;
        check("value_clip", self.value_clip.is_none_or(positive), "must be positive")?;
        check("entropy", self.entropy >= 0.0 && self.entropy.is_finite(), "must not be negative")?;
        check("epochs", self.epochs > 0, "must be at least 1")?;
        check("minibatch", self.minibatch > 0, "must be at least 1")?;
        check("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        check("target_kl", self.target_kl.is_none_or(positive), "must be positive")
    }
}
