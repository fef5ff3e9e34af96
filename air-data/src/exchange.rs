//! The exchange: many partitions in, one ordered stream out, with bounded memory.
//!
//! Each partition runs as its own task and fills a queue of its own; the consumer takes partition 0 to its end, then 1,
//! and so on, so rows keep their order. Only a window of partitions is under way, and each queue has its own share of
//! the bytes, so the partition whose turn it is can always go on: there is nothing to deadlock on.

use std::collections::VecDeque;
use std::sync::Arc;

use air_core::channel::{self, Limit, Receiver, Sender, Weigh};
use arrow::array::{Array, RecordBatch};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use crate::session::{AbortOnDrop, Session, blocking};

/// The room an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Partitions under way at once.
    pub(crate) window: usize,
    /// Bytes of batches that may wait, over all queues.
    pub(crate) bytes: usize,
    /// Start with one partition and add one with each that ended, for consumers that hope to stop early.
    pub(crate) cautious: bool,
}

/// The batches of all partitions, in order, each with its partition's number.
pub(crate) fn ordered(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    room: Room,
) -> impl Stream<Item = Result<(usize, RecordBatch)>> + Send + 'static {
    let exchange = Exchange { plan, context, room, next: 0, ended: 0, open: VecDeque::new() };
    futures::stream::try_unfold(exchange, |mut exchange| async move {
        Ok(exchange.next().await?.map(|item| (item, exchange)))
    })
}

struct Exchange {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    room: Room,
    next: usize,
    ended: usize,
    open: VecDeque<Partition>,
}

struct Partition {
    index: usize,
    queue: Receiver<Item>,
    task: AbortOnDrop<()>,
}

impl Exchange {
    async fn next(&mut self) -> Result<Option<(usize, RecordBatch)>> {
        loop {
            self.fill();
            let Some(first) = self.open.front_mut() else { return Ok(None) };
            if let Ok(Item(item)) = first.queue.recv_async().await {
                return item.map(|batch| Some((first.index, batch)));
            }
            // An end without an error may still be a panic.
            (&mut first.task.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            self.open.pop_front();
            self.ended += 1;
        }
    }

    fn fill(&mut self) {
        let total = self.plan.output_partitioning().partition_count();
        let window =
            if self.room.cautious { (self.ended + 1).min(self.room.window) } else { self.room.window };
        let share = self.room.bytes / self.room.window.min(total).max(1);
        while self.next < total && self.open.len() < window.max(1) {
            let (plan, context, index) = (self.plan.clone(), self.context.clone(), self.next);
            let (sender, queue) = queue(share);
            let task = AbortOnDrop(tokio::spawn(drain(plan, context, index, sender)));
            self.open.push_back(Partition { index, queue, task });
            self.next += 1;
        }
    }
}

/// Runs one partition into its queue. It stops after an error, or when nobody listens any more.
async fn drain(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partition: usize,
    queue: Sender<Item>,
) {
    let mut stream = match plan.execute(partition, context) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = queue.send_async(Item(Err(error))).await;
            return;
        }
    };
    while let Some(item) = stream.next().await {
        let last = item.is_err();
        if queue.send_async(Item(item)).await.is_err() || last {
            return;
        }
    }
}

/// What waits in an exchange.
struct Item(Result<RecordBatch>);

impl Weigh for Item {
    fn weight_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, batch_bytes)
    }
}

/// A queue bounded by its bytes; a batch larger than the whole bound goes alone. The bound in items only keeps batches of
/// no weight from piling up.
fn queue(bytes: usize) -> (Sender<Item>, Receiver<Item>) {
    channel::bounded(Limit { items: 4096, bytes: bytes.max(1) })
}

/// A stream under way on the session's threads, to be taken from any thread.
pub(crate) struct Incoming {
    queue: Receiver<Item>,
    task: Option<AbortOnDrop<()>>,
    /// Its threads do the work.
    _session: Session,
}

impl Incoming {
    /// Starts filling a queue of `bytes`. Must be called on the session's threads.
    pub(crate) fn spawn(
        mut stream: BoxStream<'static, Result<RecordBatch>>,
        bytes: usize,
        session: Session,
    ) -> Self {
        let (sender, queue) = queue(bytes);
        let task = tokio::spawn(async move {
            while let Some(item) = stream.next().await {
                let last = item.is_err();
                if sender.send_async(Item(item)).await.is_err() || last {
                    return;
                }
            }
        });
        Self { queue, task: Some(AbortOnDrop(task)), _session: session }
    }

    /// The next item; `None` at the end.
    pub(crate) fn next_blocking(&mut self) -> Option<Result<RecordBatch>> {
        if let Ok(Item(item)) = blocking(|| self.queue.recv()) {
            return Some(item);
        }
        let mut task = self.task.take()?;
        // An end without an error may still be a panic.
        let ended = blocking(|| air_core::block_on(&mut task.0));
        ended.err().map(|error| Err(DataFusionError::ExecutionJoin(Box::new(error))))
    }
}

/// The bytes of a batch's values: of a slice, only its part of the buffers.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    #[test]
    fn a_slice_weighs_its_own_rows_only() {
        let whole = batch(1000);
        assert_eq!(batch_bytes(&whole), 8000);
        assert_eq!(batch_bytes(&whole.slice(10, 5)), 40);
    }

    #[test]
    fn a_batch_over_the_bound_goes_alone() {
        let (sender, receiver) = queue(1 << 10);
        assert!(sender.try_send(Item(Ok(batch(100_000)))).is_ok());
        assert!(sender.try_send(Item(Ok(batch(1)))).is_err(), "the bound is in bytes");
        assert!(receiver.try_recv().is_ok());
        assert!(sender.try_send(Item(Ok(batch(1)))).is_ok());
    }
}
