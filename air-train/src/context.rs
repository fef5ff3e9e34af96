//! A training function's view of its run: who it is, what it reports, where it goes on from.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use air_core::checkpoint::Checkpoint;
use air_core::collective::{Collective, ReduceOp};
use air_core::data::BatchSource;
use air_core::seed::Seed;
use bytes::Bytes;

use crate::nn::Module;
use crate::record::{Record, Report};
use crate::{DataLoader, DataParallel, Result, TrainError};

/// Handed to the training function on every rank; it lives on that rank's thread.
pub struct TrainContext {
    rank: usize,
    world: usize,
    seed: Seed,
    iteration: u64,
    checkpoint: Option<Checkpoint>,
    collective: Rc<RefCell<Collective>>,
    record: Arc<Record>,
}

impl TrainContext {
    pub(crate) fn new(collective: Collective, record: Arc<Record>) -> Self {
        let checkpoint = record.latest();
        Self {
            rank: collective.rank(),
            world: collective.world(),
            seed: record.seed,
            iteration: checkpoint.as_ref().map_or(0, Checkpoint::step),
            checkpoint,
            collective: Rc::new(RefCell::new(collective)),
            record,
        }
    }

    /// The context of a run of one rank in this thread, without a trainer: to call a training function directly.
    pub fn local(seed: u64) -> Result<Self> {
        let run = crate::RunConfig { seed, ..crate::RunConfig::default() };
        let record = Arc::new(Record::new(&run, BTreeMap::new(), None)?);
        match air_core::collective::in_process(1).pop() {
            Some(collective) => Ok(Self::new(collective, record)),
            None => Err(TrainError::config("num_workers", "must be at least 1")),
        }
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn world_size(&self) -> usize {
        self.world
    }

    /// The run's seed, the same on every rank; `seed().child("rank", rank)` differs between ranks.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The checkpoint to go on from, if there is one. Its step is the number of reports before it.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The reports made so far, those before the checkpoint included.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    /// Reports the metrics of one iteration. Every rank calls it; rank 0's metrics are recorded.
    ///
    /// An error means that the run has been stopped; return it.
    pub fn report(&mut self, metrics: &[(&str, f64)]) -> Result<()> {
        self.report_with(metrics, None)
    }

    /// [`report`](Self::report), and saves a checkpoint of these files (rank 0's; the ranks of data-parallel training are
    /// alike). When it returns, the checkpoint is complete.
    pub fn report_checkpoint(&mut self, metrics: &[(&str, f64)], files: &[(&str, Vec<u8>)]) -> Result<()> {
        self.report_with(metrics, Some(files))
    }

    fn report_with(&mut self, metrics: &[(&str, f64)], files: Option<&[(&str, Vec<u8>)]>) -> Result<()> {
        self.iteration += 1;
        if self.record.is_stopped() {
            return Err(TrainError::Stopped);
        }
        if self.rank > 0 {
            return Ok(());
        }
        let metrics: BTreeMap<String, f64> = metrics.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        if let Some(files) = files {
            let files: Vec<_> =
                files.iter().map(|(name, bytes)| (*name, Bytes::from(bytes.clone()))).collect();
            self.record.save(self.iteration, &metrics, &files)?;
        }
        match self.record.report(Report { iteration: self.iteration, metrics }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Stopped),
        }
    }

    /// Makes every rank's parameters those of rank 0, and returns the model ready to average gradients.
    pub fn prepare_model<M: Module>(&self, model: M) -> Result<DataParallel<M>> {
        DataParallel::new(model, Rc::clone(&self.collective))
    }

    /// This rank's shard of `loader`'s rows; a loader that shuffles draws its order from the run's seed.
    pub fn prepare_data_loader(&self, loader: DataLoader) -> DataLoader {
        loader.shard(self.rank, self.world, self.seed.child("data loader", 0))
    }

    /// This rank's shard of a dataset given to [`Trainer::dataset`](crate::Trainer::dataset).
    pub fn dataset_shard(&self, name: &str) -> Result<Box<dyn BatchSource>> {
        self.record.dataset(name, self.rank, self.world)
    }

    /// Waits for all ranks.
    pub fn barrier(&self) -> Result<()> {
        Ok(self.collective.borrow_mut().barrier()?)
    }

    /// The mean of `value` over all ranks, on every rank: for a loss or an accuracy of all shards.
    pub fn mean(&self, value: f64) -> Result<f64> {
        let mut values = [value];
        self.collective.borrow_mut().all_reduce(&mut values, ReduceOp::Mean)?;
        Ok(values[0])
    }
}

impl std::fmt::Debug for TrainContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainContext")
            .field("rank", &self.rank)
            .field("world", &self.world)
            .field("iteration", &self.iteration)
            .finish_non_exhaustive()
    }
}
