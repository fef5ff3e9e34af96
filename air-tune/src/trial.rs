//! A trial, as the code that runs in it sees it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use air_core::BoxError;
use air_core::checkpoint::{Checkpoint, CheckpointStore, Retention};
use air_core::report::Reporter;
use air_core::seed::Seed;
use air_core::storage::Storage;

use crate::TrialId;
use crate::config::Config;
use crate::error::{Result, TuneError};
use crate::schedule::StopReason;
use crate::study::Study;
use crate::values::Values;

/// Code to tune: usually a closure `Fn(&mut Trial, Config) -> Result<(), BoxError>`.
pub trait Trainable: Send + Sync + 'static {
    /// Runs one trial to its end, reporting on the way.
    ///
    /// # Errors
    /// Whatever keeps the trial from its end: it is recorded as failed with the error and its sources. Returning a
    /// [`Cause`](crate::Cause) records that cause.
    fn run(&self, trial: &mut Trial, config: Config) -> Result<(), BoxError>;
}

impl<F> Trainable for F
where
    F: Fn(&mut Trial, Config) -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn run(&self, trial: &mut Trial, config: Config) -> Result<(), BoxError> {
        self(trial, config)
    }
}

/// What a trial is to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a trial that is told to stop should return"]
pub enum Signal {
    /// Go on.
    Continue,
    /// Return now; what is reported from here on is not kept.
    Stop(StopReason),
}

impl Signal {
    /// Whether the trial should return.
    pub fn is_stop(self) -> bool {
        matches!(self, Signal::Stop(_))
    }
}

/// A running trial.
pub struct Trial {
    id: TrialId,
    attempt: u32,
    iteration: u64,
    seed: Seed,
    dir: Option<PathBuf>,
    study: Arc<Study>,
    store: Option<CheckpointStore>,
    checkpoint: Option<Checkpoint>,
}

impl Trial {
    /// Finds the newest checkpoint, if the trial ran before.
    pub(crate) fn new(
        id: TrialId,
        attempt: u32,
        seed: Seed,
        dir: Option<PathBuf>,
        study: Arc<Study>,
    ) -> Result<Self> {
        let checkpoint = match &dir {
            Some(dir) if attempt > 1 => latest_checkpoint(dir)?,
            _ => None,
        };
        let iteration = checkpoint.as_ref().map_or(0, Checkpoint::step);
        Ok(Self { id, attempt, iteration, seed, dir, study, store: None, checkpoint })
    }

    /// Its number, from 0.
    pub fn id(&self) -> TrialId {
        self.id
    }

    /// How often it was started: 1 the first time.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many iterations it has reported, those before its checkpoint included.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    /// A seed of its own: the same for the same experiment's seed and trial, whatever else runs.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Its folder, if the experiment has one. It may not exist yet.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Reports the numbers of one more iteration.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] if a name is empty, too long or given twice.
    pub fn report(&mut self, values: &[(&str, f64)]) -> Result<Signal> {
        self.report_at(self.iteration + 1, values)
    }

    /// Reports the numbers of iteration `iteration`, for trials that count their own.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] as [`report`](Self::report), or if `iteration` is 0.
    pub fn report_at(&mut self, iteration: u64, values: &[(&str, f64)]) -> Result<Signal> {
        if iteration == 0 {
            return Err(TuneError::config("iteration", "iterations count from 1"));
        }
        let values = Values::new(values)?;
        self.iteration = iteration;
        Ok(self.study.report(self.id, iteration, values).map_or(Signal::Continue, Signal::Stop))
    }

    /// Whether the trial should return, without reporting: out of time, or the experiment is closing.
    pub fn signal(&self) -> Signal {
        self.study.must_stop(self.id).map_or(Signal::Continue, Signal::Stop)
    }

    /// Saves files as the checkpoint of the current iteration, all or nothing. The newest two are kept.
    ///
    /// # Errors
    /// [`TuneError::NoFolder`] if the experiment has no folder; what the storage answers otherwise.
    pub fn save(&mut self, files: &[(&str, &[u8])]) -> Result<()> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(checkpoint_store(self.dir.as_deref().ok_or(TuneError::NoFolder)?)?),
        };
        let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.to_vec().into())).collect();
        self.checkpoint = Some(store.save(self.iteration, &BTreeMap::new(), &files)?);
        Ok(())
    }

    /// The newest checkpoint of this trial, from this attempt or one before.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }
}

/// A trainer that reports to a trial is stopped when the trial is.
impl Reporter for Trial {
    fn report(
        &mut self,
        iteration: u64,
        metrics: &BTreeMap<String, f64>,
    ) -> Result<ControlFlow<()>, BoxError> {
        let values: Vec<_> = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let stop = self.report_at(iteration, &values)?.is_stop();
        Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

fn checkpoint_store(trial_dir: &Path) -> Result<CheckpointStore> {
    let storage = Storage::open(&checkpoint_dir(trial_dir).to_string_lossy())?;
    Ok(CheckpointStore::open(storage, Retention::newest(2))?)
}

fn checkpoint_dir(trial_dir: &Path) -> PathBuf {
    trial_dir.join("checkpoints")
}

pub(crate) fn latest_checkpoint(trial_dir: &Path) -> Result<Option<Checkpoint>> {
    if !checkpoint_dir(trial_dir).is_dir() {
        return Ok(None);
    }
    Ok(checkpoint_store(trial_dir)?.latest()?)
}
