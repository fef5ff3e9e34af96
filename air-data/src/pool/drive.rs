//! Batches in, batches out: what keeps a pool's workers busy.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use air_core::RuntimeHandle;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;

use super::crew::{Answer, Crew};
use super::decide::{Pace, Tolerance, Turns, Verdict, choose, grow_by, has_room};
use super::options::{Pool, SkippedBatch, Stateful};
use super::rebatch::{Placed, Rebatch};
use crate::error::{DataError, Result};
use crate::exchange::Sender;
use crate::memory::{Account, Budget, Charge, Parcel};

/// Skipped batches that are listed; all are counted.
const LISTED: usize = 1000;

/// What one run of a pool needs.
pub(crate) struct Drive {
    pub(crate) pool: Arc<Pool>,
    pub(crate) stateful: Arc<dyn Stateful>,
    pub(crate) runtime: RuntimeHandle,
    pub(crate) budget: Budget,
    /// Bytes of results that may wait for their turn.
    pub(crate) room_bytes: usize,
    pub(crate) schema_in: SchemaRef,
    pub(crate) schema_out: SchemaRef,
    /// For each partition of the input, the file that it reads.
    pub(crate) files: Vec<Option<String>>,
    pub(crate) skipped: Arc<Mutex<Vec<SkippedBatch>>>,
    pub(crate) report: Box<dyn Report>,
}

/// Who is told how a run goes.
pub(crate) trait Report: Send {
    fn made(&self, took: Duration);
    fn workers(&self, workers: usize, restarts: u64);
    fn retried(&self);
    fn skipped(&self);
}

/// Runs a pool over `input` into `lane`.
pub(crate) async fn drive(
    drive: Drive,
    input: BoxStream<'static, datafusion::common::Result<(usize, RecordBatch)>>,
    mut lane: Sender<datafusion::common::Result<RecordBatch>>,
) {
    if let Err(error) = run(drive, input, &mut lane).await {
        lane.force(Err(DataFusionError::from(error)), Parcel::default());
    }
}

/// A batch with a worker. It is kept until it is done, in case it has to be done again.
struct Task {
    number: u64,
    rank: usize,
    attempts: u32,
    placed: Placed,
    /// It is counted as long as it is kept.
    _charge: Charge,
}

struct Running {
    drive: Drive,
    crew: Crew,
    /// What is with workers or waits for its turn.
    account: Arc<Account>,
    tolerance: Tolerance,
    turns: Turns<(RecordBatch, Charge)>,
    tasks: FuturesUnordered<BoxFuture<'static, (Task, Answer)>>,
    /// Batches with each worker.
    loads: Vec<usize>,
    pace: Pace,
    /// A batch that no worker has yet.
    next: Option<Task>,
    waiting_bytes: usize,
}

enum Step {
    Board,
    Answer(Box<(Task, Answer)>),
    Input(Option<Result<Placed>>),
}

async fn run(
    drive: Drive,
    input: BoxStream<'static, datafusion::common::Result<(usize, RecordBatch)>>,
    lane: &mut Sender<datafusion::common::Result<RecordBatch>>,
) -> Result<()> {
    let mut input =
        cut(input, Rebatch::new(drive.schema_in.clone(), drive.pool.batch_size, drive.files.clone()));
    let crew =
        Crew::start(&drive.runtime, drive.pool.clone(), drive.stateful.clone(), drive.schema_out.clone())?;
    let mut running = Running {
        account: Account::open(&drive.budget, 0, usize::MAX, None),
        tolerance: Tolerance::new(drive.pool.retries, drive.pool.max_errored_blocks),
        turns: Turns::new(drive.pool.ordered),
        tasks: FuturesUnordered::new(),
        loads: vec![0; crew.len()],
        pace: Pace::default(),
        next: None,
        waiting_bytes: 0,
        crew,
        drive,
    };
    let mut ended = false;
    loop {
        while let Some((batch, charge)) = running.turns.pop() {
            let parcel = Parcel::of(&batch);
            running.waiting_bytes = running.waiting_bytes.saturating_sub(parcel.weight());
            // It moves from one account to the other: counted all the time, and once.
            let sent = lane.send(Ok(batch), parcel).await;
            drop(charge);
            if !sent {
                return Ok(());
            }
        }
        running.hand_out()?;
        if ended && running.tasks.is_empty() && running.next.is_none() {
            running.crew.finish();
            return Ok(());
        }
        match running.step(&mut input, ended).await {
            Step::Board => running.look()?,
            Step::Answer(answer) => running.answered(answer.0, answer.1)?,
            Step::Input(Some(placed)) => running.take_on(placed?),
            Step::Input(None) => ended = true,
        }
    }
}

