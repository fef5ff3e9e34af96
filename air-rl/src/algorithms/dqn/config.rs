//! What DQN can be told.

use serde::{Deserialize, Serialize};

use crate::error::{Check, Result};
use crate::train::learner::Settings;

/// Everything DQN can be told. The defaults are double Q-learning over three steps with a soft target; the rest of Rainbow's
/// parts are switches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // switches, which is what they are in a file of settings
#[serde(default, deny_unknown_fields)]
pub struct DqnConfig {
    /// Environments stepped side by side, over all runners.
    pub envs: usize,
    /// Steps of each environment between two rounds of updates.
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
    /// Learning rate of Adam.
    pub lr: f32,
    /// Environment steps over which the learning rate falls linearly to a tenth; 0 keeps it.
    pub lr_decay_steps: u64,
    /// Discount γ: what a reward one step later is worth.
    pub gamma: f32,
    /// Transitions in a batch.
    pub batch: usize,
    /// Gradient steps in a round of updates.
    pub updates: usize,
    /// Transitions kept for replay; the oldest make room.
    pub capacity: usize,
    /// Save them in checkpoints, too, so that a run that goes on learns at once instead of filling a buffer anew.
    pub save_replay: bool,
    /// Transitions before the first update.
    pub learning_starts: usize,
    /// How far the target network follows after each gradient step (Polyak averaging).
    pub tau: f32,
    /// Chance of a random action at the start.
    pub epsilon_start: f32,
    /// Chance of a random action at last.
    pub epsilon_end: f32,
    /// Environment steps over which that chance falls, linearly.
    pub epsilon_steps: u64,
    /// Limit on the norm of the gradient; 0 means none.
    pub grad_clip: f32,
    /// The online network chooses the next action and the target network values it
    /// ([van Hasselt et al. 2016](https://arxiv.org/abs/1509.06461)).
    pub double: bool,
    /// Value and advantages apart ([Wang et al. 2016](https://arxiv.org/abs/1511.06581)).
    pub duelling: bool,
    /// Steps of reward before the next state's value.
    pub n_step: usize,
    /// Draw transitions by how wrong they were ([Schaul et al. 2016](https://arxiv.org/abs/1511.05952)).
    pub prioritized: bool,
    /// Priority is the error to this power; 0 draws evenly.
    pub priority_alpha: f32,
    /// Power of the weights that correct for drawing unevenly, at the start; it rises to 1.
    pub priority_beta: f32,
    /// Environment steps over which `priority_beta` rises.
    pub priority_beta_steps: u64,
    /// Noise in the weights explores instead of ε ([Fortunato et al. 2018](https://arxiv.org/abs/1706.10295)); set
    /// `epsilon_start` and `epsilon_end` to 0 with it.
    pub noisy: bool,
    /// Deviation of that noise at the start, in units of 1/√inputs.
    pub noisy_sigma: f32,
    /// Atoms of a distribution over returns ([C51](https://arxiv.org/abs/1707.06887)); 0 learns the mean alone.
    pub atoms: usize,
    /// The lowest return of the distribution.
    pub v_min: f32,
    /// The highest return of the distribution.
    pub v_max: f32,
}

impl Default for DqnConfig {
    fn default() -> Self {
        Self {
            envs: 8,
            steps: 4,
            runners: 1,
            parallel: false,
            conv: Vec::new(),
            hidden: vec![64, 64],
            lr: 1e-3,
            lr_decay_steps: 0,
            gamma: 0.99,
            batch: 128,
            updates: 8,
            capacity: 100_000,
            save_replay: false,
            learning_starts: 1_000,
            tau: 0.01,
            epsilon_start: 1.0,
            epsilon_end: 0.02,
            epsilon_steps: 10_000,
            grad_clip: 10.0,
            double: true,
            duelling: false,
            n_step: 3,
            prioritized: false,
            priority_alpha: 0.6,
            priority_beta: 0.4,
            priority_beta_steps: 100_000,
            noisy: false,
            noisy_sigma: 0.5,
            atoms: 0,
            v_min: 0.0,
            v_max: 100.0,
        }
    }
}

impl Settings for DqnConfig {
    fn validate(&self) -> Result<()> {
        Check::sampling(self.envs, self.steps, self.runners)?;
        Check::replay(self.capacity, self.batch, self.learning_starts, self.n_step)?;
        Check::conv(&self.conv)?;
        Check::at("hidden", self.hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Check::positive("lr", self.lr)?;
        Check::unit("gamma", self.gamma)?;
        Check::at("updates", self.updates > 0, "must be at least 1")?;
        Check::unit("tau", self.tau)?;
        Check::unit("epsilon_start", self.epsilon_start)?;
        Check::unit("epsilon_end", self.epsilon_end)?;
        Check::at("grad_clip", self.grad_clip >= 0.0, "must not be negative")?;
        Check::unit("priority_alpha", self.priority_alpha)?;
        Check::unit("priority_beta", self.priority_beta)?;
        Check::positive("noisy_sigma", self.noisy_sigma)?;
        Check::at("atoms", self.atoms != 1 && self.atoms <= 1 << 12, "must be 0 or between 2 and 4096")?;
        let ordered = self.v_min < self.v_max && (self.v_max - self.v_min).is_finite();
        Check::at("v_max", ordered, "must be above v_min, both finite")
    }
}
