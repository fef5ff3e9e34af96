//! [`Tuner`]: a space, something to tune, and `fit`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use air_core::seed::Seed;
use air_core::{BoxError, Runtime, RuntimeConfig};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::controller::{Controller, Rules};
use crate::error::{Result, TuneError};
use crate::keep::Keep;
use crate::log::{Callback, LogConfig, Progress, csv};
use crate::result::ResultGrid;
use crate::schedule::{Scheduler, SchedulerConfig};
use crate::search::{Mode, SearchConfig, Searcher};
use crate::slots::{self, Slot};
use crate::space::Space;
use crate::stop::{Stopper, StopperConfig, Stoppers};
use crate::storage::writer::{Sink, Writer};
use crate::storage::{Meta, Store};
use crate::study::Study;
use crate::trial::{Trainable, Trial};

/// Most trials at once.
const MAX_CONCURRENT: usize = 1024;
/// Most objectives.
const MAX_OBJECTIVES: usize = 32;

/// A number to optimise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What the trials report it as.
    pub metric: String,
    /// Whether small or large values of it are good.
    pub mode: Mode,
}

/// How to search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneConfig {
    /// The reported number to optimise.
    pub metric: String,
    /// Whether small or large values of it are good.
    pub mode: Mode,
    /// How often the space's grids are gone through; without grids, the number of trials.
    pub num_samples: u64,
    /// Most trials at once; the number of CPUs if not given.
    pub max_concurrent_trials: Option<usize>,
    /// What else counts, besides the metric: then the best are those that no other beats in everything.
    pub also: Vec<Objective>,
    /// When trials are complete, and when the experiment is.
    pub stop: Vec<StopperConfig>,
    /// Who proposes configurations.
    pub search: SearchConfig,
    /// Configurations to try first; what they leave out is drawn at random. They are the first of the trials, and with grids come besides.
    pub points_to_evaluate: Vec<Config>,
    /// Which trials are stopped early.
    pub scheduler: SchedulerConfig,
    /// All randomness of the search follows from it.
    pub seed: u64,
    /// Nothing starts after this time, and running trials stop at their next report.
    pub time_budget: Option<Duration>,
}

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            metric: "loss".into(),
            mode: Mode::Min,
            num_samples: 1,
            max_concurrent_trials: None,
            also: Vec::new(),
            stop: Vec::new(),
            search: SearchConfig::Auto,
            points_to_evaluate: Vec::new(),
            scheduler: SchedulerConfig::Fifo,
            seed: 0,
            time_budget: None,
        }
    }
}

impl TuneConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        if self.metric.is_empty() {
            return Err(TuneError::config("metric", "must name what the trials report"));
        }
        if self.num_samples == 0 {
            return Err(TuneError::config("num_samples", "must be at least 1"));
        }
        if self.max_concurrent_trials.is_some_and(|n| !(1..=MAX_CONCURRENT).contains(&n)) {
            return Err(TuneError::config(
                "max_concurrent_trials",
                format!("must be between 1 and {MAX_CONCURRENT}"),
            ));
        }
        let objectives = self.objectives();
        if objectives.len() > MAX_OBJECTIVES {
            return Err(TuneError::config("also", format!("at most {} can be given", MAX_OBJECTIVES - 1)));
        }
        for (at, objective) in objectives.iter().enumerate() {
            if objective.metric.is_empty() {
                return Err(TuneError::config("also", "must name what the trials report"));
            }
            if objectives[..at].iter().any(|other| other.metric == objective.metric) {
                return Err(TuneError::config("also", format!("`{}` is given twice", objective.metric)));
            }
        }
        self.stop.iter().try_for_each(StopperConfig::validate)?;
        self.search.validate()?;
        self.scheduler.validate()
    }

    /// All that counts, the metric first.
    pub fn objectives(&self) -> Vec<Objective> {
        let first = Objective { metric: self.metric.clone(), mode: self.mode };
        std::iter::once(first).chain(self.also.iter().cloned()).collect()
    }
}

/// What to do about failed trials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailureConfig {
    /// How often a failed trial is run again, from its checkpoint if it has one.
    pub max_failures: u32,
    /// Whether one failed trial ends the experiment.
    pub fail_fast: bool,
}

/// Where an experiment is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the study within its database.
    pub name: String,
    /// The experiment's own folder. Without one nothing is written, and nothing can be resumed.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// What to do about failed trials.
    pub failure: FailureConfig,
    /// Which files are written beside the database.
    pub log: LogConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { name: "tune".into(), dir: None, failure: FailureConfig::default(), log: LogConfig::default() }
    }
}

/// Runs an experiment: trials of one trainable over a space of configurations.
pub struct Tuner {
    meta: Meta,
    trainable: Arc<dyn Trainable>,
    searcher: Option<Box<dyn Searcher>>,
    scheduler: Option<Box<dyn Scheduler>>,
    stoppers: Vec<Box<dyn Stopper>>,
    callbacks: Vec<Box<dyn Callback>>,
    quiet: bool,
    resumed: Option<Store>,
}

