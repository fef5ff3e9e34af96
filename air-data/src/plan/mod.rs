//! How a dataset becomes a running plan: our operators as nodes of DataFusion's plan.
//!
//! Each is an `Operator`, which is a [`Node`] in the logical plan and a [`NodeExec`] in the one that runs: chains of user functions
//! ([`Closures`]), worker pools ([`Pooled`]), blocks dealt anew ([`Repartition`]), sorts (`RangeSort`), and so on. Wherever DataFusion would merge partitions
//! in any order, `Merge` keeps theirs.

mod block_order;
mod cells;
mod closures;
mod clusters;
mod groups;
mod joins;
mod keep_order;
mod keep_steps;
mod lookup;
mod merge;
mod mix;
mod node;
mod numbered;
mod op;
mod origin;
mod pieces;
mod planner;
mod pooled;
mod range_sort;
mod repartition;
mod repeatable;
mod scatter;
mod shuffle;
mod spread;
mod stages;
mod tally;
mod whole;
mod zip;

pub(crate) use block_order::BlockOrder;
pub(crate) use closures::Closures;
pub(crate) use clusters::ClusterGroups;
pub(crate) use groups::{GroupFn, MapGroups};
pub(crate) use joins::{row_bytes, rules};
pub(crate) use keep_order::{first, kept, sorted};
pub(crate) use keep_steps::logical_rules;
pub(crate) use merge::{Merges, merge};
pub(crate) use mix::Mix;
pub use mix::MixUntil;
pub(crate) use node::{Node, NodeExec};
pub(crate) use numbered::{Mixer, Numbered, Numbering};
pub(crate) use op::{Filter, FlatMap, Map, MapBatches, Op, conform};
pub(crate) use pieces::ReadInPieces;
pub(crate) use planner::Planner;
pub(crate) use pooled::{Pooled, RESTARTS, RETRIES, SKIPPED, WORKERS, check_pools};
pub(crate) use range_sort::RangeSorts;
pub(crate) use repartition::Repartition;
pub(crate) use repeatable::repeatable;
pub(crate) use shuffle::Shuffle;
pub(crate) use stages::number_stages;
pub(crate) use tally::{BYTES, Tally};
pub(crate) use whole::whole;
pub(crate) use zip::Zip;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{Partitioning, PlanProperties};

use crate::session::AbortOnDrop;

/// The properties of an operator of ours: bounded, incremental, `partitions` blocks of `schema`, each in this order where there is one.
pub(crate) fn properties(
    schema: SchemaRef,
    partitions: usize,
    order: Option<&LexOrdering>,
) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new_with_orderings(schema, order.cloned()),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// A batch in slices of so many rows.
pub(crate) fn sliced(batch: RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> {
    let (all, rows) = (batch.num_rows(), rows.max(1));
    (0..all).step_by(rows).map(move |start| batch.slice(start, rows.min(all - start)))
}

/// Work on one of the session's threads.
async fn worked<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let mut task = AbortOnDrop(tokio::spawn(async move { work() }));
    (&mut task.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}
