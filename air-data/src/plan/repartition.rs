//! `repartition(n)`: the rows dealt anew into `n` blocks of nearly equal size, in their order.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use super::properties;
use super::tally::Tally;
use crate::blocks::Blocks;
use crate::error::DataError;
use crate::exchange::Room;

/// The rows of `input` in `blocks` blocks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Repartition {
    input: LogicalPlan,
    pub(crate) blocks: usize,
}

impl Repartition {
    pub(crate) fn over(input: LogicalPlan, blocks: usize) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Self { input, blocks }) })
    }
}

impl UserDefinedLogicalNodeCore for Repartition {
    fn name(&self) -> &'static str {
        "Blocks"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks: {}", self.blocks)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("blocks need an input") };
        Ok(Self { input, blocks: self.blocks })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }
}

/// Collects its input (spilling past the memory budget), then gives out each block.
#[derive(Debug)]
pub(crate) struct RepartitionExec {
    input: Arc<dyn ExecutionPlan>,
    blocks: usize,
    collected: Arc<OnceCell<std::result::Result<Arc<Blocks>, Arc<DataError>>>>,
    pub(crate) tally: Tally,
    properties: Arc<PlanProperties>,
}

impl RepartitionExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, blocks: usize) -> Self {
        let properties = properties(input.schema(), blocks);
        Self { input, blocks, collected: Arc::default(), tally: Tally::default(), properties }
    }
}

impl DisplayAs for RepartitionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlocksExec: {}", self.blocks)
    }
}

impl ExecutionPlan for RepartitionExec {
    fn name(&self) -> &'static str {
        "BlocksExec"
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
        let Some(input) = children.pop() else { return internal_err!("blocks need an input") };
        Ok(Arc::new(Self::new(input, self.blocks)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, collected, count) = (self.input.clone(), self.collected.clone(), self.blocks);
        let (stage, watch) = (self.tally.stage(), self.tally.watch.clone());
        let stream = async move {
            let room = Room {
                window: context.session_config().target_partitions() + 1,
                bytes: 64 << 20,
                cautious: false,
                stage,
            };
            let blocks = collected
                .get_or_init(|| async {
                    Blocks::collect(input, context, room, Some(watch))
                        .await
                        .map(Arc::new)
                        .map_err(|e| DataError::from(e).shared())
                })
                .await;
            let blocks = blocks.clone().map_err(|error| DataFusionError::from(DataError::Shared(error)))?;
            let rows = blocks.part(partition, count);
            Ok::<_, DataFusionError>(blocks.read(rows))
        };
        let stream = self.tally.count(futures::stream::once(stream).try_flatten());
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.tally.metrics())
    }
}
