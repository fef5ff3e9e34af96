//! The workers of a pool: supervised, restarted with a fresh state.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use air_core::{
    AskError, Backoff, BoxError, CoreError, Cx, Exit, Handle, Mailbox, Message, RuntimeHandle, Spec,
    Supervisor, SupervisorSpec, Worker,
};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::task::AtomicWaker;
use parking_lot::Mutex;

use super::options::{Live, Pool, Stateful, WorkerContext};
use crate::error::{DataError, Result};
use crate::plan::conform;
use crate::session::panic_message;

/// A batch for a worker.
pub(super) struct Job(pub(super) RecordBatch);

/// What a worker made of it, and how long that took.
pub(super) struct Made {
    pub(super) batch: RecordBatch,
    pub(super) took: Duration,
}

impl Message for Job {
    type Reply = Made;
}

pub(super) struct PoolWorker {
    live: Box<dyn Live>,
    schema: SchemaRef,
}

impl Worker for PoolWorker {}

impl Handle<Job> for PoolWorker {
    fn handle(&mut self, Job(batch): Job, cx: &mut Cx<Self>) -> std::result::Result<Made, BoxError> {
        let began = Instant::now();
        let made = self.live.run(batch).and_then(|batch| conform(batch, &self.schema));
        match made {
            Ok(batch) => Ok(Made { batch, took: began.elapsed() }),
            Err(error) => {
                // What a failed call leaves behind is not used again.
                cx.fail(error.to_string());
                Err(error)
            }
        }
    }
}

/// Why a worker did not do its batch.
#[derive(Debug)]
pub(super) enum Failure {
    /// The function returned this.
    Error(BoxError),
    /// The worker ended over it.
    Ended(WorkerEnded),
}

/// A worker that ended over a batch.
#[derive(Debug)]
pub(super) struct WorkerEnded {
    worker: Arc<str>,
    exit: Exit,
}

impl fmt::Display for WorkerEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} {}", self.worker, self.exit)
    }
}

impl std::error::Error for WorkerEnded {}

impl From<Failure> for BoxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => error,
            Failure::Ended(ended) => ended.into(),
        }
    }
}

/// What came of an ask.
pub(super) enum Answer {
    Made(Made),
    Failed(Failure),
    /// The worker has ended for good, and never looked at it.
    Gone,
}

/// What the workers write on: who has started, and what went wrong in starting.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<BoardState>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct BoardState {
    started: Vec<bool>,
    /// Lives that began to build their state and have not said how that ended.
    begun: Vec<bool>,
    /// Failed starts since one succeeded.
    failures: u32,
    last: Option<BoxError>,
    changed: bool,
}

impl Board {
    fn begin(&self, rank: usize) {
        let mut state = self.state.lock();
        let length = state.begun.len().max(rank + 1);
        state.begun.resize(length, false);
        state.started.resize(length, false);
        if std::mem::replace(&mut state.begun[rank], true) {
            state.failures += 1;
            state.last = Some("it hung, or its thread ended".into());
            state.changed = true;
        }
        drop(state);
        self.waker.wake();
    }

    fn end(&self, rank: usize, failed: Option<String>) {
        let mut state = self.state.lock();
        state.begun[rank] = false;
        state.changed = true;
        match failed {
            None => {
                state.started[rank] = true;
                state.failures = 0;
            }
            Some(error) => {
                state.failures += 1;
                state.last = Some(error.into());
            }
        }
        drop(state);
        self.waker.wake();
    }

    /// Whether anything is new; otherwise the task is woken when it is.
    pub(super) fn poll_changed(&self, cx: &std::task::Context<'_>) -> bool {
        self.waker.register(cx.waker());
        std::mem::take(&mut self.state.lock().changed)
    }

    pub(super) fn has_started(&self, rank: usize) -> bool {
        self.state.lock().started.get(rank).copied().unwrap_or(false)
    }

    /// The last error, after more than `limit` failed starts in a row.
    pub(super) fn given_up(&self, limit: u32) -> Option<BoxError> {
        let mut state = self.state.lock();
        if state.failures > limit { state.last.take() } else { None }
    }
}

/// Workers replaced without a batch done in between: by then their runtime has ended.
const MAX_IN_VAIN: usize = 64;

