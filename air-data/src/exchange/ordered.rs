//! Many partitions in, one stream out, with bounded memory.
//!
//! Each partition runs as its own task and fills a lane of its own; the consumer takes partition 0 to its end, then 1,
//! and so on, so rows keep their order. Only a window of partitions is under way, and each lane has its own share of
//! the bytes, so the partition whose turn it is can always go on.
//!
//! Where the order of the partitions means nothing (rows dealt by their keys' hashes), keeping it would cost: the operators that deal go
//! at the pace of the partition that is taken, or hold what belongs to the others. There the consumer takes what comes first.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{Stream, StreamExt};

use super::lane::{Receiver, Sender, lane};
use crate::memory::{Account, Budget, Parcel, Watch};
use crate::session::AbortOnDrop;

/// The room an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Partitions under way at once.
    pub(crate) window: usize,
    /// Bytes of batches that may wait, over all lanes.
    pub(crate) bytes: usize,
    /// Start with one partition and add one with each that ended, for consumers that hope to stop early.
    pub(crate) cautious: bool,
    /// How many exchanges lie between this one and the consumer.
    pub(crate) stage: usize,
    /// Whether the order of the partitions means nothing.
    pub(crate) any_order: bool,
}

/// The batches of all partitions, in order (or any, if the room says so), each with its partition's number.
pub(crate) fn ordered(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    room: Room,
    watch: Option<Arc<Watch>>,
) -> impl Stream<Item = Result<(usize, RecordBatch)>> + Send + 'static {
    let blocks = 0..plan.output_partitioning().partition_count();
    ordered_blocks(plan, blocks, context, room, watch)
}

/// The batches of some partitions, in order, each with its partition's number.
pub(crate) fn ordered_blocks(
    plan: Arc<dyn ExecutionPlan>,
    blocks: Range<usize>,
    context: Arc<TaskContext>,
    room: Room,
    watch: Option<Arc<Watch>>,
) -> impl Stream<Item = Result<(usize, RecordBatch)>> + Send + 'static {
    let budget = Budget::of(&context);
    let share = room.bytes / room.window.min(blocks.len()).max(1);
    let exchange = Exchange {
        plan,
        context,
        budget,
        room,
        share,
        watch,
        blocks,
        ended: 0,
        open: VecDeque::new(),
        turn: 0,
    };
    futures::stream::try_unfold(exchange, |mut exchange| async move {
        Ok(exchange.next().await?.map(|item| (item, exchange)))
    })
}

struct Exchange {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    budget: Budget,
    room: Room,
    /// Bytes of each lane.
    share: usize,
    watch: Option<Arc<Watch>>,
    /// Those that have not begun.
    blocks: Range<usize>,
    ended: usize,
    open: VecDeque<Partition>,
    /// Where any may be next, the one to look at first, so that none waits for ever.
    turn: usize,
}

struct Partition {
    index: usize,
    lane: Receiver<Result<RecordBatch>>,
    task: AbortOnDrop<()>,
}

