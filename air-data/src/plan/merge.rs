//! `OrderedMergeExec`: all partitions as one, in their order; and the rule that puts it where DataFusion would merge them
//! in any order.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;

use super::properties;
use super::tally::Tally;
use crate::exchange::{Room, ordered};

/// All partitions of its input as one, partition after partition.
#[derive(Debug, Clone)]
pub(crate) struct OrderedMergeExec {
    input: Arc<dyn ExecutionPlan>,
    fetch: Option<usize>,
    room: Room,
    pub(crate) tally: Tally,
    properties: Arc<PlanProperties>,
}

impl OrderedMergeExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, fetch: Option<usize>, room: Room) -> Self {
        let properties = properties(input.schema(), 1);
        Self { input, fetch, room, tally: Tally::default(), properties }
    }
}

/// All partitions of `plan` as one, in their order.
pub(crate) fn merge(plan: Arc<dyn ExecutionPlan>, room: Room) -> Arc<dyn ExecutionPlan> {
    Arc::new(OrderedMergeExec::new(plan, None, room))
}

impl DisplayAs for OrderedMergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderedMergeExec: window={}, bytes={}", self.room.window, self.room.bytes)?;
        self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
    }
}

impl ExecutionPlan for OrderedMergeExec {
    fn name(&self) -> &'static str {
        "OrderedMergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        let Some(input) = children.pop() else { return internal_err!("a merge needs an input") };
        Ok(Arc::new(Self::new(input, self.fetch, self.room)))
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

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stage = self.tally.stage();
        let room = Room { cautious: self.fetch.is_some(), stage, ..self.room };
        let watch = Some(self.tally.watch.clone());
        let merged =
            ordered(self.input.clone(), context, room, watch).map(|item| item.map(|(_, batch)| batch));
        let mut left = self.fetch.unwrap_or(usize::MAX);
        // The scan ends as soon as nothing is left to take, which drops, and so stops, the partitions under way.
        let limited = merged.scan((), move |(), item| {
            if left == 0 {
                return futures::future::ready(None);
            }
            futures::future::ready(Some(item.map(|batch| {
                let batch = if batch.num_rows() > left { batch.slice(0, left) } else { batch };
                left -= batch.num_rows();
                batch
            })))
        });
        let counted = self.tally.count(limited);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.tally.metrics())
    }
}

/// Replaces every `CoalescePartitionsExec`, whose output order depends on timing.
#[derive(Debug)]
pub(crate) struct OrderedMerges {
    pub(crate) window: usize,
    pub(crate) bytes: usize,
}

impl PhysicalOptimizerRule for OrderedMerges {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(merge) = node.downcast_ref::<CoalescePartitionsExec>() else {
                return Ok(Transformed::no(node));
            };
            let (input, fetch) = (merge.input().clone(), ExecutionPlan::fetch(merge));
            if input.output_partitioning().partition_count() == 1 && fetch.is_none() {
                return Ok(Transformed::yes(input));
            }
            let room = Room { window: self.window, bytes: self.bytes, cautious: false, stage: 2 };
            Ok(Transformed::yes(Arc::new(OrderedMergeExec::new(input, fetch, room)) as _))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "ordered_merges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
