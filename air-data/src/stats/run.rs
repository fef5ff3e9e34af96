//! One run of a dataset: what it counts, and what is left of it when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use futures::Stream;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use super::progress::{self, Progress};
use super::report::{OperatorStats, PoolStats, RunState, Stats};
use crate::error::{DataError, Result};
use crate::memory::{Budget, Watch};
use crate::plan::{BYTES, NodeExec, RESTARTS, RETRIES, SKIPPED, WORKERS};
use crate::pool::SkippedBatch;
use crate::session::{AbortOnDrop, Session};

/// Letters of an operator's description that are shown.
const NAME_LENGTH: usize = 72;

/// The last run of a dataset, shared by its clones.
#[derive(Clone, Default)]
pub(crate) struct LastRun(Arc<Mutex<Option<Arc<Run>>>>);

impl LastRun {
    /// Begins a run, and draws its progress where that is wanted.
    pub(crate) fn begin(&self, session: &Session, plan: &Arc<dyn ExecutionPlan>) -> RunGuard {
        let run = Arc::new(Run {
            began: Instant::now(),
            budget: session.budget().clone(),
            watch: Arc::default(),
            progress: Progress::default(),
            phase: Mutex::new(Phase::Running(plan.clone())),
        });
        *self.0.lock() = Some(run.clone());
        let drawing = progress::draw(session, &run);
        RunGuard { run, state: RunState::Stopped, _drawing: drawing }
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        let run = self.0.lock().clone()?;
        Some(run.stats())
    }
}

/// One run.
pub(super) struct Run {
    began: Instant,
    budget: Budget,
    watch: Arc<Watch>,
    progress: Progress,
    phase: Mutex<Phase>,
}

enum Phase {
    /// The plan has the numbers. It goes with the run: it may hold blocks.
    Running(Arc<dyn ExecutionPlan>),
    Over(Box<Stats>),
}

impl Run {
    pub(super) fn stats(&self) -> Stats {
        match &*self.phase.lock() {
            Phase::Running(plan) => self.take(plan, RunState::Running),
            Phase::Over(stats) => (**stats).clone(),
        }
    }

    fn take(&self, plan: &Arc<dyn ExecutionPlan>, state: RunState) -> Stats {
        let (mut operators, mut skipped) = (Vec::new(), Vec::new());
        let (queued, peak) = self.watch.bytes();
        if peak > 0 {
            operators.push(OperatorStats {
                name: "consumer's queue".to_owned(),
                queued_bytes: queued as u64,
                queue_peak_bytes: peak as u64,
                ..OperatorStats::default()
            });
        }
        collect(plan, 0, &mut operators, &mut skipped);
        Stats {
            state,
            wall: self.began.elapsed(),
            rows: self.progress.0.load(Ordering::Relaxed),
            operators,
            budget: self.budget.usage(),
            skipped,
        }
    }

    fn end(&self, state: RunState) {
        let mut phase = self.phase.lock();
        let over = match &*phase {
            Phase::Running(plan) => self.take(plan, state),
            Phase::Over(_) => return,
        };
        let running = std::mem::replace(&mut *phase, Phase::Over(Box::new(over)));
        drop(phase);
        drop(running);
    }
}

fn collect(
    plan: &Arc<dyn ExecutionPlan>,
    depth: usize,
    operators: &mut Vec<OperatorStats>,
    skipped: &mut Vec<SkippedBatch>,
) {
    // It only makes way for others now and then.
    if let Some(coop) = plan.downcast_ref::<CooperativeExec>() {
        return collect(coop.input(), depth, operators, skipped);
    }
    let mut operator = OperatorStats { name: name(plan), depth, ..OperatorStats::default() };
    if let Some(metrics) = plan.metrics() {
        let number = |name| named(&metrics, name);
        operator.rows = metrics.output_rows().map(|rows| rows as u64);
        operator.bytes = number(BYTES).or_else(|| number("output_bytes"));
        operator.busy = metrics.elapsed_compute().map(|nanos| Duration::from_nanos(nanos as u64));
        operator.spilled_bytes = metrics.spilled_bytes().unwrap_or(0) as u64;
        operator.pool = number(WORKERS).map(|workers| {
            let count = |name| number(name).unwrap_or(0);
            PoolStats { workers, restarts: count(RESTARTS), retries: count(RETRIES), skipped: count(SKIPPED) }
        });
    }
    if let Some(node) = plan.downcast_ref::<NodeExec>() {
        skipped.extend(node.operator().skipped());
        let (now, peak) = node.tally().watch.bytes();
        (operator.queued_bytes, operator.queue_peak_bytes) = (now as u64, peak as u64);
    }
    operators.push(operator);
    for child in plan.children() {
        collect(child, depth + 1, operators, skipped);
    }
}

fn named(metrics: &MetricsSet, name: &str) -> Option<u64> {
    metrics.sum_by_name(name).map(|value| value.as_usize() as u64)
}

fn name(plan: &Arc<dyn ExecutionPlan>) -> String {
    let line = displayable(plan.as_ref()).one_line().to_string();
    let line = line.trim_end();
    match line.char_indices().nth(NAME_LENGTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A run under way; dropping it ends the run's record.
pub(crate) struct RunGuard {
    run: Arc<Run>,
    state: RunState,
    _drawing: Option<AbortOnDrop<()>>,
}

impl RunGuard {
    pub(crate) fn watch(&self) -> Arc<Watch> {
        self.run.watch.clone()
    }

    /// Counts rows as they go out.
    pub(crate) fn progress(&self) -> &Progress {
        &self.run.progress
    }

    /// It came to its end, or to this error.
    pub(crate) fn ended(&mut self, error: Option<&DataError>) {
        self.state = match error {
            None => RunState::Finished,
            Some(error) => RunState::Failed(error.to_string()),
        };
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, RunState::Stopped);
        self.run.end(state);
    }
}

/// A stream whose run is recorded: its rows, its end, its error.
pub(crate) fn recorded(
    stream: BoxStream<'static, Result<RecordBatch>>,
    guard: RunGuard,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    Recorded { stream, guard: Some(guard) }
}

struct Recorded {
    stream: BoxStream<'static, Result<RecordBatch>>,
    guard: Option<RunGuard>,
}

impl Stream for Recorded {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.stream.as_mut().poll_next(cx);
        let error = match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Ok(batch))) => {
                if let Some(guard) = &this.guard {
                    guard.progress().add(batch.num_rows());
                }
                return polled;
            }
            Poll::Ready(Some(Err(error))) => Some(error),
            Poll::Ready(None) => None,
        };
        // The record ends before whoever takes the rows learns of the end, so that it is whole by then.
        if let Some(mut guard) = this.guard.take() {
            guard.ended(error);
        }
        polled
    }
}
