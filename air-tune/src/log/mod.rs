//! Seeing an experiment: callbacks, and the files they write.
//!
//! Callbacks run on the writing thread, after what they are told has been committed: whatever a callback prints or writes is never
//! taken back by a crash.

pub(crate) mod csv;
mod json;
mod mlflow;
mod progress;
mod tensorboard;
mod wandb;

use std::path::Path;

use air_core::BoxError;
use serde::{Deserialize, Serialize};

pub use mlflow::{Mlflow, MlflowConfig};
pub use progress::Progress;
pub use tensorboard::{EventWriter, Scalar};

use crate::TrialId;
use crate::config::Config;
use crate::error::{Cause, Result, TuneError};
use crate::result::TrialResult;
use crate::values::Values;

/// Something that happened, and is stored if the experiment has a store.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A trial starts.
    Started {
        /// Its number.
        trial: TrialId,
        /// 1 for the first time.
        attempt: u32,
        /// What it was given.
        config: Config,
    },
    /// A trial reported.
    Reported {
        /// Its number.
        trial: TrialId,
        /// Its count of iterations.
        iteration: u64,
        /// The metric, if the report holds it.
        value: Option<f64>,
        /// The whole report.
        values: Values,
        /// Seconds it has run.
        seconds: f64,
    },
    /// A trial failed and will be tried again.
    Requeued {
        /// Its number.
        trial: TrialId,
        /// Why it failed.
        cause: Cause,
    },
    /// A trial has made room for others, and goes on later.
    Paused {
        /// Its number.
        trial: TrialId,
    },
    /// A trial goes on from the checkpoint of another, with another configuration.
    Changed {
        /// Its number.
        trial: TrialId,
        /// How many iterations it has behind it.
        iteration: u64,
        /// Whose checkpoint it goes on from.
        donor: TrialId,
        /// What it is given from here on.
        config: Config,
    },
    /// A trial is over.
    Ended(TrialResult),
}

/// Follows an experiment.
pub trait Callback: Send {
    /// A name for messages.
    fn name(&self) -> &'static str;

    /// Takes what has happened since the last call, in order.
    ///
    /// # Errors
    /// Any; it is logged, and this callback is told nothing more.
    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError>;

    /// The experiment ends here, for now.
    fn finish(&mut self) {}
}

/// Which files an experiment with a folder writes beside its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)]
pub struct LogConfig {
    /// `trial_00000/progress.csv` with every report, and `results.csv` at the end.
    pub csv: bool,
    /// `reports.jsonl`: every report and every end, one JSON object a line.
    pub json: bool,
    /// `trial_00000/events.out.tfevents…`, for TensorBoard.
    pub tensorboard: bool,
    /// `wandb/offline-run-…`, for the Weights & Biases project of this name: `wandb sync` uploads them.
    pub wandb: Option<String>,
    /// A server that trials are shown on as runs; `mlflow.jsonl` is which run is which trial.
    pub mlflow: Option<MlflowConfig>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { csv: true, json: true, tensorboard: true, wandb: None, mlflow: None }
    }
}

impl LogConfig {
    /// Nothing but the database.
    pub fn none() -> Self {
        Self { csv: false, json: false, tensorboard: false, wandb: None, mlflow: None }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        if self
            .wandb
            .as_deref()
            .is_some_and(|project| project.is_empty() || project.contains(['/', '\\', '#', '?', '%', ':']))
        {
            return Err(TuneError::config("wandb", "must be the name of a project, without / \\ # ? % :"));
        }
        self.mlflow.as_ref().map_or(Ok(()), MlflowConfig::validate)
    }

    /// What writes the files; `name` is the study's.
    pub(crate) fn callbacks(&self, dir: &Path, name: &str) -> Result<Vec<Box<dyn Callback>>> {
        let mut callbacks: Vec<Box<dyn Callback>> = Vec::new();
        if let Some(config) = &self.mlflow {
            callbacks.push(Box::new(Mlflow::start(config.clone(), name, Some(dir))?));
        }
        if let Some(project) = &self.wandb {
            callbacks.push(Box::new(wandb::Wandb::new(dir, project, name)));
        }
        if self.json {
            callbacks.push(Box::new(json::JsonLines::new(dir)));
        }
        // Comma-separated values come last: a resumption takes a complete file for the sign that the others are too.
        if self.tensorboard {
            callbacks.push(Box::new(tensorboard::TensorBoard::new(dir)));
        }
        if self.csv {
            callbacks.push(Box::new(csv::ProgressCsv::new(dir)));
        }
        Ok(callbacks)
    }
}
