//! What can go wrong in this crate.

use std::path::PathBuf;

use air_core::collective::CollectiveError;
use air_core::{BoxError, CoreError};

use crate::failure::Failure;

/// The error of this crate; a training function's own errors are kept as sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A slice or tensor has the wrong number of values.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What was measured.
        what: &'static str,
        /// The number that fits.
        expected: usize,
        /// The number that came.
        got: usize,
    },
    /// A class index is out of range.
    #[error("label {label} in row {row} is not below the number of classes, {classes}")]
    Label {
        /// Row of the batch, from 0.
        row: usize,
        /// The label found there.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A setting cannot work.
    #[error("{field}: {problem}")]
    Config {
        /// The setting.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of weights cannot be read, or does not fit the network.
    #[error("weights: {problem}")]
    Weights {
        /// What is wrong.
        problem: String,
    },
    /// A rank's part of a dataset could not be made.
    #[error("dataset `{name}`: no shard for rank {rank}")]
    Dataset {
        /// The dataset.
        name: String,
        /// The rank.
        rank: usize,
        /// Why.
        source: BoxError,
    },
    /// Who was to judge a report could not take it.
    #[error("the report of iteration {iteration} was not taken")]
    Report {
        /// The iteration.
        iteration: u64,
        /// Why.
        source: BoxError,
    },
    /// The run was ended early; a training function returns this error as it is.
    #[error("the run was stopped")]
    Stopped,
    /// The run was given up.
    #[error("run `{run}` failed: {}", list(failures))]
    Failed {
        /// The run.
        run: String,
        /// Every failure, in order; the last ended the run.
        failures: Vec<Failure>,
    },
    /// A file cannot be read or written.
    #[error("`{}`: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        problem: String,
        /// Why it did not work.
        source: Option<std::io::Error>,
    },
    /// Something of the runtime, a collective, a tensor, storage or a checkpoint.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// A result of this crate.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

impl TrainError {
    pub(crate) fn config(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { field: field.into(), problem: problem.into() }
    }

    pub(crate) fn weights(problem: impl Into<String>) -> Self {
        Self::Weights { problem: problem.into() }
    }
}

impl From<CollectiveError> for TrainError {
    fn from(error: CollectiveError) -> Self {
        Self::Core(error.into())
    }
}

fn list(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; then ")
}