impl Exchange {
    async fn next(&mut self) -> Result<Option<(usize, RecordBatch)>> {
        loop {
            self.fill();
            if self.open.is_empty() {
                return Ok(None);
            }
            let (place, item) = poll_fn(|cx| self.poll(cx.waker())).await;
            let partition = &mut self.open[place];
            if let Some(item) = item {
                return item.map(|batch| Some((partition.index, batch)));
            }
            // An end without an error may still be a panic.
            (&mut partition.task.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            self.open.remove(place);
            self.ended += 1;
        }
    }

    /// The next item, or the end, of the partition whose turn it is: the first, or any that has one.
    fn poll(&mut self, waker: &Waker) -> Poll<(usize, Option<Result<RecordBatch>>)> {
        let open = self.open.len();
        let (first, places) = if self.room.any_order { (self.turn, open) } else { (0, 1) };
        for place in (first..first + places).map(|place| place % open) {
            if let Poll::Ready(item) = self.open[place].lane.poll(waker) {
                self.turn = place + 1;
                return Poll::Ready((place, item));
            }
        }
        Poll::Pending
    }

    fn fill(&mut self) {
        let window =
            if self.room.cautious { (self.ended + 1).min(self.room.window) } else { self.room.window };
        while self.open.len() < window.max(1) {
            let Some(index) = self.blocks.next() else { return };
            let (plan, context) = (self.plan.clone(), self.context.clone());
            let (sender, lane) =
                lane(Account::open(&self.budget, self.room.stage, self.share, self.watch.clone()));
            let task = AbortOnDrop(tokio::spawn(drain(plan, context, index, sender)));
            self.open.push_back(Partition { index, lane, task });
        }
    }
}

/// Runs one partition into its lane. It stops after an error, or when nobody listens any more.
async fn drain(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partition: usize,
    mut lane: Sender<Result<RecordBatch>>,
) {
    let mut stream = match plan.execute(partition, context) {
        Ok(stream) => stream,
        Err(error) => {
            lane.force(Err(error), Parcel::default());
            return;
        }
    };
    while let Some(item) = stream.next().await {
        let parcel = item.as_ref().map(Parcel::of).unwrap_or_default();
        let last = item.is_err();
        if !lane.send(item, parcel).await || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{Int64Type, SchemaRef};
    use datafusion::execution::SendableRecordBatchStream;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;

    fn batch(number: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![number]));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    /// One row, its number, as soon as its gate opens.
    #[derive(Debug)]
    struct Gated {
        number: i64,
        schema: SchemaRef,
        gate: Mutex<Option<oneshot::Receiver<()>>>,
    }

    impl PartitionStream for Gated {
        fn schema(&self) -> &SchemaRef {
            &self.schema
        }

        fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
            let (gate, row) = (self.gate.lock().take().unwrap(), batch(self.number));
            let stream = futures::stream::once(async move {
                gate.await.map(|()| row).map_err(|e| DataFusionError::External(e.into()))
            });
            Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
        }
    }

    fn gated(partitions: i64) -> (Vec<oneshot::Sender<()>>, Arc<dyn ExecutionPlan>) {
        let schema = batch(0).schema();
        let (gates, partitions): (Vec<_>, Vec<Arc<dyn PartitionStream>>) = (0..partitions)
            .map(|number| {
                let (open, gate) = oneshot::channel();
                let gated = Gated { number, schema: schema.clone(), gate: Mutex::new(Some(gate)) };
                (open, Arc::new(gated) as Arc<dyn PartitionStream>)
            })
            .unzip();
        let plan = StreamingTableExec::try_new(schema, partitions, None, [], false, None).unwrap();
        (gates, Arc::new(plan))
    }

    fn room(any_order: bool) -> Room {
        Room { window: 3, bytes: 1 << 20, cautious: false, stage: 1, any_order }
    }

    fn row(item: Result<(usize, RecordBatch)>) -> (usize, i64) {
        let (partition, batch) = item.unwrap();
        (partition, batch.column(0).as_primitive::<Int64Type>().value(0))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn partitions_come_in_order_whichever_is_first() {
        let (gates, plan) = gated(3);
        for gate in gates.into_iter().rev() {
            gate.send(()).unwrap();
        }
        let rows: Vec<_> = ordered(plan, Arc::default(), room(false), None).map(row).collect().await;
        assert_eq!(rows, [(0, 0), (1, 1), (2, 2)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn partitions_without_an_order_come_as_they_have_rows() {
        let (gates, plan) = gated(3);
        let mut gates: Vec<_> = gates.into_iter().map(Some).collect();
        let mut rows = std::pin::pin!(ordered(plan, Arc::default(), room(true), None).map(row));
        for partition in [2, 0, 1] {
            gates[partition].take().unwrap().send(()).unwrap();
            // The others wait for their gates.
            assert_eq!(rows.next().await, Some((partition, partition as i64)));
        }
        assert_eq!(rows.next().await, None);
    }
}
