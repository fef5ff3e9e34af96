//! [`Trainer`]: a training function on N ranks, restarted as one from the last complete checkpoint.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use air_core::checkpoint::Checkpoint;
use air_core::data::BatchSource;
use air_core::report::Reporter;
use air_core::{BoxError, Runtime};

use crate::context::TrainContext;
use crate::failure::Failure;
use crate::record::{MakeShard, OnReport, Record, Report};
use crate::{Result, RunConfig, ScalingConfig, ranks, run};

type TrainFn<C> = dyn Fn(&mut TrainContext, &C) -> Result<(), BoxError> + Send + Sync;

/// Runs a training function on ranked workers.
///
/// When a rank fails, all others are stopped at once (a rank that waits for the lost one gets an error, it does not hang), and
/// while [`FailureConfig`](crate::FailureConfig) allows, all start again from the last complete checkpoint.
pub struct Trainer<C> {
    train: Arc<TrainFn<C>>,
    config: Arc<C>,
    scaling: ScalingConfig,
    run: RunConfig,
    datasets: BTreeMap<String, MakeShard>,
    on_report: Option<OnReport>,
}

/// What a run came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainResult {
    /// The metrics of the last report; empty if there was none.
    pub metrics: BTreeMap<String, f64>,
    /// The last complete checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// All reports, in order; those of iterations that were repeated after a failure appear once.
    pub history: Vec<Report>,
    /// The failures the run survived.
    pub failures: Vec<Failure>,
    /// The directory or URL of the checkpoints.
    pub storage: String,
    /// Whether [`Trainer::on_report`] ended the run before the training function did.
    pub stopped: bool,
}

impl<C: Send + Sync + 'static> Trainer<C> {
    /// A trainer of one rank; `train` gets `config` on every rank.
    pub fn new(
        train: impl Fn(&mut TrainContext, &C) -> Result<(), BoxError> + Send + Sync + 'static,
        config: C,
    ) -> Self {
        Self {
            train: Arc::new(train),
            config: Arc::new(config),
            scaling: ScalingConfig::default(),
            run: RunConfig::default(),
            datasets: BTreeMap::new(),
            on_report: None,
        }
    }

    /// Sets how wide the run is.
    pub fn scaling(mut self, scaling: ScalingConfig) -> Self {
        self.scaling = scaling;
        self
    }

    /// Sets where the run keeps its results and what it survives.
    pub fn run_config(mut self, run: RunConfig) -> Self {
        self.run = run;
        self
    }

    /// Adds a dataset: `shard(rank, world)` makes one rank's part of it, again after each restart.
    pub fn dataset(
        mut self,
        name: impl Into<String>,
        shard: impl Fn(usize, usize) -> Result<Box<dyn BatchSource>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.datasets.insert(name.into(), Arc::new(shard));
        self
    }

    /// Calls `tell` with each report, on rank 0's thread; `ControlFlow::Break` ends the run early, which is no failure.
    pub fn on_report(mut self, tell: impl Fn(&Report) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        self.on_report = Some(Arc::new(tell));
        self
    }

    /// Runs to the end; blocks. The error of a run that was given up says which rank failed, why, and what was tried.
    pub fn fit(self) -> Result<TrainResult> {
        self.scaling.validate()?;
        let record = Arc::new(Record::new(&self.run, self.datasets, self.on_report)?);
        let runtime = Runtime::start()?;
        let (train, config) = (self.train, self.config);
        let work: ranks::Work = Arc::new(move |context| train(context, &config));
        run::attempts(&self.run, &record, || {
            ranks::run(&runtime, &self.run.name, self.scaling.num_workers, &work, &record)
        })
    }

    /// As [`fit`](Self::fit), with every report judged by `reporter` on the calling thread: a tuner's trial is one.
    pub fn fit_reporting(mut self, reporter: &mut dyn Reporter) -> Result<TrainResult> {
        let also = self.on_report.take();
        run::reporting(reporter, also, |tell| Self { on_report: Some(tell), ..self }.fit())
    }
}

impl TrainResult {
    pub(crate) fn new(record: &Record, failures: Vec<Failure>) -> Self {
        let history = record.history();
        Self {
            metrics: history.last().map(|report| report.metrics.clone()).unwrap_or_default(),
            checkpoint: record.latest(),
            history,
            failures,
            storage: record.location.clone(),
            stopped: record.is_stopped(),
        }
    }
}

impl<C: std::fmt::Debug> std::fmt::Debug for Trainer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("config", &self.config)
            .field("scaling", &self.scaling)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