impl Running {
    async fn step(&mut self, input: &mut (impl Stream<Item = Result<Placed>> + Unpin), ended: bool) -> Step {
        poll_fn(|cx| {
            if self.crew.board.poll_changed(cx) {
                return Poll::Ready(Step::Board);
            }
            if let Poll::Ready(Some(answer)) = Pin::new(&mut self.tasks).poll_next(cx) {
                return Poll::Ready(Step::Answer(Box::new(answer)));
            }
            if !ended && self.next.is_none() && has_room(self.waiting_bytes, self.drive.room_bytes) {
                return Pin::new(&mut *input).poll_next(cx).map(Step::Input);
            }
            Poll::Pending
        })
        .await
    }

    /// Each worker's batches, if it has started.
    fn started(&self) -> impl Iterator<Item = Option<usize>> {
        self.loads.iter().enumerate().map(|(rank, load)| self.crew.board.has_started(rank).then_some(*load))
    }

    fn look(&mut self) -> Result<()> {
        self.drive.report.workers(self.crew.len(), self.crew.restarts());
        match self.crew.board.given_up(self.drive.pool.retries) {
            Some(source) => Err(DataError::WorkerStart { op: "map_batches".to_owned(), source }),
            None => Ok(()),
        }
    }

    fn take_on(&mut self, placed: Placed) {
        let charge = self.account.force(Parcel::of(&placed.batch));
        self.next = Some(Task { number: self.turns.number(), rank: 0, attempts: 0, placed, _charge: charge });
    }

    /// Gives the next batch to whoever has the least to do. When nobody is free the pool grows.
    fn hand_out(&mut self) -> Result<()> {
        if self.next.is_none() || !has_room(self.waiting_bytes, self.drive.room_bytes) {
            return Ok(());
        }
        let loads: Vec<Option<usize>> = self.started().collect();
        if let Some(rank) = choose(&loads, self.pace.depth())
            && let Some(task) = self.next.take()
        {
            self.give(task, rank);
            return Ok(());
        }
        let ready = loads.iter().flatten().count();
        let by = grow_by(self.crew.len(), ready, self.drive.pool.max);
        self.crew.grow(by)?;
        self.loads.resize(self.crew.len(), 0);
        Ok(())
    }

    fn give(&mut self, mut task: Task, rank: usize) {
        task.rank = rank;
        task.attempts += 1;
        self.loads[rank] += 1;
        let ask = self.crew.ask(rank, task.placed.batch.clone());
        self.tasks.push(Box::pin(async move {
            let answer = ask.await;
            (task, answer)
        }));
    }

    fn answered(&mut self, task: Task, answer: Answer) -> Result<()> {
        self.loads[task.rank] -= 1;
        let failure = match answer {
            Answer::Made(made) => {
                self.drive.report.made(made.took);
                self.pace.took(made.took);
                self.crew.works();
                let parcel = Parcel::of(&made.batch);
                self.waiting_bytes += parcel.weight();
                let result = (made.batch.num_rows() > 0).then(|| (made.batch, self.account.force(parcel)));
                self.turns.done(task.number, result);
                return Ok(());
            }
            // It was killed before it looked at it: that is no try. Without a runtime there is no other.
            Answer::Gone => {
                let rank = task.rank;
                self.crew.replace(rank)?;
                self.give(Task { attempts: task.attempts - 1, ..task }, rank);
                return Ok(());
            }
            Answer::Failed(failure) => failure,
        };
        match self.tolerance.failed(task.attempts) {
            Verdict::Retry => {
                self.drive.report.retried();
                // The same worker, in its next life.
                let rank = task.rank;
                self.give(task, rank);
                Ok(())
            }
            Verdict::Skip => {
                self.drive.report.skipped();
                let cause: air_core::BoxError = failure.into();
                let cause = air_core::cli::Chain(&*cause).to_string();
                let mut skipped = self.drive.skipped.lock();
                if skipped.len() < LISTED {
                    let places = task.placed.places;
                    skipped.push(SkippedBatch { places, attempts: task.attempts, cause });
                }
                drop(skipped);
                self.turns.done(task.number, None);
                Ok(())
            }
            Verdict::End => Err(DataError::Batch {
                op: "map_batches".to_owned(),
                places: task.placed.places,
                attempts: task.attempts,
                source: failure.into(),
            }),
        }
    }
}

/// The input in the batches of the pool.
fn cut(
    input: BoxStream<'static, datafusion::common::Result<(usize, RecordBatch)>>,
    rebatch: Rebatch,
) -> impl Stream<Item = Result<Placed>> + Unpin {
    let unfold = futures::stream::try_unfold(
        (input, rebatch, false),
        |(mut input, mut rebatch, mut ended)| async move {
            loop {
                if let Some(placed) = rebatch.full()? {
                    return Ok(Some((placed, (input, rebatch, ended))));
                }
                if ended {
                    return Ok(rebatch.rest()?.map(|placed| (placed, (input, rebatch, ended))));
                }
                match input.next().await {
                    Some(item) => {
                        let (partition, batch) = item?;
                        rebatch.push(partition, batch);
                    }
                    None => ended = true,
                }
            }
        },
    );
    Box::pin(unfold)
}
