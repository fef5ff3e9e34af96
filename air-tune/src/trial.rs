//! A trial, as the code that runs in it sees it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use air_core::BoxError;
use air_core::checkpoint::Checkpoint;
use air_core::device::Device;
use air_core::report::Reporter;
use air_core::resource::{Lease, Resources};
use air_core::seed::Seed;

use crate::TrialId;
use crate::config::Config;
use crate::controller::Launch;
use crate::error::{Result, TuneError};
use crate::keep::Keep;
use crate::result::trial_dir;
use crate::schedule::StopReason;
use crate::space::Domain;
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

    /// Whether a checkpoint of one trial can be copied for another while the first one runs: what [`Trial::save`] saves can.
    fn can_clone(&self) -> bool {
        true
    }
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
    keep: Option<Keep>,
    checkpoint: Option<Checkpoint>,
    lease: Option<Lease>,
}

impl Trial {
    /// Finds the newest checkpoint, if the trial ran before; copies it from another trial, if this one goes on from there.
    pub(crate) fn new(
        launch: &Launch,
        seed: Seed,
        root: Option<&Path>,
        study: Arc<Study>,
        lease: Option<Lease>,
    ) -> Result<Self> {
        let id = launch.trial;
        let keep = root.map(|root| Keep::new(root, id, launch.generation));
        let mut checkpoint = None;
        if let Some(keep) = &keep {
            if let Some(origin) = &launch.origin {
                let place = keep.copy(origin, launch.iteration)?;
                study.copied(id, place);
                keep.delete_older(|place| study.is_pinned(place))?;
            }
            if launch.attempt > 1 {
                checkpoint = keep.latest()?;
            }
        }
        // A clone counts on, wherever its donor was.
        let iteration = match &checkpoint {
            Some(checkpoint) => checkpoint.step(),
            None if launch.generation > 0 => launch.iteration,
            None => 0,
        };
        let dir = root.map(|root| trial_dir(root, id));
        Ok(Self { id, attempt: launch.attempt, iteration, seed, dir, study, keep, checkpoint, lease })
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

    /// What it has of the machine until it returns, where a [`ResourceChanging`](crate::schedule::ResourceChanging) scheduler deals that out.
    pub fn resources(&self) -> Option<Resources> {
        self.lease.as_ref().map(Lease::resources)
    }

    /// Its GPUs; of a share, the one device it lies on. None, where no GPUs are dealt out.
    pub fn devices(&self) -> Vec<Device> {
        self.lease.as_ref().map(Lease::devices).unwrap_or_default()
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

    /// The value of a parameter that is named now.
    pub(crate) fn suggest(&self, path: &str, domain: &Domain) -> Result<serde_json::Value> {
        self.study.suggest(self.id, path, domain)
    }

    /// Whether the trial should return, without reporting: out of time, or the experiment is closing.
    pub fn signal(&self) -> Signal {
        self.study.must_stop(self.id).map_or(Signal::Continue, Signal::Stop)
    }

    /// Saves files as the checkpoint of the current iteration, all or nothing. The newest two are kept, and those that a clone is still to be made from.
    ///
    /// Save after the report even where that said to stop: a trial that is paused goes on from here. It waits until what was reported so far is stored: a trial that goes
    /// on from a checkpoint must not lack what led there. Once the store has failed nothing is saved, and the next report says to stop.
    ///
    /// # Errors
    /// [`TuneError::NoFolder`] if the experiment has no folder; what the storage answers otherwise.
    pub fn save(&mut self, files: &[(&str, &[u8])]) -> Result<()> {
        let keep = self.keep.as_ref().ok_or(TuneError::NoFolder)?;
        if !self.study.wait_stored() {
            return Ok(());
        }
        let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.to_vec().into())).collect();
        let (checkpoint, place) = keep.save(self.iteration, &files)?;
        self.study.saved(self.id, place, self.iteration);
        keep.prune(|place| self.study.is_pinned(place))?;
        self.checkpoint = Some(checkpoint);
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
