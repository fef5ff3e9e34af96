//! [`Tally`]: what an operator of ours counts of its rows, and what waits in its queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use futures::{Stream, StreamExt};

use crate::memory::{Watch, batch_bytes};

/// The name under which we count bytes: of a slice its own, where the engine's `output_bytes` counts all of its buffers.
pub(crate) const BYTES: &str = "bytes";

/// Shared by all partitions of one operator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    metrics: ExecutionPlanMetricsSet,
    pub(crate) watch: Arc<Watch>,
    /// How many exchanges lie between this operator and the consumer.
    stage: Arc<AtomicUsize>,
}

impl Tally {
    /// A stream whose rows are counted.
    pub(crate) fn count<S>(&self, stream: S) -> impl Stream<Item = Result<RecordBatch>> + Send + use<S>
    where
        S: Stream<Item = Result<RecordBatch>> + Send,
    {
        // One number for all partitions: a hundred thousand of them would be a hundred thousand numbers.
        let rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let bytes = MetricBuilder::new(&self.metrics).counter(BYTES, 0);
        stream.inspect(move |item| {
            if let Ok(batch) = item {
                rows.add(batch.num_rows());
                bytes.add(batch_bytes(batch));
            }
        })
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
