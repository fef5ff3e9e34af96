//! How a training run is set up.

use air_core::checkpoint::Retention;
use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

/// The most ranks one process runs.
const MAX_WORKERS: usize = 1024;

/// How wide a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalingConfig {
    /// Ranks, each a worker with its own thread (or process).
    pub num_workers: usize,
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self { num_workers: 1 }
    }
}

impl ScalingConfig {
    /// This many ranks.
    pub fn workers(num_workers: usize) -> Self {
        Self { num_workers }
    }

    /// An error that names the first field that cannot work.
    pub fn validate(&self) -> Result<()> {
        if (1..=MAX_WORKERS).contains(&self.num_workers) {
            return Ok(());
        }
        let problem = format!("must be between 1 and {MAX_WORKERS}, not {}", self.num_workers);
        Err(TrainError::config("num_workers", problem))
    }
}

/// What a run survives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailureConfig {
    /// Failures after which the group is restarted from the last checkpoint; one more ends the run. Default 0.
    pub max_failures: u32,
}

/// Where a run keeps its results and how it goes on after a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// What the run is called in logs and errors.
    pub name: String,
    /// Directory or URL of the checkpoints; without one, a fresh directory among the system's temporary files.
    pub storage: Option<String>,
    /// Whether to go on from the last checkpoint found in `storage`.
    pub resume: bool,
    /// What the run survives.
    pub failure: FailureConfig,
    /// Which checkpoints are kept.
    pub checkpoint: Retention,
    /// The root of every random stream of the run.
    pub seed: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            name: "train".to_owned(),
            storage: None,
            resume: false,
            failure: FailureConfig::default(),
            checkpoint: Retention::default(),
            seed: 0,
        }
    }
}
