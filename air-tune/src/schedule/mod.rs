//! Schedulers decide, report by report, which trials go on.
//!
//! A scheduler is pure: no clock, no thread, no I/O, and no randomness but what follows from its seed. Its state follows from the reports it has seen, in
//! order; so an interrupted experiment goes on exactly, by replay.
//!
//! A scheduler may also pause a trial: its code returns, its slot runs others, and when the scheduler says so it goes on from its checkpoint, or from that of
//! another trial with another configuration. Who is resumed, and as what, comes out of [`Scheduler::take_actions`].

mod asha;
mod hyperband;
mod median;
mod pbt;
mod resources;

pub use asha::{Asha, AshaConfig};
pub use hyperband::{HyperBand, HyperBandConfig};
pub use median::{MedianConfig, MedianStopping};
pub use pbt::{Explore, Pbt, PbtConfig, Policy, PolicyReplay, Segment};
pub use resources::{Favour, ResourceChanging, ResourceConfig};

use air_core::resource::Resources;
use air_core::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::TrialId;
use crate::error::Result;
use crate::search::{Mode, Outcome};
use crate::space::{Assignment, Space};

/// What becomes of a trial after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It is stopped: others are ahead.
    Stop(StopReason),
    /// It makes room, and waits until one of the scheduler's [`Action`]s names it.
    Pause,
}

/// What becomes of a paused trial.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// It goes on from its checkpoint, or as `change` says.
    Resume {
        /// Which one.
        trial: TrialId,
        /// What it goes on as, if not as itself.
        change: Option<Change>,
    },
    /// It does not go on.
    Stop {
        /// Which one.
        trial: TrialId,
        /// Why.
        reason: StopReason,
    },
}

/// Another trial's checkpoint, and another configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose newest checkpoint the trial goes on from; its own, if it is that trial itself.
    pub donor: TrialId,
    /// What it is given from here on.
    pub assignment: Assignment,
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
    /// A stopper's target was reached.
    #[error("reached its target")]
    Target,
    /// What it reports hardly changes any more.
    #[error("on a plateau")]
    Plateau,
    /// It ran as long as any trial may.
    #[error("ran as long as any trial may")]
    TrialTime,
    /// A stopper of one's own said so.
    #[error("a stopper said so")]
    Stopper,
    /// The experiment ends because its best trials hardly differ any more.
    #[error("the experiment is on a plateau")]
    ExperimentPlateau,
    /// It makes room for others and goes on later, from its checkpoint.
    #[error("paused")]
    Paused,
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

impl StopReason {
    /// Whether the trial's result is complete, rather than cut off.
    pub fn completes(self) -> bool {
        use StopReason::{Finished, Plateau, Stopper, Target, TrialTime};
        matches!(self, Finished { .. } | Target | Plateau | TrialTime | Stopper)
    }
}

/// Decides which trials go on.
///
/// `testing::scheduler` holds the suite every implementation passes.
pub trait Scheduler: Send {
    /// A trial starts for the first time.
    fn on_start(&mut self, trial: TrialId, assignment: &Assignment) {
        let _ = (trial, assignment);
    }

    /// A trial reported `value` of the metric after `iteration` iterations, counted from 1.
    ///
    /// A trial that was interrupted may report an iteration again; that changes nothing for other trials.
    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision;

    /// A trial is over, whatever the reason.
    fn on_end(&mut self, trial: TrialId, outcome: Outcome);

    /// What becomes of paused trials. Asked after everything else this trait has; each action is given once.
    fn take_actions(&mut self) -> Vec<Action> {
        Vec::new()
    }

    /// Nothing runs and no new trial will start: some paused trial must go on or stop. Those that nobody names are resumed.
    fn on_idle(&mut self) {}

    /// At most `slots` trials run at once; returns how many of them there is room for. Told once, before anything else.
    fn at_once(&mut self, slots: usize) -> usize {
        slots
    }

    /// No new trial will start. Returns whether that means anything to the scheduler, so that it is told again when the past is lived through.
    fn on_exhausted(&mut self) -> bool {
        false
    }

    /// What a trial that starts, or goes on, has of the machine from here on; nothing in particular, if that is not dealt out.
    fn resources(&self, trial: TrialId) -> Option<Resources> {
        let _ = trial;
        None
    }

    /// All there is, where it is dealt out.
    fn total(&self) -> Option<Resources> {
        None
    }

    /// Whether trials must be able to save checkpoints, which takes a folder.
    fn needs_checkpoints(&self) -> bool {
        false
    }
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
    /// [`HyperBand`].
    HyperBand(HyperBandConfig),
    /// [`MedianStopping`].
    Median(MedianConfig),
    /// [`Pbt`].
    Pbt(PbtConfig),
    /// [`PolicyReplay`].
    Replay(Policy),
    /// [`ResourceChanging`].
    Resources(ResourceConfig),
}

impl SchedulerConfig {
    /// Builds the scheduler of an experiment over `space`.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig) for the first field out of range.
    pub fn build(&self, space: &Space, mode: Mode, seed: Seed) -> Result<Box<dyn Scheduler>> {
        Ok(match self {
            SchedulerConfig::Fifo => Box::new(Fifo),
            SchedulerConfig::Asha(config) => Box::new(Asha::new(config.clone(), mode)?),
            SchedulerConfig::HyperBand(config) => Box::new(HyperBand::new(config.clone(), mode)?),
            SchedulerConfig::Median(config) => Box::new(MedianStopping::new(config.clone(), mode)?),
            SchedulerConfig::Pbt(config) => Box::new(Pbt::new(config.clone(), space, mode, seed)?),
            SchedulerConfig::Replay(policy) => Box::new(PolicyReplay::new(policy.clone())?),
            SchedulerConfig::Resources(config) => {
                config.validate()?;
                let inner = config.inner.build(space, mode, seed)?;
                Box::new(ResourceChanging::new(config.clone(), inner, mode)?)
            }
        })
    }

    /// Checks every field, as far as that goes without the space.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig) for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        match self {
            SchedulerConfig::Fifo => Ok(()),
            SchedulerConfig::Asha(config) => config.validate(),
            SchedulerConfig::HyperBand(config) => config.validate(),
            SchedulerConfig::Median(config) => config.validate(),
            SchedulerConfig::Pbt(config) => config.validate(),
            SchedulerConfig::Replay(policy) => policy.validate(),
            SchedulerConfig::Resources(config) => config.validate(),
        }
    }
}

macro_rules! from_config {
    ($($config:ident => $kind:ident),*) => { $(impl From<$config> for SchedulerConfig {
        fn from(config: $config) -> Self { SchedulerConfig::$kind(config) }
    })* };
}
from_config!(AshaConfig => Asha, HyperBandConfig => HyperBand, MedianConfig => Median, PbtConfig => Pbt, Policy => Replay, ResourceConfig => Resources);
