//! What the ranks of a run share: its reports, its checkpoints, its datasets.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use air_core::BoxError;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::data::BatchSource;
use air_core::seed::Seed;
use air_core::storage::Storage;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Result, RunConfig, TrainError};

/// The most reports kept of one run; older ones are dropped first.
const MAX_REPORTS: usize = 1 << 20;

/// The metrics of one iteration.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Counted from 1 over the whole run, restarts included.
    pub iteration: u64,
    /// What rank 0 reported.
    pub metrics: BTreeMap<String, f64>,
}

/// Makes one rank's shard: its rank and the number of ranks.
pub(crate) type MakeShard = Arc<dyn Fn(usize, usize) -> Result<Box<dyn BatchSource>, BoxError> + Send + Sync>;
pub(crate) type OnReport = Arc<dyn Fn(&Report) -> ControlFlow<()> + Send + Sync>;

pub(crate) struct Record {
    pub seed: Seed,
    pub location: String,
    store: CheckpointStore,
    latest: Mutex<Option<Checkpoint>>,
    history: Mutex<Vec<Report>>,
    stopped: AtomicBool,
    datasets: BTreeMap<String, MakeShard>,
    on_report: Option<OnReport>,
}

impl Record {
    pub(crate) fn new(
        run: &RunConfig,
        datasets: BTreeMap<String, MakeShard>,
        on_report: Option<OnReport>,
    ) -> Result<Self> {
        let location = run.storage.clone().unwrap_or_else(temporary);
        let store = CheckpointStore::open(Storage::open(&location)?, run.checkpoint.clone())?;
        let latest = if run.resume { store.latest()? } else { None };
        Ok(Self {
            seed: Seed::new(run.seed),
            location,
            store,
            latest: Mutex::new(latest),
            history: Mutex::default(),
            stopped: AtomicBool::new(false),
            datasets,
            on_report,
        })
    }

    pub(crate) fn latest(&self) -> Option<Checkpoint> {
        self.latest.lock().clone()
    }

    pub(crate) fn history(&self) -> Vec<Report> {
        self.history.lock().clone()
    }

    /// Forgets the reports after the checkpoint from which the run goes on: they will be made again.
    pub(crate) fn rewind(&self) {
        let step = self.latest().map_or(0, |checkpoint| checkpoint.step());
        self.history.lock().retain(|report| report.iteration <= step);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn save(
        &self,
        iteration: u64,
        metrics: &BTreeMap<String, f64>,
        files: &[(&str, Bytes)],
    ) -> Result<()> {
        let saved = self.store.save(iteration, metrics, files)?;
        *self.latest.lock() = Some(saved);
        Ok(())
    }

    pub(crate) fn report(&self, report: Report) -> ControlFlow<()> {
        let flow = self.on_report.as_ref().map_or(ControlFlow::Continue(()), |tell| tell(&report));
        let mut history = self.history.lock();
        if history.len() == MAX_REPORTS {
            history.remove(0);
        }
        history.push(report);
        if flow.is_break() {
            self.stopped.store(true, Ordering::Release);
        }
        flow
    }

    pub(crate) fn dataset(&self, name: &str, rank: usize, world: usize) -> Result<Box<dyn BatchSource>> {
        let make = self.datasets.get(name).ok_or_else(|| {
            let known = self.datasets.keys().cloned().collect::<Vec<_>>().join(", ");
            TrainError::config(format!("dataset `{name}`"), format!("is not known; there are: {known}"))
        })?;
        make(rank, world).map_err(|source| TrainError::Dataset { name: name.to_owned(), rank, source })
    }
}

/// A name that no other run of this or another process uses; nothing is created before the first checkpoint.
fn temporary() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = format!("air-train-{}-{:x}-{run}", std::process::id(), since.as_nanos());
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}