impl Tuner {
    /// Tunes a closure over `space`. [`Tuner::with`] takes anything else that is [`Trainable`].
    pub fn new(
        space: Space,
        trainable: impl Fn(&mut Trial, Config) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::with(space, trainable)
    }

    /// Tunes a closure that names its parameters where it uses them: [`Trial::float`], [`Trial::int`], [`Trial::choice`], [`Trial::normal`]. Each is
    /// searched by a Parzen estimator of its own, from the trials that had it.
    pub fn define(trainable: impl Fn(&mut Trial) -> Result<(), BoxError> + Send + Sync + 'static) -> Self {
        Self::with(Space::new(), move |trial: &mut Trial, _: Config| trainable(trial))
    }

    /// Tunes `trainable`, a [`Command`](crate::command::Command) for one, over `space`.
    pub fn with(space: Space, trainable: impl Trainable) -> Self {
        let meta = Meta {
            space,
            tune: TuneConfig::default(),
            run: RunConfig::default(),
            command: None,
            custom_searcher: false,
            custom_scheduler: false,
            custom_stopper: false,
        };
        Self::of(meta, Arc::new(trainable), None)
    }

    fn of(meta: Meta, trainable: Arc<dyn Trainable>, resumed: Option<Store>) -> Self {
        Self {
            meta,
            trainable,
            searcher: None,
            scheduler: None,
            stoppers: Vec::new(),
            callbacks: Vec::new(),
            quiet: false,
            resumed,
        }
    }

    /// Goes on with the experiment in `dir`: finished trials stay, those cut off run again from their checkpoints, and the
    /// rest is what it would have been.
    ///
    /// # Errors
    /// [`TuneError::NoStudy`], [`TuneError::Locked`], [`TuneError::Version`] or [`TuneError::Damaged`].
    pub fn resume(
        dir: impl AsRef<Path>,
        trainable: impl Fn(&mut Trial, Config) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::resume_with(dir.as_ref(), |_| Ok(Arc::new(trainable)))
    }

    pub(crate) fn resume_with(
        dir: &Path,
        trainable: impl FnOnce(&Meta) -> Result<Arc<dyn Trainable>>,
    ) -> Result<Self> {
        let (store, mut meta) = Store::open(dir)?;
        meta.run.dir = Some(dir.to_owned());
        let trainable = trainable(&meta)?;
        Ok(Self::of(meta, trainable, Some(store)))
    }

    /// Sets how to search.
    pub fn tune_config(mut self, config: TuneConfig) -> Self {
        self.meta.tune = config;
        self
    }

    /// Sets where the experiment is kept.
    pub fn run_config(mut self, config: RunConfig) -> Self {
        self.meta.run = config;
        self
    }

    /// Searches with `searcher` in place of [`TuneConfig::search`].
    pub fn searcher(mut self, searcher: impl Searcher + 'static) -> Self {
        self.searcher = Some(Box::new(searcher));
        self
    }

    /// Schedules with `scheduler` in place of [`TuneConfig::scheduler`].
    pub fn scheduler(mut self, scheduler: impl Scheduler + 'static) -> Self {
        self.scheduler = Some(Box::new(scheduler));
        self
    }

    /// Adds a stopper of one's own, besides [`TuneConfig::stop`]: a function of a report, or anything that implements [`Stopper`].
    pub fn stopper(mut self, stopper: impl Stopper + 'static) -> Self {
        self.stoppers.push(Box::new(stopper));
        self
    }

    /// Adds a callback; see [`log`](crate::log).
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Draws no progress line, not even on a terminal.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Most trials at once, whatever the configuration says.
    pub(crate) fn concurrency(mut self, count: Option<usize>) -> Self {
        self.meta.tune.max_concurrent_trials = count.or(self.meta.tune.max_concurrent_trials);
        self
    }

    pub(crate) fn command(mut self, command: Vec<String>) -> Self {
        self.meta.command = Some(command);
        self
    }

