//! [`Memory`]: batches that are already there.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::Source;
use crate::memory::{Budget, Kept};

/// Rows that make it worth a block of their own.
const BLOCK_ROWS: usize = 1 << 20;

/// Batches of one schema, dealt into blocks in their order.
#[derive(Debug)]
pub(crate) struct Memory {
    schema: SchemaRef,
    blocks: Vec<Vec<RecordBatch>>,
    /// The rows lie in memory anyway: queueing them takes none.
    _lent: Kept,
}

impl Memory {
    /// The batches must have `schema`. Few rows make one block; many make at most `parallelism`.
    pub(crate) fn new(
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        parallelism: usize,
        budget: &Budget,
    ) -> Self {
        let lent = budget.lend(&batches);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let blocks = rows.div_ceil(BLOCK_ROWS).clamp(1, parallelism.max(1));
        let each = rows.div_ceil(blocks).max(1);
        let mut dealt = vec![Vec::new(); blocks];
        let mut seen = 0;
        for batch in batches {
            let mut batch = batch;
            while batch.num_rows() > 0 {
                let block = seen / each;
                let take = batch.num_rows().min((block + 1) * each - seen);
                dealt[block].push(batch.slice(0, take));
                batch = batch.slice(take, batch.num_rows() - take);
                seen += take;
            }
        }
        Self { schema, blocks: dealt, _lent: lent }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Source for Memory {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn partitions(&self) -> usize {
        self.blocks.len()
    }

    fn rows(&self, partition: usize) -> Option<usize> {
        self.blocks.get(partition).map(|batches| batches.iter().map(RecordBatch::num_rows).sum())
    }

    /// Large batches are cut to the engine's size: slices, not copies.
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> BoxStream<'static, Result<RecordBatch>> {
        let step = context.session_config().batch_size();
        let batches = self.blocks.get(partition).cloned().unwrap_or_default();
        let pieces = batches.into_iter().flat_map(move |batch| {
            let rows = batch.num_rows();
            (0..rows).step_by(step).map(move |start| Ok(batch.slice(start, step.min(rows - start))))
        });
        futures::stream::iter(pieces).boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn many_rows_are_dealt_into_even_blocks_in_order() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3_000_000));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let budget = Budget::new(1 << 30);
        let memory =
            Memory::new(batch.schema(), vec![batch.slice(0, 10), batch.slice(10, 2_999_990)], 2, &budget);
        assert_eq!(memory.rows(0), Some(1_500_000));
        assert_eq!(memory.rows(1), Some(1_500_000));
        let small = Memory::new(batch.schema(), vec![batch.slice(0, 10)], 2, &budget);
        assert_eq!(small.partitions(), 1);
    }
}
