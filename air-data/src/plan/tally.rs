//! [`Tally`]: what an operator of ours counts of its rows, and what waits in its queues.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use futures::{Stream, StreamExt};

use crate::memory::{Watch, batch_bytes};

/// The name under which we count bytes: of a slice its own, where the engine's `output_bytes` counts all of its buffers.
pub(crate) const BYTES: &str = "bytes";

/// Shared by all partitions of one operator: a hundred thousand of them must not be a hundred thousand numbers.
#[derive(Clone)]
pub(crate) struct Tally {
    metrics: ExecutionPlanMetricsSet,
    rows: Count,
    bytes: Count,
    busy: Arc<OnceLock<Time>>,
    pub(crate) watch: Arc<Watch>,
    /// How many exchanges lie between this operator and the consumer.
    stage: Arc<AtomicUsize>,
}

impl Default for Tally {
    fn default() -> Self {
        let metrics = ExecutionPlanMetricsSet::new();
        Self {
            rows: MetricBuilder::new(&metrics).output_rows(0),
            bytes: MetricBuilder::new(&metrics).counter(BYTES, 0),
            busy: Arc::default(),
            watch: Arc::default(),
            stage: Arc::default(),
            metrics,
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally(stage {}, {} rows)", self.stage(), self.rows.value())
    }
}

impl Tally {
    /// A stream whose rows are counted.
    pub(crate) fn count<S>(&self, stream: S) -> impl Stream<Item = Result<RecordBatch>> + Send + use<S>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        let (rows, bytes) = (self.rows.clone(), self.bytes.clone());
        stream.inspect(move |item| {
            if let Ok(batch) = item {
                rows.add(batch.num_rows());
                bytes.add(batch_bytes(batch));
            }
        })
    }

    /// The time that is spent in the operator, over all threads.
    pub(crate) fn busy(&self) -> Time {
        self.busy.get_or_init(|| MetricBuilder::new(&self.metrics).elapsed_compute(0)).clone()
    }

    pub(crate) fn set(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    pub(crate) fn metrics(&self) -> MetricsSet {
        self.metrics.clone_inner()
    }

    pub(crate) fn stage(&self) -> usize {
        // Before anything numbered it, it is as far as one can be.
        match self.stage.load(Ordering::Relaxed) {
            0 => usize::MAX,
            stage => stage,
        }
    }

    pub(crate) fn set_stage(&self, stage: usize) {
        self.stage.store(stage, Ordering::Relaxed);
    }
}
