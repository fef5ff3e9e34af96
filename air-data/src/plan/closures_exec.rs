//! `ClosuresExec`: runs a chain of user functions over a stream of batches.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{Stream, StreamExt};

use super::closures::chain;
use super::op::{Block, FailureKind, Op, OpFailure, conform};
use super::properties;
use super::tally::BYTES;
use crate::error::{DataError, Place};
use crate::memory::batch_bytes;
use crate::session::{AbortOnDrop, panic_message};

/// Runs a chain of user functions over each partition, in order, several batches at once.
#[derive(Clone)]
pub(crate) struct ClosuresExec {
    input: Arc<dyn ExecutionPlan>,
    ops: Vec<Arc<dyn Op>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ClosuresExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, ops: Vec<Arc<dyn Op>>) -> Self {
        let schema = ops.iter().fold(input.schema(), |schema, op| op.schema(&schema));
        let properties = properties(schema, input.output_partitioning().partition_count());
        Self { input, ops, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for ClosuresExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClosuresExec: {}", chain(&self.ops))
    }
}

impl DisplayAs for ClosuresExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClosuresExec: {}", chain(&self.ops))
    }
}

impl ExecutionPlan for ClosuresExec {
    fn name(&self) -> &'static str {
        "ClosuresExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // Not in the engine's sense, see `keep_order.rs`.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return datafusion::common::internal_err!("closures need an input");
        };
        Ok(Arc::new(Self::new(input, self.ops.clone())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(
                datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute,
            ),
        )
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn supports_limit_pushdown(&self) -> bool {
        self.ops.iter().all(|op| op.keeps_count())
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        if self.supports_limit_pushdown() { CardinalityEffect::Equal } else { CardinalityEffect::Unknown }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let width = context.session_config().target_partitions();
        let input = self.input.execute(partition, context)?;
        let chain = Arc::new(Chain {
            ops: self.ops.clone(),
            schema: self.schema(),
            partition,
            file: single_file(&self.input, partition),
        });
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let bytes = MetricBuilder::new(&self.metrics).counter(BYTES, partition);
        let stream = run(input, chain, width, metrics, bytes);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Each batch is worked on as a task of its own, `width` of them at once, and comes out in its turn.
fn run(
    input: SendableRecordBatchStream,
    chain: Arc<Chain>,
    width: usize,
    metrics: BaselineMetrics,
    bytes: Count,
) -> impl Stream<Item = Result<RecordBatch>> {
    let mut seen = 0_u64;
    let elapsed = metrics.elapsed_compute().clone();
    input
        .map(move |batch| {
            let chain = chain.clone();
            let elapsed = elapsed.clone();
            let first = seen;
            seen += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            async move {
                let batch = batch?;
                if width < 2 {
                    let _timer = elapsed.timer();
                    return chain.apply(batch, first).map_err(DataFusionError::from);
                }
                let mut task = AbortOnDrop(tokio::spawn(async move {
                    let _timer = elapsed.timer();
                    chain.apply(batch, first)
                }));
                match (&mut task.0).await {
                    Ok(result) => result.map_err(DataFusionError::from),
                    Err(error) => Err(DataFusionError::ExecutionJoin(Box::new(error))),
                }
            }
        })
        .buffered(width.max(1))
        .filter(move |batch| {
            if let Ok(batch) = batch {
                metrics.record_output(batch.num_rows());
                bytes.add(batch_bytes(batch));
            }
            // A filter that keeps nothing makes empty batches, which help nobody downstream.
            futures::future::ready(batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
        })
}

/// What every batch of one partition goes through.
struct Chain {
    ops: Vec<Arc<dyn Op>>,
    schema: arrow::datatypes::SchemaRef,
    partition: usize,
    file: Option<String>,
}

impl Chain {
    fn apply(&self, batch: RecordBatch, first: u64) -> std::result::Result<RecordBatch, DataError> {
        let rows = batch.num_rows() as u64;
        // Row numbers are those of the chain's input; after a step that changes their count only the range is known.
        let mut exact = true;
        let place = |row: Option<usize>| Place {
            file: self.file.clone(),
            partition: self.partition,
            rows: match row {
                Some(row) => first + row as u64..first + row as u64 + 1,
                None => first..first + rows,
            },
        };
        let mut block = Block::Batch(batch);
        for op in &self.ops {
            block = match catch_unwind(AssertUnwindSafe(|| op.apply(block))) {
                Ok(Ok(block)) => block,
                Ok(Err(failure)) => {
                    return Err(describe(failure, op.name(), |row| place(row.filter(|_| exact))));
                }
                Err(panic) => {
                    let message = panic_message(&*panic);
                    return Err(DataError::Panicked {
                        op: op.name().to_owned(),
                        place: place(None),
                        message,
                    });
                }
            };
            exact &= op.keeps_count();
        }
        let last = self.ops.last().map_or("closures", |op| op.name());
        let batch = block.into_batch("rows").map_err(|failure| describe(failure, last, |_| place(None)))?;
        conform(batch, &self.schema).map_err(|source| {
            let op = last.to_owned();
            DataError::Row { op, type_name: "RecordBatch", place: place(None), source }
        })
    }
}

fn describe(failure: OpFailure, op: &str, place: impl Fn(Option<usize>) -> Place) -> DataError {
    let (op, place) = (op.to_owned(), place(failure.row));
    match failure.kind {
        FailureKind::User(source) => DataError::Closure { op, place, source },
        FailureKind::Rows { type_name, source } => DataError::Row { op, type_name, place, source },
    }
}

/// The file that a partition reads, when it reads exactly one from its beginning.
pub(super) fn single_file(plan: &Arc<dyn ExecutionPlan>, partition: usize) -> Option<String> {
    let scan = plan.downcast_ref::<DataSourceExec>()?;
    let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
    match config.file_groups.get(partition)?.files() {
        [file] if file.range.as_ref().is_none_or(|range| range.start == 0) => {
            Some(file.object_meta.location.to_string())
        }
        _ => None,
    }
}
