//! What can go wrong, and why one trial ended badly.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Result of this crate's verbs.
pub type Result<T, E = TuneError> = std::result::Result<T, E>;

/// Everything that stops an experiment, or keeps one from starting.
///
/// What ends a single trial is a [`Cause`]: it is recorded with the trial and the experiment goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// A parameter of the space cannot be searched.
    #[error("parameter `{path}`: {reason}")]
    InvalidSpace {
        /// Path of the parameter.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of [`TuneConfig`](crate::TuneConfig), [`RunConfig`](crate::RunConfig) or a scheduler's configuration is out of range.
    #[error("`{field}`: {reason}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A trial asked its configuration for something that is not there, or is of another type.
    #[error("configuration `{path}`: expected {expected}, found {found}")]
    Parameter {
        /// Path of the parameter.
        path: String,
        /// The type asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The folder already holds an experiment.
    #[error("`{}` already holds an experiment: resume it, or choose another folder or name", path.display())]
    StudyExists {
        /// The experiment's folder.
        path: PathBuf,
    },
    /// The folder holds no experiment.
    #[error("`{}` holds no experiment (no study.db)", path.display())]
    NoStudy {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is running this experiment.
    #[error("`{}` is held by another process", path.display())]
    Locked {
        /// The experiment's folder.
        path: PathBuf,
    },
    /// The store was written by a version this one cannot read.
    #[error("`{}` has {what} {found}, this version reads {supported}", path.display())]
    Version {
        /// The database.
        path: PathBuf,
        /// Which version number.
        what: &'static str,
        /// The number found.
        found: String,
        /// The number this build supports.
        supported: String,
    },
    /// The results cannot be written as an Arrow table or a Parquet file.
    #[cfg(feature = "parquet")]
    #[error("the table of results")]
    Table {
        /// What Arrow said.
        source: air_core::BoxError,
    },
    /// The database refused or is damaged.
    #[error("study database `{}`", path.display())]
    Storage {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There is no room for what was to be stored; what was stored before is safe.
    #[error("study database `{}`: the disk is full; free some space, then resume the experiment", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The database holds something this crate did not write.
    #[error("study database `{}`: {reason}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("`{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A checkpoint was asked for in an experiment that has no folder.
    #[error("checkpoints need a folder: set `RunConfig::dir`")]
    NoFolder,
    /// The experiment has no trial with a usable value of the metric.
    #[error("no trial reported a usable `{metric}` ({trials} trials, {failed} failed)")]
    NoResult {
        /// The metric.
        metric: String,
        /// Trials in the grid.
        trials: usize,
        /// Failed ones among them.
        failed: usize,
    },
    /// The experiment has no such trial.
    #[error("there is no trial {trial}: the experiment has {trials}, counted from 0")]
    NoTrial {
        /// The number asked for.
        trial: u64,
        /// How many there are.
        trials: usize,
    },
    /// A command template names a parameter that the space does not have.
    #[error("placeholder `{{{name}}}` is no parameter of the space ({})", known.join(", "))]
    Placeholder {
        /// The name in braces.
        name: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// A command cannot be run at all.
    #[error("command `{program}`: {reason}")]
    Command {
        /// The program.
        program: String,
        /// Why.
        reason: String,
    },
    /// A worker that runs trials died.
    #[error("slot {slot}: {reason}")]
    Slot {
        /// Which one.
        slot: usize,
        /// Why.
        reason: String,
    },
    /// The runtime below failed.
    #[error(transparent)]
    Core(#[from] air_core::CoreError),
}

impl TuneError {
    pub(crate) fn space(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidSpace { path: path.into(), reason: reason.into() }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidConfig { field, reason: reason.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Why a trial failed. Stored with the trial as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The trainable returned an error.
    #[error("{message}")]
    Error {
        /// The error with its chain of sources.
        message: String,
    },
    /// The trainable panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The command ended with a code other than zero.
    #[error("exit code {code}{}", tail(stderr))]
    Exit {
        /// Its exit code.
        code: i32,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The command was killed by a signal.
    #[error("killed by signal {signal}{}", tail(stderr))]
    Signal {
        /// Number of the signal.
        signal: i32,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The trial ended well but never reported the metric.
    #[error("never reported `{metric}`{}", hint.as_deref().map(|h| format!(": {h}")).unwrap_or_default())]
    MissingMetric {
        /// The metric.
        metric: String,
        /// What it reported instead.
        hint: Option<String>,
    },
    /// The last value of the metric is not a number.
    #[error("its last `{metric}` is not a number")]
    NotANumber {
        /// The metric.
        metric: String,
    },
    /// The time budget ran out before the trial reported the metric.
    #[error("the time budget ran out before it reported `{metric}`")]
    OutOfTime {
        /// The metric.
        metric: String,
    },
}

fn tail(stderr: &str) -> String {
    let stderr = stderr.trim_end();
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
