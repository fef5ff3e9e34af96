//! What TD3 can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::play::sampler::Sampling;
use crate::train::learner::Settings;
use crate::train::off_policy::{ReplaySettings, Replaying};

/// Everything TD3 can be told. The defaults learn Pendulum-v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Td3Config {
    /// Environments stepped side by side, over all runners.
    pub envs: usize,
    /// Steps of each environment between two rounds of updates.
    pub steps: usize,
    /// Runners the environments are divided among. Results do not depend on it.
    pub runners: usize,
    /// Give each runner a supervised worker thread of its own. Results do not depend on it.
    pub parallel: bool,
    /// Units of the hidden layers, of policy and critics alike.
    pub hidden: Vec<usize>,
    /// Learning rate of Adam, of the policy.
    pub lr: f32,
    /// Learning rate of Adam, of the critics.
    pub critic_lr: f32,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// Transitions in a batch.
    pub batch: usize,
    /// Gradient steps in a round of updates.
    pub updates: usize,
    /// Gradient steps of the critics for one of the policy and of the targets.
    pub policy_delay: usize,
    /// Transitions kept for replay; the oldest make room.
    pub capacity: usize,
    /// Save them in checkpoints, too, so that a run that goes on learns at once instead of filling a buffer anew.
    pub save_replay: bool,
    /// Transitions before the first update; until then actions are drawn evenly.
    pub learning_starts: usize,
    /// Steps of reward before the next state's value.
    pub n_step: usize,
    /// How far the targets follow at each of their steps (Polyak averaging).
    pub tau: f32,
    /// Deviation of the noise in playing, in half widths of the bounds.
    pub explore_noise: f32,
    /// Deviation of the noise that smooths the target's actions, in half widths.
    pub target_noise: f32,
    /// That noise is held within ± this.
    pub target_noise_clip: f32,
}

impl Default for Td3Config {
    fn default() -> Self {
        Self {
            envs: 1,
            steps: 1,
            runners: 1,
            parallel: false,
            hidden: vec![64, 64],
            lr: 1e-3,
            critic_lr: 1e-3,
            gamma: 0.99,
            batch: 100,
            updates: 1,
            policy_delay: 2,
            capacity: 100_000,
            save_replay: false,
            learning_starts: 200,
            n_step: 1,
            tau: 0.01,
            explore_noise: 0.1,
            target_noise: 0.2,
            target_noise_clip: 0.5,
        }
    }
}

impl Settings for Td3Config {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::replay(self.capacity, self.batch, self.learning_starts, self.n_step)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::positive("critic_lr", self.critic_lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::at("updates", self.updates > 0, "must be at least 1")?;
        Check::at("policy_delay", self.policy_delay > 0, "must be at least 1")?;
        Check::unit("tau", self.tau)?;
        let noise = |x: f32| x >= 0.0 && x.is_finite();
        Check::at("explore_noise", noise(self.explore_noise), "must not be negative")?;
        Check::at("target_noise", noise(self.target_noise), "must not be negative")?;
        Check::at("target_noise_clip", noise(self.target_noise_clip), "must not be negative")
    }
}

impl ReplaySettings for Td3Config {
    fn sampling(&self) -> Sampling {
        let &Self { envs, steps, runners, parallel, .. } = self;
        Sampling { envs, steps, runners, parallel }
    }

    fn replaying(&self) -> Replaying {
        let &Self { capacity, save_replay, n_step, gamma, learning_starts, updates, batch, .. } = self;
        Replaying { capacity, save_replay, n_step, gamma, learning_starts, updates, batch }
    }
}
