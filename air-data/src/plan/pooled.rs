//! [`Pooled`]: a worker pool as an operator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use air_core::resource::Resources;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::physical_plan::metrics::{Count, Gauge, MetricBuilder, Time};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use super::node::{Job, NodeExec, Operator};
use super::origin::Origin;
use super::tally::Tally;
use super::whole::any_order;
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

/// A pool's workers over all rows of its input: all partitions in, one stream out.
pub(crate) struct Pooled {
    pool: Arc<Pool>,
    stateful: Arc<dyn Stateful>,
    skipped: Arc<Mutex<Vec<SkippedBatch>>>,
}

impl Pooled {
    pub(crate) fn new(pool: Arc<Pool>, stateful: Arc<dyn Stateful>) -> Self {
        Self { pool, stateful, skipped: Arc::default() }
    }
}

impl fmt::Display for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map_batches, {}", self.pool)
    }
}

impl Operator for Pooled {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(self.pool.schema.clone().unwrap_or_else(|| only.clone()))
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn holds(&self) -> Resources {
        let (mut held, workers) = (Resources::new(), self.pool.min as f64);
        held.cpu = self.pool.resources.cpu * workers;
        held.gpu = self.pool.resources.gpu * workers;
        held
    }

    fn fresh(&self) -> Option<Arc<dyn Operator>> {
        Some(Arc::new(Self::new(self.pool.clone(), self.stateful.clone())))
    }

    fn skipped(&self) -> Vec<SkippedBatch> {
        self.skipped.lock().clone()
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let Some(workers) = job.context.session_config().get_extension::<Workers>() else {
            return internal_err!("a pool runs in a session of air-data only");
        };
        let runtime = workers.runtime().map_err(DataFusionError::from)?;
        let budget = Budget::of(&job.context);
        let (stage, input) = (job.tally.stage(), job.inputs[0].clone());
        let room = Room {
            window: job.context.session_config().target_partitions() + 1,
            bytes: workers.prefetch_bytes(),
            cautious: false,
            stage: stage.saturating_add(1),
            any_order: any_order(&input),
        };
        let account = Account::open(&budget, stage, room.bytes, Some(job.tally.watch.clone()));
        let (sender, receiver) = lane(account);
        self.skipped.lock().clear();
        let partitions = input.output_partitioning().partition_count();
        let work = Drive {
            pool: self.pool.clone(),
            stateful: self.stateful.clone(),
            runtime,
            budget,
            room_bytes: room.bytes,
            schema_in: input.schema(),
            schema_out: job.schema,
            files: (0..partitions).map(|block| Some(Origin::of(&input, block)?.file)).collect(),
            skipped: self.skipped.clone(),
            report: Box::new(Counted::new(job.tally)),
        };
        let input = ordered(input, job.context, room, None).boxed();
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
        Ok(stream.flatten().boxed())
    }
}

/// Checks that all pools of a plan can have what they hold at the same time: those that wait for each other's share would wait for ever.
pub(crate) fn check_pools(plan: &Arc<dyn ExecutionPlan>, state: &SessionState) -> crate::error::Result<()> {
    let (mut cpu, mut gpu) = (0.0, 0.0);
    plan.apply(|node| {
        if let Some(node) = node.downcast_ref::<NodeExec>() {
            let held = node.operator().holds();
            cpu += held.cpu;
            gpu += held.gpu;
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
            busy: tally.busy(),
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
