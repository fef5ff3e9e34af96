//! The TOML file of `air-train run`.

use std::path::PathBuf;

use air_core::checkpoint::Retention;
use serde::{Deserialize, Serialize};

use crate::nn::{Activation, Schedule};
use crate::{Result, RunConfig, ScalingConfig, TrainError};

/// A tabular classifier: its data, its network, its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TabularConfig {
    /// Where the rows come from.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// How it is trained.
    pub optimizer: OptimizerConfig,
    /// How wide the run is.
    pub scaling: ScalingConfig,
    /// Where results go and what the run survives.
    pub run: RunConfig,
}

impl Default for TabularConfig {
    fn default() -> Self {
        Self {
            data: DataConfig::default(),
            model: ModelConfig::default(),
            optimizer: OptimizerConfig::default(),
            scaling: ScalingConfig::default(),
            // There is a checkpoint after each epoch: enough to go on from, and to use.
            run: RunConfig { checkpoint: Retention::newest(1), ..RunConfig::default() },
        }
    }
}

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The CSV file, with a header; relative to the configuration file.
    pub path: PathBuf,
    /// The column to predict; without it, the last.
    pub label: Option<String>,
    /// The share of rows kept apart for validation, 0 to below 1.
    pub validation: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { path: PathBuf::new(), label: None, validation: 0.2 }
    }
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Follows each hidden layer.
    pub activation: Activation,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { hidden: vec![32, 32], activation: Activation::Relu }
    }
}

/// How the network is trained (with Adam).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Passes over the training rows.
    pub epochs: u64,
    /// Rows a worker takes at a time.
    pub batch_rows: usize,
    /// Learning rate.
    pub lr: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// How the learning rate changes, in steps.
    pub schedule: Schedule,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { epochs: 50, batch_rows: 16, lr: 0.01, weight_decay: 0.0, schedule: Schedule::Constant }
    }
}

impl TabularConfig {
    /// An error that names the first field that cannot work.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field: &str, problem: &str| Err(TrainError::config(field, problem));
        if self.data.path.as_os_str().is_empty() {
            return refuse("data.path", "is not set");
        }
        if !(0.0..1.0).contains(&self.data.validation) {
            return refuse("data.validation", "must be at least 0 and below 1");
        }
        if self.optimizer.epochs == 0 || self.optimizer.batch_rows == 0 {
            return refuse("optimizer", "epochs and batch_rows must be at least 1");
        }
        if !(self.optimizer.lr > 0.0 && self.optimizer.lr.is_finite()) {
            return refuse("optimizer.lr", "must be a positive number");
        }
        self.scaling.validate()
    }
}
