//! Many partitions in, one ordered stream out, with bounded memory.
//!
//! Each partition runs as its own task and fills a lane of its own; the consumer takes partition 0 to its end, then 1,
//! and so on, so rows keep their order. Only a window of partitions is under way, and each lane has its own share of
//! the bytes, so the partition whose turn it is can always go on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

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
}

/// The batches of all partitions, in order, each with its partition's number.
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
    let exchange =
        Exchange { plan, context, budget, room, share, watch, blocks, ended: 0, open: VecDeque::new() };
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
            let Some(first) = self.open.front_mut() else { return Ok(None) };
            if let Some(item) = first.lane.recv().await {
                return item.map(|batch| Some((first.index, batch)));
            }
            // An end without an error may still be a panic.
            (&mut first.task.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            self.open.pop_front();
            self.ended += 1;
        }
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
