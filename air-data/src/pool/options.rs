//! [`Pool`]: how many workers, what each has of the machine, what happens to a batch that fails.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use air_core::BoxError;
use air_core::device::Device;
use air_core::resource::Resources;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Place, Result};

/// Most workers of a pool.
const MAX_WORKERS: usize = 1024;

/// A pool of workers for [`Dataset::map_batches_with`](crate::Dataset::map_batches_with): threads of their own, each with its own state.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) batch_size: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) resources: Resources,
    pub(crate) retries: u32,
    pub(crate) max_errored_blocks: u64,
    pub(crate) stall: Option<Duration>,
    pub(crate) schema: Option<SchemaRef>,
}

impl Pool {
    /// `workers` workers, all started at once.
    pub fn fixed(workers: usize) -> Self {
        Self {
            min: workers,
            max: workers,
            batch_size: None,
            ordered: true,
            resources: Resources::new(),
            retries: 1,
            max_errored_blocks: 0,
            stall: None,
            schema: None,
        }
    }

    /// At first the range's lower bound, and more, up to its upper one, while batches wait for a worker.
    pub fn growing(workers: RangeInclusive<usize>) -> Self {
        Self { min: *workers.start(), max: *workers.end(), ..Self::fixed(1) }
    }

    /// Rows in each batch, the last one smaller where the number does not divide; batches then span blocks. Without it batches come as
    /// the engine makes them.
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = Some(rows);
        self
    }

    /// Gives out batches as they are done, instead of in the dataset's order. A slow batch then holds up nobody.
    pub fn as_completed(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Processors that each worker holds, out of the runtime's; 0 by default, which holds none back.
    pub fn num_cpus(mut self, processors: f64) -> Self {
        self.resources.cpu = processors;
        self
    }

    /// GPUs that each worker holds: a share of one, or a whole number. They are [`WorkerContext::devices`].
    pub fn num_gpus(mut self, devices: f64) -> Self {
        self.resources.gpu = devices;
        self
    }

    /// How often a batch that failed is tried again, each time in a fresh life of the worker (default 1); and how many failed starts in
    /// a row end the run.
    pub fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// How many batches may fail for good before the run ends with an error (default 0). Those that did are left out, and listed in
    /// [`Stats::skipped`](crate::Stats::skipped).
    pub fn max_errored_blocks(mut self, batches: u64) -> Self {
        self.max_errored_blocks = batches;
        self
    }

    /// How long one batch, or the building of a state, may take before the worker counts as hung and is replaced (default: for ever).
    pub fn stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// The columns that the function returns; its input's by default.
    pub fn returns(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |field, reason: String| Err(DataError::Config { field, reason });
        if self.min < 1 || self.max < self.min || self.max > MAX_WORKERS {
            let reason = format!("between 1 and {MAX_WORKERS} workers, not {}..={}", self.min, self.max);
            return refuse("pool", reason);
        }
        if self.batch_size == Some(0) {
            return refuse("batch_size", "a batch has at least one row".to_owned());
        }
        if self.stall.is_some_and(|limit| limit.is_zero()) {
            return refuse("stall", "a limit of zero would replace every worker".to_owned());
        }
        match self.resources.validate() {
            Ok(()) => Ok(()),
            Err(error) => refuse("pool", error.to_string()),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "workers={}", self.min)?;
        } else {
            write!(f, "workers={}..={}", self.min, self.max)?;
        }
        if let Some(rows) = self.batch_size {
            write!(f, ", batch_size={rows}")?;
        }
        if self.resources != Resources::new() {
            write!(f, ", each {}", self.resources)?;
        }
        f.write_str(if self.ordered { "" } else { ", as completed" })
    }
}

/// What a worker knows of itself when its state is built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerContext {
    /// Which worker of the pool, from 0.
    pub rank: usize,
    /// Which life of it: 1 at first, one more after each failure.
    pub generation: u64,
    /// The GPUs it holds, and no others; see [`Pool::num_gpus`].
    pub devices: Vec<Device>,
}

/// A batch that failed as often as it may and was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkippedBatch {
    /// Where its rows came from.
    pub places: Vec<Place>,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last try came to.
    pub cause: String,
}

/// What builds a worker's state.
pub(crate) trait Stateful: Send + Sync {
    fn start(&self, worker: &WorkerContext) -> std::result::Result<Box<dyn Live>, BoxError>;
}

/// A state and its function; it never leaves its thread.
pub(crate) trait Live {
    fn run(&mut self, batch: RecordBatch) -> std::result::Result<RecordBatch, BoxError>;
}
