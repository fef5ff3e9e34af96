//! [`Pooled`] and `PooledExec`: a worker pool as a node of the plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{Count, Gauge, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;
use parking_lot::Mutex;

use super::closures_exec::single_file;
use super::properties;
use super::tally::Tally;
use crate::error::DataError;
use crate::exchange::{Room, lane, ordered};
use crate::memory::{Account, Budget};
use crate::pool::{Drive, Pool, Report, SkippedBatch, Stateful, Workers, drive};
use crate::session::AbortOnDrop;

/// The names of a pool's numbers among an operator's metrics.
pub(crate) const WORKERS: &str = "workers";
pub(crate) const RESTARTS: &str = "restarts";
pub(crate) const RETRIES: &str = "retries";
pub(crate) const SKIPPED: &str = "skipped";

/// A pool's workers over the rows of `input`.
#[derive(Clone)]
pub(crate) struct Pooled {
    input: LogicalPlan,
    work: Work,
    schema: DFSchemaRef,
}

/// What the workers do.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) pool: Arc<Pool>,
    pub(crate) stateful: Arc<dyn Stateful>,
}

impl Pooled {
    pub(crate) fn over(input: LogicalPlan, work: Work) -> Result<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self::new(input, work)?) }))
    }

    fn new(input: LogicalPlan, work: Work) -> Result<Self> {
        let schema = match &work.pool.schema {
            Some(schema) => Arc::new(DFSchema::try_from(schema.clone())?),
            None => Arc::new(DFSchema::try_from(input.schema().as_arrow().clone())?),
        };
        Ok(Self { input, work, schema })
    }

    pub(crate) fn work(&self) -> &Work {
        &self.work
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

// Functions have no value to compare: a node equals only its own copies.
impl PartialEq for Pooled {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.work.stateful), Arc::as_ptr(&other.work.stateful))
            && self.input == other.input
    }
}

impl Eq for Pooled {}

impl PartialOrd for Pooled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for Pooled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.work.stateful).cast::<()>().hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Pooled {
    fn name(&self) -> &'static str {
        "Pool"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool: map_batches, {}", self.work.pool)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("a pool needs an input") };
        Self::new(input, self.work.clone())
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        None
    }
}

/// Runs a pool: all partitions of its input in, one stream out.
pub(crate) struct PooledExec {
    input: Arc<dyn ExecutionPlan>,
    work: Work,
    pub(crate) tally: Tally,
    pub(crate) skipped: Arc<Mutex<Vec<SkippedBatch>>>,
    properties: Arc<PlanProperties>,
}

impl PooledExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, work: Work) -> Self {
        let schema = work.pool.schema.clone().unwrap_or_else(|| input.schema());
        let properties = properties(schema, 1);
        Self { input, work, tally: Tally::default(), skipped: Arc::default(), properties }
    }
}

impl fmt::Debug for PooledExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolExec: map_batches, {}", self.work.pool)
    }
}

impl DisplayAs for PooledExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolExec: map_batches, {}", self.work.pool)
    }
}

impl ExecutionPlan for PooledExec {
    fn name(&self) -> &'static str {
        "PoolExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.work.pool.ordered]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("a pool needs an input") };
        Ok(Arc::new(Self::new(input, self.work.clone())))
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

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Unknown
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.tally.metrics())
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(workers) = context.session_config().get_extension::<Workers>() else {
            return internal_err!("a pool runs in a session of air-data only");
        };
        let runtime = workers.runtime().map_err(DataFusionError::from)?;
        let budget = Budget::of(&context);
        let room = Room {
            window: context.session_config().target_partitions() + 1,
            bytes: workers.prefetch_bytes(),
            cautious: false,
            stage: self.tally.stage().saturating_add(1),
        };
        let account = Account::open(&budget, self.tally.stage(), room.bytes, Some(self.tally.watch.clone()));
        let (sender, receiver) = lane(account);
        self.skipped.lock().clear();
        let partitions = self.input.output_partitioning().partition_count();
        let work = Drive {
            pool: self.work.pool.clone(),
            stateful: self.work.stateful.clone(),
            runtime,
            budget,
            room_bytes: room.bytes,
            schema_in: self.input.schema(),
            schema_out: self.schema(),
            files: (0..partitions).map(|partition| single_file(&self.input, partition)).collect(),
            skipped: self.skipped.clone(),
            report: Box::new(Counted::new(&self.tally)),
        };
        let input = ordered(self.input.clone(), context, room, None).boxed();
        let stream = futures::stream::once(async move {
            let task = AbortOnDrop(tokio::spawn(drive(work, input, sender)));
            futures::stream::unfold((receiver, Some(task)), |(mut receiver, mut task)| async move {
                if let Some(item) = receiver.recv().await {
                    return Some((item, (receiver, task)));
                }
                // An end without an error may still be a panic.
                let mut ended = task.take()?;
                let error = (&mut ended.0).await.err()?;
                Some((Err(DataFusionError::ExecutionJoin(Box::new(error))), (receiver, None)))
            })
        });
        let stream = self.tally.count(stream.flatten());
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }
}

/// Checks that all pools of a plan can have what they hold at the same time: those that wait for each other's share would wait for ever.
pub(crate) fn check_pools(plan: &Arc<dyn ExecutionPlan>, state: &SessionState) -> crate::error::Result<()> {
    let (mut cpu, mut gpu) = (0.0, 0.0);
    plan.apply(|node| {
        if let Some(pooled) = node.downcast_ref::<PooledExec>() {
            let pool = &pooled.work.pool;
            cpu += pool.resources.cpu * pool.min as f64;
            gpu += pool.resources.gpu * pool.min as f64;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if cpu == 0.0 && gpu == 0.0 {
        return Ok(());
    }
    let Some(workers) = state.config().get_extension::<Workers>() else { return Ok(()) };
    let total = workers.runtime()?.resources().total;
    for (kind, asked, exists) in [("cpu", cpu, total.cpu), ("gpu", gpu, total.gpu)] {
        if asked > exists {
            let reason = format!("its workers hold {asked} {kind} at the same time, and there is {exists}");
            return Err(DataError::Config { field: "pool", reason });
        }
    }
    Ok(())
}

/// Counts into an operator's metrics.
struct Counted {
    busy: Time,
    workers: Gauge,
    restarts: Gauge,
    retries: Count,
    skipped: Count,
}

impl Counted {
    fn new(tally: &Tally) -> Self {
        let metric = || MetricBuilder::new(tally.set());
        Self {
            busy: metric().elapsed_compute(0),
            workers: metric().global_gauge(WORKERS),
            restarts: metric().global_gauge(RESTARTS),
            retries: metric().global_counter(RETRIES),
            skipped: metric().global_counter(SKIPPED),
        }
    }
}

impl Report for Counted {
    fn made(&self, took: Duration) {
        self.busy.add_duration(took);
    }

    fn workers(&self, workers: usize, restarts: u64) {
        self.workers.set(workers);
        self.restarts.set(usize::try_from(restarts).unwrap_or(usize::MAX));
    }

    fn retried(&self) {
        self.retries.add(1);
    }

    fn skipped(&self) {
        self.skipped.add(1);
    }
}
