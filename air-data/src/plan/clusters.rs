//! [`Clusters`]: rows of the same groups close together, below whoever looks their groups up; and the rule that puts it there.
//!
//! An aggregate over many groups looks each row's group up in a table that is larger than the processor's caches: most of its time goes by waiting for
//! memory. So rows are first dealt by their keys' hashes, many at a time, and come cluster by cluster: what the groups of a cluster take fits into the
//! caches (as in radix-partitioned joins: Manegold, Boncz and Kersten, "Optimizing main-memory join on modern hardware", 2002). The rows of
//! a group keep their order.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode, Partitioning};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::node::{Job, NodeExec, Operator};
use super::scatter::Deal;
use super::{sliced, worked};
use crate::memory::batch_bytes;

/// How many clusters there are.
const CLUSTERS: usize = 256;

/// Bytes that are dealt at a time in each partition, at most: more of them make it a tenth faster, and take as much more memory.
const CHUNK_BYTES: usize = 32 << 20;

/// Fewer rows come as they are, as do those of more bytes: there it costs more than it saves.
const FEWEST_ROWS: usize = 64 * CLUSTERS;
const ROW_BYTES: usize = 64;

/// Other bits than the engine takes to deal rows to partitions, or to find them in its tables.
const SEED: RandomState = RandomState::with_seed(0x9e37_79b9_7f4a_7c15);

/// The rows of each block, cluster by cluster.
struct Clusters {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    bytes: usize,
}

impl fmt::Display for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster, bytes={}", self.bytes)
    }
}

impl Operator for Clusters {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    fn keeps_blocks(&self) -> bool {
        true
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let input = job.input(0, job.index)?;
        let memory = MemoryConsumer::new("air-data clusters").register(job.context.memory_pool());
        let (keys, most, batch_rows) =
            (self.keys.clone(), self.bytes, job.context.session_config().batch_size());
        let chunks = futures::stream::try_unfold((input, memory), move |(mut input, memory)| {
            let keys = keys.clone();
            async move {
                let (mut batches, mut rows) = (Vec::new(), 0);
                memory.resize(0);
                while memory.size() < most {
                    let Some(batch) = input.next().await.transpose()? else { break };
                    rows += batch.num_rows();
                    memory.grow(batch_bytes(&batch));
                    batches.push(batch);
                }
                if rows == 0 {
                    return Ok::<_, datafusion::common::DataFusionError>(None);
                }
                if rows >= FEWEST_ROWS && memory.size() <= rows * ROW_BYTES {
                    // Both the rows as they came and as they go, for so long.
                    let bytes = memory.size();
                    memory.grow(bytes);
                    batches = worked(move || clustered(&batches, &keys, batch_rows)).await?;
                    memory.shrink(bytes);
                }
                Ok(Some((futures::stream::iter(batches.into_iter().map(Ok)), (input, memory))))
            }
        });
        Ok(chunks.try_flatten().boxed())
    }
}

/// The same rows, cluster by cluster.
fn clustered(
    batches: &[RecordBatch],
    keys: &[Arc<dyn PhysicalExpr>],
    batch_rows: usize,
) -> Result<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut clusters = Vec::with_capacity(rows);
    let mut hashes = Vec::new();
    for batch in batches {
        let keys = keys.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows()));
        hashes.clear();
        hashes.resize(batch.num_rows(), 0);
        create_hashes(&keys.collect::<Result<Vec<_>>>()?, &SEED, &mut hashes)?;
        clusters.extend(hashes.iter().map(|hash| (hash >> (u64::BITS - CLUSTERS.ilog2())) as u16));
    }
    let deal = Deal::new(CLUSTERS, clusters.into_iter());
    let schema = batches[0].schema();
    let mut clustered = Vec::new();
    for columns in deal.columns(batches)? {
        clustered.extend(sliced(RecordBatch::try_new(schema.clone(), columns)?, batch_rows));
    }
    Ok(clustered)
}

/// Puts [`Clusters`] between an aggregate and the rows that are dealt to it by its keys.
#[derive(Debug)]
pub(crate) struct ClusterGroups {
    /// The memory budget, of which the clusters of each partition take their part.
    pub(crate) budget: usize,
}

impl PhysicalOptimizerRule for ClusterGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let dealt = dealt(&node).map(RepartitionExec::partitioning);
            let (Some(Partitioning::Hash(keys, partitions)), [input]) = (dealt, &node.children()[..]) else {
                return Ok(Transformed::no(node));
            };
            let bytes = (self.budget / (32 * partitions)).min(CHUNK_BYTES);
            let operator: Arc<dyn Operator> = Arc::new(Clusters { keys: keys.clone(), bytes });
            let clusters = NodeExec::new(&operator, vec![Arc::clone(input)])?;
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(node.replace_children(vec![Arc::new(clusters)], options)?))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "cluster_groups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What deals rows to the partitions of an aggregate; unless they come in an order that means something to it, or it may stop early.
fn dealt(plan: &Arc<dyn ExecutionPlan>) -> Option<&RepartitionExec> {
    let aggregate = plan.downcast_ref::<AggregateExec>()?;
    let dealing = aggregate.input().downcast_ref::<RepartitionExec>()?;
    let in_any_order = *aggregate.input_order_mode() == InputOrderMode::Linear
        && plan.required_input_ordering().iter().all(Option::is_none)
        && !dealing.preserve_order();
    (in_any_order && aggregate.limit_options().is_none()).then_some(dealing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{HashMap, HashSet};

    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use datafusion::physical_expr::expressions::col;

    use super::*;

    #[test]
    fn rows_of_a_group_come_close_together_and_in_their_order() {
        let rows = 40_000_i64;
        let key = |row: i64| row * 7919 % 5000;
        let batch = |rows: std::ops::Range<i64>| {
            let key = Int64Array::from_iter_values(rows.clone().map(key));
            let text: StringArray = rows.clone().map(|row| (row % 11 > 0).then(|| row.to_string())).collect();
            let columns: [(&str, ArrayRef); 3] = [
                ("row", Arc::new(Int64Array::from_iter_values(rows))),
                ("key", Arc::new(key)),
                ("text", Arc::new(text)),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let batches = [batch(0..1), batch(1..30_000), batch(30_000..rows)];
        let keys = [col("key", &batches[0].schema()).unwrap()];
        let clustered = clustered(&batches, &keys, 100).unwrap();

        let mut seen: HashMap<i64, i64> = HashMap::new();
        let mut order = Vec::new();
        for batch in &clustered {
            assert!((1..=100).contains(&batch.num_rows()));
            let [numbers, keys] =
                [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>().values());
            for (at, (row, of)) in numbers.iter().zip(keys).enumerate() {
                assert_eq!(*of, key(*row));
                let text = batch.column(2).as_string::<i32>();
                let text = text.is_valid(at).then(|| text.value(at).to_owned());
                assert_eq!(text, (row % 11 > 0).then(|| row.to_string()));
                assert!(
                    seen.insert(*of, *row).is_none_or(|last| last < *row),
                    "rows of a group out of order"
                );
                order.push(*of);
            }
        }
        assert_eq!(order.len(), rows as usize);
        // Rows that lie as far apart as a cluster is long have few groups in common: those of the cluster, of which there are 5000 / 256 or so.
        let most = order.chunks(100).map(|keys| keys.iter().collect::<HashSet<_>>().len()).max();
        assert!(most.unwrap() <= 60, "{most:?}");
    }
}
