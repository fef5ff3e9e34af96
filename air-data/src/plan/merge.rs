//! [`Merge`]: all partitions as one, in their order where it means something; and the rule that puts it where DataFusion would merge
//! them in any order.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::node::{Job, NodeExec, Operator};
use crate::exchange::Room;

/// All partitions of its input as one, partition after partition.
struct Merge {
    fetch: Option<usize>,
    room: Room,
}

/// All partitions of `plan` as one, in their order.
pub(crate) fn merge(plan: Arc<dyn ExecutionPlan>, room: Room) -> Result<Arc<dyn ExecutionPlan>> {
    merged(plan, None, room)
}

fn merged(plan: Arc<dyn ExecutionPlan>, fetch: Option<usize>, room: Room) -> Result<Arc<dyn ExecutionPlan>> {
    let operator: Arc<dyn Operator> = Arc::new(Merge { fetch, room });
    Ok(Arc::new(NodeExec::new(&operator, vec![plan])?))
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "merge, window={}, bytes={}", self.room.window, self.room.bytes)?;
        self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
    }
}

impl Operator for Merge {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let merged = job.rows(0, Room { cautious: self.fetch.is_some(), ..self.room });
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
        Ok(limited.boxed())
    }
}

/// Replaces every `CoalescePartitionsExec`, whose output order depends on timing.
#[derive(Debug)]
pub(crate) struct Merges {
    pub(crate) window: usize,
    pub(crate) bytes: usize,
}

impl PhysicalOptimizerRule for Merges {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(merge) = node.downcast_ref::<CoalescePartitionsExec>() else {
                return Ok(Transformed::no(node));
            };
            let (input, fetch) = (merge.input().clone(), ExecutionPlan::fetch(merge));
            if input.output_partitioning().partition_count() == 1 && fetch.is_none() {
                return Ok(Transformed::yes(input));
            }
            let room =
                Room { window: self.window, bytes: self.bytes, cautious: false, stage: 2, any_order: false };
            Ok(Transformed::yes(merged(input, fetch, room)?))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "merges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
