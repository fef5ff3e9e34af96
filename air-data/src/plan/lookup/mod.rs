//! [`Lookup`]: a join whose one side is held once, and looked up for each row of the other; and the rule that puts it where DataFusion would
//! do so.
//!
//! DataFusion gathers every column of both sides anew, row by row, as pairs of any number may come out of a row. Mostly one does, or none: the
//! key of a table that is joined occurs there once. Then the rows that are streamed pass as they are, with nothing copied, or filtered, and
//! only the columns of the held side are gathered. For a single key of whole numbers; all else is left to DataFusion.

mod held;
mod places;
mod wanted;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, JoinType, NullEquality, Result};
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, lit};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use futures::future::{BoxFuture, Shared, ready};
use futures::stream::{BoxStream, iter, once, try_unfold};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};

use self::held::{Held, Joined, Shape};
use self::places::Keys;
use super::node::{Job, NodeExec, Operator};

/// What comes out of the rows that are streamed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Each with each of its partners.
    Inner,
    /// So, and the ones without a partner.
    Outer,
    /// The ones that have a partner, as they are.
    Semi,
    /// The ones that have none.
    Anti,
}

impl Kind {
    fn of(join: JoinType) -> Option<Self> {
        match join {
            JoinType::Inner => Some(Self::Inner),
            JoinType::Right => Some(Self::Outer),
            JoinType::RightSemi => Some(Self::Semi),
            JoinType::RightAnti => Some(Self::Anti),
            _ => None,
        }
    }

    fn has_partners(self) -> bool {
        matches!(self, Self::Inner | Self::Outer)
    }
}

/// The side that is held, once it is there.
type Reading = Shared<BoxFuture<'static, std::result::Result<Arc<Held>, Arc<DataFusionError>>>>;

/// A join of its second input, block by block, with its first one, which is held.
pub(super) struct Lookup {
    shape: Arc<Shape>,
    held_key: Arc<dyn PhysicalExpr>,
    known: EquivalenceProperties,
    /// What rows must be to come out, once it is known, where all others are left out.
    wanted: Option<Arc<DynamicFilterPhysicalExpr>>,
    held: OnceLock<Reading>,
}

impl Lookup {
    /// What a join of DataFusion's does, where it can be done so.
    fn of(join: &HashJoinExec) -> Option<Self> {
        let kind = Kind::of(*join.join_type())?;
        let ([(held_key, key)], PartitionMode::CollectLeft) = (join.on(), join.partition_mode()) else {
            return None;
        };
        let (left, right) = (join.left().schema(), join.right().schema());
        let types = (held_key.data_type(&left).ok()?, key.data_type(&right).ok()?);
        let more = join.filter().is_some() || ExecutionPlan::fetch(join).is_some() || join.null_aware;
        if more || types.0 != types.1 || !Keys::are(&types.0) {
            return None;
        }
        if join.null_equality() != NullEquality::NullEqualsNothing {
            return None;
        }
        let (_, mut columns) = build_join_schema(&left, &right, join.join_type());
        if let Some(chosen) = &join.projection {
            columns = chosen.iter().map(|index| columns[*index].clone()).collect();
        }
        let shape = Shape { kind, key: key.clone(), columns, schema: join.schema() };
        let known = join.properties().eq_properties.clone();
        Some(Self::new(Arc::new(shape), held_key.clone(), known))
    }

    fn new(shape: Arc<Shape>, held_key: Arc<dyn PhysicalExpr>, known: EquivalenceProperties) -> Self {
        let wanted = matches!(shape.kind, Kind::Inner | Kind::Semi)
            .then(|| Arc::new(DynamicFilterPhysicalExpr::new(vec![shape.key.clone()], lit(true))));
        Self { shape, held_key, known, wanted, held: OnceLock::new() }
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, held_key, .. } = self;
        write!(f, "look up, kind={:?}, held={held_key}, key={}", shape.kind, shape.key)
    }
}

impl Operator for Lookup {
    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef> {
        Ok(self.shape.schema.clone())
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs.last().copied().unwrap_or(1)
    }

    fn fresh(&self) -> Option<Arc<dyn Operator>> {
        let (shape, held_key) = (self.shape.clone(), self.held_key.clone());
        Some(Arc::new(Self::new(shape, held_key, self.known.clone())))
    }

    fn filter(&self) -> Option<(usize, Arc<dyn PhysicalExpr>)> {
        self.wanted.clone().map(|wanted| (1, wanted as _))
    }

    fn known(&self) -> Option<&EquivalenceProperties> {
        Some(&self.known)
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let held = self.held.get_or_init(|| {
            let read = Held::read(job.inputs[0].clone(), self.held_key.clone(), job.context.clone());
            let (key, schema, wanted) = (self.shape.key.clone(), job.inputs[1].schema(), self.wanted.clone());
            let read = async move {
                let (held, keys) = read.await?;
                if let Some(filter) = wanted {
                    filter.update(wanted::wanted(&keys, &key, &schema)?)?;
                    filter.mark_complete();
                }
                Ok(Arc::new(held))
            };
            read.map(|read| read.map_err(Arc::new)).boxed().shared()
        });
        let (held, shape, busy) = (held.clone(), self.shape.clone(), job.tally.busy());
        let (rows, most_rows) = (job.input(1, job.index)?, job.context.session_config().batch_size());
        let schema = job.schema;
        let joined = async move {
            let held = held.await.map_err(DataFusionError::Shared)?;
            Ok::<_, DataFusionError>(rows.and_then(move |batch| {
                let _timer = busy.timer();
                let joined = Joined::new(held.clone(), shape.clone(), batch, most_rows);
                let busy = busy.clone();
                let timed = move |mut joined: Joined| {
                    std::iter::from_fn(move || {
                        let _timer = busy.timer();
                        joined.next()
                    })
                };
                ready(joined.map(|joined| iter(timed(joined))))
            }))
        };
        Ok(packed(once(joined).try_flatten().try_flatten(), schema, most_rows).boxed())
    }
}

/// Small batches become larger ones; those of half of `rows` or more pass as they are.
fn packed(
    batches: impl Stream<Item = Result<RecordBatch>> + Send,
    schema: SchemaRef,
    rows: usize,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let packing = BatchCoalescer::new(schema, rows).with_biggest_coalesce_batch_size(Some(rows / 2));
    try_unfold((Box::pin(batches.fuse()), packing), |(mut batches, mut packing)| async move {
        loop {
            if let Some(batch) = packing.next_completed_batch() {
                return Ok(Some((batch, (batches, packing))));
            }
            match batches.next().await.transpose()? {
                Some(batch) => packing.push_batch(batch)?,
                None if packing.is_empty() => return Ok(None),
                None => packing.finish_buffered_batch()?,
            }
        }
    })
}

/// Puts lookups where hash joins hold a side.
#[derive(Debug)]
pub(super) struct Lookups;

impl PhysicalOptimizerRule for Lookups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let Some(lookup) = Lookup::of(join) else { return Ok(Transformed::no(node)) };
            let operator: Arc<dyn Operator> = Arc::new(lookup);
            let inputs = vec![join.left().clone(), join.right().clone()];
            Ok(Transformed::yes(Arc::new(NodeExec::new(&operator, inputs)?) as _))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "lookups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