/// A pool's workers; dropping it ends them.
pub(super) struct Crew {
    supervisor: Supervisor,
    pool: Arc<Pool>,
    stateful: Arc<dyn Stateful>,
    schema: SchemaRef,
    workers: Vec<Mailbox<PoolWorker>>,
    pub(super) board: Arc<Board>,
    /// All work is done: the workers end in order.
    finished: bool,
    replaced: u64,
    /// Replaced since a batch was done.
    in_vain: usize,
}

impl Crew {
    /// Starts as many workers as the pool has at first, all at once.
    pub(super) fn start(
        runtime: &RuntimeHandle,
        pool: Arc<Pool>,
        stateful: Arc<dyn Stateful>,
        schema: SchemaRef,
    ) -> Result<Self> {
        // How many failures are too many is for the pool to say, not for the supervisor.
        let spec = SupervisorSpec::new("map_batches").intensity(usize::MAX, Duration::from_secs(10)).backoff(
            Backoff { first: Duration::from_millis(1), max: Duration::from_millis(50), ..Backoff::default() },
        );
        let supervisor = runtime.supervisor(spec).map_err(DataError::Workers)?;
        let mut crew = Self {
            supervisor,
            pool,
            stateful,
            schema,
            workers: Vec::new(),
            board: Arc::default(),
            finished: false,
            replaced: 0,
            in_vain: 0,
        };
        crew.grow(crew.pool.min)?;
        Ok(crew)
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn grow(&mut self, by: usize) -> Result<()> {
        for _ in 0..by {
            let worker = self.hire(self.workers.len())?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Puts another worker in the place of one that has ended for good: it was killed.
    pub(super) fn replace(&mut self, rank: usize) -> Result<()> {
        if self.workers[rank].ended().is_none() {
            // Another of its batches has come back before.
            return Ok(());
        }
        self.in_vain += 1;
        if self.in_vain > MAX_IN_VAIN {
            return Err(DataError::Workers(CoreError::Stopped));
        }
        let worker = self.hire(rank)?;
        self.workers[rank] = worker;
        self.replaced += 1;
        Ok(())
    }

    /// A batch is done: workers do live.
    pub(super) fn works(&mut self) {
        self.in_vain = 0;
    }

    fn hire(&self, rank: usize) -> Result<Mailbox<PoolWorker>> {
        let mut spec = Spec::new(format!("map_batches/{rank}")).capacity(4);
        if self.pool.resources != air_core::resource::Resources::new() {
            spec = spec.resources(self.pool.resources.clone());
        }
        if let Some(limit) = self.pool.stall {
            spec = spec.stall(limit);
        }
        let (board, stateful, schema) = (self.board.clone(), self.stateful.clone(), self.schema.clone());
        let factory = move |cx: &mut Cx<PoolWorker>| {
            let context = WorkerContext { rank, generation: cx.generation(), devices: cx.devices().to_vec() };
            board.begin(rank);
            let built = catch_unwind(AssertUnwindSafe(|| stateful.start(&context)))
                .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(&*panic)).into()));
            board.end(rank, built.as_ref().err().map(|error| air_core::cli::Chain(&**error).to_string()));
            Ok(PoolWorker { live: built?, schema: schema.clone() })
        };
        self.supervisor.spawn(spec, factory).map_err(DataError::Workers)
    }

    /// Has a worker do a batch.
    pub(super) fn ask(
        &self,
        rank: usize,
        batch: RecordBatch,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let worker = self.workers.get(rank).cloned();
        async move {
            let Some(worker) = worker else { return Answer::Gone };
            match worker.ask(Job(batch)).await {
                Ok(made) => Answer::Made(made),
                Err(AskError::Failed(error)) => Answer::Failed(Failure::Error(error)),
                Err(AskError::Died(exit)) => {
                    Answer::Failed(Failure::Ended(WorkerEnded { worker: worker.name().clone(), exit }))
                }
                Err(_) => Answer::Gone,
            }
        }
    }

    /// How often workers were started again.
    pub(super) fn restarts(&self) -> u64 {
        self.replaced + self.workers.iter().map(Mailbox::restarts).sum::<u64>()
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &self.workers {
            if self.finished { worker.stop() } else { worker.kill() }
        }
    }
}
