//! What IMPALA and APPO can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::learn::policy_loss::{Objective, PolicyLoss};
use crate::learn::vtrace::Vtrace;
use crate::play::sampler::Sampling;
use crate::train::learner::Settings;

/// Everything IMPALA can be told. The defaults learn CartPole-v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImpalaConfig {
    /// Environments stepped side by side, over all runners.
    pub envs: usize,
    /// Steps of each environment in a rollout.
    pub steps: usize,
    /// Runners the environments are divided among; with `parallel`, what one of them has played is a batch.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own, which plays on while the learner learns. Results then depend on
    /// timing. Off, playing and learning take turns on the calling thread and a run repeats to the bit.
    pub parallel: bool,
    /// Units of the hidden layers, of policy and value network alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// λ of V-trace: 1 is the published trace, less trusts the critic more.
    pub lambda: f32,
    /// ρ̄ of V-trace: probability ratios above it count as much.
    pub rho_bar: f32,
    /// Weight of the entropy bonus.
    pub entropy: f32,
    /// Transitions in a minibatch; the last may be smaller.
    pub minibatch: usize,
    /// Limit on the norm of each network's gradient; 0 means none.
    pub grad_clip: f32,
    /// Log standard deviation that continuous actions begin with, in units of the action.
    pub log_std: f32,
}

impl Default for ImpalaConfig {
    fn default() -> Self {
        Self {
            envs: 8,
            steps: 32,
            runners: 2,
            parallel: true,
            hidden: vec![32, 32],
            lr: 1e-3,
            gamma: 0.98,
            lambda: 0.95,
            rho_bar: 1.0,
            entropy: 0.005,
            minibatch: 64,
            grad_clip: 0.5,
            log_std: 0.0,
        }
    }
}

impl Settings for ImpalaConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::unit("lambda", self.lambda)?;
        Check::positive("rho_bar", self.rho_bar)?;
        Check::at("entropy", self.entropy >= 0.0 && self.entropy.is_finite(), "must not be negative")?;
        Check::at("minibatch", self.minibatch > 0, "must be at least 1")?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::at("log_std", self.log_std.abs() <= 20.0, "must be within ±20")
    }
}

/// Everything APPO can be told. The defaults learn CartPole-v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppoConfig {
    /// Environments stepped side by side, over all runners.
    pub envs: usize,
    /// Steps of each environment in a rollout.
    pub steps: usize,
    /// Runners the environments are divided among; with `parallel`, what one of them has played is a batch.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own, which plays on while the learner learns. Results then depend on
    /// timing. Off, playing and learning take turns on the calling thread and a run repeats to the bit.
    pub parallel: bool,
    /// Units of the hidden layers, of policy and value network alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// λ of V-trace: 1 is the published trace, less trusts the critic more.
    pub lambda: f32,
    /// ρ̄ of V-trace: probability ratios above it count as much.
    pub rho_bar: f32,
    /// The probability ratio to the policy that played may gain within 1 ± this.
    pub clip: f32,
    /// Passes over a rollout.
    pub epochs: usize,
    /// Weight of the entropy bonus.
    pub entropy: f32,
    /// Transitions in a minibatch; the last may be smaller.
    pub minibatch: usize,
    /// Limit on the norm of each network's gradient; 0 means none.
    pub grad_clip: f32,
    /// Log standard deviation that continuous actions begin with, in units of the action.
    pub log_std: f32,
}

impl Default for AppoConfig {
    fn default() -> Self {
        Self {
            envs: 8,
            steps: 32,
            runners: 2,
            parallel: true,
            hidden: vec![32, 32],
            lr: 3e-3,
            gamma: 0.98,
            lambda: 0.95,
            rho_bar: 1.0,
            clip: 0.2,
            epochs: 2,
            entropy: 0.0,
            minibatch: 32,
            grad_clip: 0.5,
            log_std: 0.0,
        }
    }
}

impl Settings for AppoConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::unit("lambda", self.lambda)?;
        Check::positive("rho_bar", self.rho_bar)?;
        Check::positive("clip", self.clip)?;
        Check::at("epochs", self.epochs > 0, "must be at least 1")?;
        Check::at("entropy", self.entropy >= 0.0 && self.entropy.is_finite(), "must not be negative")?;
        Check::at("minibatch", self.minibatch > 0, "must be at least 1")?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::at("log_std", self.log_std.abs() <= 20.0, "must be within ±20")
    }
}

/// What both are told, in the learner's terms.
pub trait Traced: Settings {
    /// The algorithm's name on the command line.
    const NAME: &'static str;

    /// Units of the hidden layers.
    fn hidden(&self) -> &[usize];

    /// Everything else.
    fn terms(&self) -> Terms;
}

/// See [`Traced`].
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub(crate) sampling: Sampling,
    pub(crate) lr: f32,
    pub(crate) vtrace: Vtrace,
    pub(crate) loss: PolicyLoss,
    pub(crate) normalize_advantages: bool,
    pub(crate) epochs: usize,
    pub(crate) minibatch: usize,
    pub(crate) grad_clip: f32,
    pub(crate) log_std: f32,
}

impl Traced for ImpalaConfig {
    const NAME: &'static str = "impala";

    fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    fn terms(&self) -> Terms {
        let &Self { envs, steps, runners, parallel, lr, gamma, lambda, rho_bar, entropy, .. } = self;
        Terms {
            sampling: Sampling { envs, steps, runners, parallel },
            lr,
            vtrace: Vtrace { gamma, lambda, rho_bar },
            loss: PolicyLoss { objective: Objective::Weighted(rho_bar), entropy },
            normalize_advantages: false,
            epochs: 1,
            minibatch: self.minibatch,
            grad_clip: self.grad_clip,
            log_std: self.log_std,
        }
    }
}

impl Traced for AppoConfig {
    const NAME: &'static str = "appo";

    fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    fn terms(&self) -> Terms {
        let &Self { envs, steps, runners, parallel, lr, gamma, lambda, rho_bar, entropy, .. } = self;
        Terms {
            sampling: Sampling { envs, steps, runners, parallel },
            lr,
            vtrace: Vtrace { gamma, lambda, rho_bar },
            loss: PolicyLoss { objective: Objective::Clipped(self.clip), entropy },
            normalize_advantages: true,
            epochs: self.epochs,
            minibatch: self.minibatch,
            grad_clip: self.grad_clip,
            log_std: self.log_std,
        }
    }
}
