//! [`ProcessTrainer`]: any program as the ranks of a run, whatever framework it uses.
//!
//! Each rank finds `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, `TF_CONFIG` and `AIR_SEED` in its
//! environment. A line on rank 0's stdout that is a JSON object with numbers is a report; with a key `checkpoint`, the path of a
//! file or directory it has finished writing, that is kept as a checkpoint. After a failure all ranks are started again, with
//! `AIR_CHECKPOINT` naming the directory of the last complete one.
//!
//! A rank that exits with another code than 0, or by a signal, ends all others at once. Ranks are whole process groups; none
//! outlives the run, nor this process, however it dies.

mod env;
mod group;
mod output;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use air_core::report::Reporter;

use crate::record::{OnReport, Record, Report};
use crate::{Result, RunConfig, ScalingConfig, TrainError, TrainResult, run};

type Relay = Arc<dyn Fn(usize, bool, &str) + Send + Sync>;

/// Runs a command on every rank.
pub struct ProcessTrainer {
    job: Job,
    scaling: ScalingConfig,
    run: RunConfig,
    on_report: Option<OnReport>,
}

/// What is started on each rank.
struct Job {
    command: Vec<String>,
    env: Vec<(String, String)>,
    world: usize,
    relay: Relay,
}

impl ProcessTrainer {
    /// A trainer of one rank; the command's first word is the program, looked up in `PATH`.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let relay: Relay = Arc::new(|rank, _, text| eprintln!("[rank {rank}] {text}"));
        let command = command.into_iter().map(Into::into).collect();
        Self {
            job: Job { command, env: Vec::new(), world: 1, relay },
            scaling: ScalingConfig::default(),
            run: RunConfig::default(),
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

    /// Adds a variable to every rank's environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.job.env.push((name.into(), value.into()));
        self
    }

    /// Takes each line the ranks print: the rank, whether it came from stderr, and the line. The default writes it to our
    /// stderr with the rank before it.
    pub fn relay(mut self, take: impl Fn(usize, bool, &str) + Send + Sync + 'static) -> Self {
        self.job.relay = Arc::new(take);
        self
    }

    /// Calls `tell` with each report; `ControlFlow::Break` ends the run early, which is no failure.
    pub fn on_report(mut self, tell: impl Fn(&Report) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        self.on_report = Some(Arc::new(tell));
        self
    }

    /// Runs to the end; blocks.
    pub fn fit(mut self) -> Result<TrainResult> {
        self.scaling.validate()?;
        if self.job.command.is_empty() {
            return Err(TrainError::config("command", "is empty"));
        }
        self.job.world = self.scaling.num_workers;
        let record = Record::new(&self.run, BTreeMap::new(), self.on_report)?;
        run::attempts(&self.run, &record, || group::run(&self.job, &record))
    }

    /// As [`fit`](Self::fit), with every report judged by `reporter` on the calling thread: a tuner's trial is one.
    pub fn fit_reporting(mut self, reporter: &mut dyn Reporter) -> Result<TrainResult> {
        let also = self.on_report.take();
        run::reporting(reporter, also, |tell| Self { on_report: Some(tell), ..self }.fit())
    }
}

impl std::fmt::Debug for ProcessTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessTrainer")
            .field("command", &self.job.command)
            .field("scaling", &self.scaling)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