    /// Runs all trials and returns what they found. Failed trials are part of that, and no error.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`] before anything runs; [`TuneError::StudyExists`] if the folder
    /// holds an experiment; [`TuneError::Locked`] if another process runs it; [`TuneError::Storage`] if the store fails.
    pub fn fit(mut self) -> Result<ResultGrid> {
        self.check_custom()?;
        self.meta.space.validate()?;
        self.meta.tune.validate()?;
        self.meta.run.log.validate()?;
        let tune = self.meta.tune.clone();
        let dir = self.meta.run.dir.clone();
        let seed = Seed::new(tune.seed);
        let searcher = if let Some(searcher) = self.searcher.take() {
            searcher
        } else {
            let modes: Vec<Mode> = tune.objectives().iter().map(|objective| objective.mode).collect();
            let (points, space) = (&tune.points_to_evaluate, &self.meta.space);
            tune.search.build_after(points, space, &modes, tune.num_samples, seed.child("search", 0))?
        };
        let mut scheduler = match self.scheduler.take() {
            Some(scheduler) => scheduler,
            None => tune.scheduler.build(&self.meta.space, tune.mode, seed.child("schedule", 0))?,
        };
        if scheduler.needs_checkpoints() && dir.is_none() {
            return Err(TuneError::config(
                "scheduler",
                "clones start from checkpoints, and those need a folder: set `RunConfig::dir`",
            ));
        }
        if scheduler.needs_checkpoints() && !self.trainable.can_clone() {
            return Err(TuneError::config(
                "scheduler",
                "a command's checkpoint cannot be copied while the command runs: tune a closure that saves its own",
            ));
        }
        let rules = Rules {
            metric: tune.metric.clone(),
            also: tune.also.iter().map(|objective| objective.metric.clone()).collect(),
            max_failures: self.meta.run.failure.max_failures,
            fail_fast: self.meta.run.failure.fail_fast,
            time_budget: tune.time_budget,
        };
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        let slots = scheduler.at_once(tune.max_concurrent_trials.unwrap_or_else(cpus)).max(1);
        let mut machine = RuntimeConfig::default();
        let deals = scheduler.total();
        if let Some(total) = &deals {
            machine = machine.resources(total.clone());
        }
        let runtime = Runtime::with(machine)?;
        let mut stoppers =
            tune.stop.iter().map(|config| config.build(tune.mode)).collect::<Result<Vec<_>>>()?;
        stoppers.append(&mut self.stoppers);
        let mut controller = Controller::new(rules, searcher, scheduler)
            .stoppers(Stoppers(stoppers))
            .by_run(tune.mode, seed.child("by run", 0));
        let store = match (self.resumed.take(), &dir) {
            (Some(store), Some(dir)) => {
                let seq = store.replay(&tune.metric, |past| controller.replay(past))?;
                controller.find_saved(|trial, generation| Keep::new(dir, trial, generation).begun())?;
                controller.resume(seq, Duration::ZERO);
                if self.meta.run.log.csv {
                    csv::repair(dir)?;
                }
                Some(store)
            }
            (None, Some(dir)) => Some(Store::create(dir, &self.meta)?),
            (_, None) => None,
        };

        let (journal, writer) = self.start_writer(store, &controller)?.unzip();
        let study = Arc::new(Study::new(controller, journal, runtime.clock().clone()));
        let slot = Slot {
            study: Arc::clone(&study),
            trainable: Arc::clone(&self.trainable),
            dir: dir.clone(),
            seed: seed.child("trials", 0),
            pool: deals.map(|_| runtime.resource_pool().clone()),
        };
        let ran = slots::run(&runtime, slot, slots);
        let (trials, named) = study.close();
        let mut space = self.meta.space.clone();
        for (path, domain) in &named {
            space.push(path, domain);
        }
        let stored = writer.map_or(Ok(()), Writer::finish);
        ran?;
        stored?;
        let grid = ResultGrid::new(tune.objectives(), space, dir.clone(), trials);
        if let Some(dir) = dir.filter(|_| self.meta.run.log.csv) {
            csv::write_results(&dir, &grid)?;
        }
        Ok(grid)
    }

    /// A searcher or scheduler given as a value is not stored: whoever resumes gives it again.
    fn check_custom(&mut self) -> Result<()> {
        let resumes = self.resumed.is_some();
        if resumes && self.meta.custom_searcher && self.searcher.is_none() {
            return Err(TuneError::config(
                "searcher",
                "the experiment ran with one of its own: give it again",
            ));
        }
        if resumes && self.meta.custom_scheduler && self.scheduler.is_none() {
            return Err(TuneError::config(
                "scheduler",
                "the experiment ran with one of its own: give it again",
            ));
        }
        if resumes && self.meta.custom_stopper && self.stoppers.is_empty() {
            return Err(TuneError::config(
                "stopper",
                "the experiment ran with one of its own: give it again",
            ));
        }
        self.meta.custom_stopper = !self.stoppers.is_empty();
        self.meta.custom_searcher = self.searcher.is_some();
        self.meta.custom_scheduler = self.scheduler.is_some();
        Ok(())
    }

    /// Nothing to store and nobody to tell: no thread.
    fn start_writer(
        &mut self,
        store: Option<Store>,
        controller: &Controller,
    ) -> Result<Option<(crate::storage::writer::Journal, Writer)>> {
        let tune = &self.meta.tune;
        let dir = self.meta.run.dir.clone();
        let mut callbacks = match &dir {
            Some(dir) => self.meta.run.log.callbacks(dir, &self.meta.run.name)?,
            None => Vec::new(),
        };
        if !self.quiet && Progress::is_visible() {
            callbacks.push(Box::new(Progress::new(&tune.metric, tune.mode, controller.total())));
        }
        callbacks.append(&mut self.callbacks);
        if store.is_none() && callbacks.is_empty() {
            return Ok(None);
        }
        Writer::start(Sink { store, callbacks, dir }).map(Some)
    }
}
