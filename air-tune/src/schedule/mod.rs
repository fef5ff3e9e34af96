//! Schedulers decide, report by report, which trials go on.
//!
//! A scheduler is pure: no clock, no thread, no I/O, no randomness. Its state follows from the reports it has seen, in order; so
//! an interrupted experiment goes on exactly, by replay.

mod asha;

pub use asha::{Asha, AshaConfig};

use serde::{Deserialize, Serialize};

use crate::TrialId;
use crate::error::Result;
use crate::search::{Mode, Outcome};

/// What becomes of a trial after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It is stopped: others are ahead.
    Stop(StopReason),
}

/// Who stopped a trial, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "by", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// It was not among the best at a rung.
    #[error("behind at iteration {rung}")]
    Behind {
        /// The rung's iteration.
        rung: u64,
    },
    /// It ran for as long as any trial may: its result is complete.
    #[error("ran all {iterations} iterations")]
    Finished {
        /// The longest a trial runs.
        iterations: u64,
    },
    /// The experiment's time budget ran out.
    #[error("out of time")]
    TimeBudget,
    /// The experiment ends because another trial failed.
    #[error("another trial failed")]
    FailFast,
    /// The experiment ends because nothing can be stored any more.
    #[error("the store failed")]
    StoreFailed,
}

/// Decides which trials go on.
///
/// `testing::scheduler` holds the suite every implementation passes.
pub trait Scheduler: Send {
    /// A trial reported `value` of the metric after `iteration` iterations, counted from 1.
    ///
    /// A trial that was interrupted may report an iteration again; that changes nothing for other trials.
    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision;

    /// A trial is over, whatever the reason.
    fn on_end(&mut self, trial: TrialId, outcome: Outcome);
}

/// Runs every trial to its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fifo;

impl Scheduler for Fifo {
    fn on_report(&mut self, _: TrialId, _: u64, _: f64) -> Decision {
        Decision::Continue
    }

    fn on_end(&mut self, _: TrialId, _: Outcome) {}
}

/// Which scheduler an experiment uses, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchedulerConfig {
    /// [`Fifo`].
    #[default]
    Fifo,
    /// [`Asha`].
    Asha(AshaConfig),
}

impl SchedulerConfig {
    /// Builds the scheduler.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig) for the first field out of range.
    pub fn build(&self, mode: Mode) -> Result<Box<dyn Scheduler>> {
        Ok(match self {
            SchedulerConfig::Fifo => Box::new(Fifo),
            SchedulerConfig::Asha(config) => Box::new(Asha::new(config.clone(), mode)?),
        })
    }
}

impl From<AshaConfig> for SchedulerConfig {
    fn from(config: AshaConfig) -> Self {
        SchedulerConfig::Asha(config)
    }
}
