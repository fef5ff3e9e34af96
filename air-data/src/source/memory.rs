//! [`Memory`]: batches that are already there.

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::contract::{ReadRequest, Source, SourceBatches, SourcePart};
use crate::memory::{Budget, Kept};
use crate::plan::sliced;

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

impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> Result<Vec<SourcePart>, BoxError> {
        let part = |(index, batches): (usize, &Vec<RecordBatch>)| {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            SourcePart::new(format!("block {index}")).rows(rows as u64)
        };
        Ok(self.blocks.iter().enumerate().map(part).collect())
    }

    /// Large batches are cut to the size asked for: slices, not copies.
    fn open(&self, part: usize, request: &ReadRequest) -> Result<SourceBatches, BoxError> {
        let rows = request.batch_rows;
        let none = || format!("there are {} parts", self.blocks.len());
        let batches = self.blocks.get(part).cloned().ok_or_else(none)?;
        let pieces = batches.into_iter().flat_map(move |batch| sliced(batch, rows).map(Ok));
        Ok(SourceBatches::computed(pieces))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn many_rows_are_dealt_into_even_blocks_in_order() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3_000_000));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let budget = Budget::new(1 << 30);
        let memory =
            Memory::new(batch.schema(), vec![batch.slice(0, 10), batch.slice(10, 2_999_990)], 2, &budget);
        let rows: Vec<_> = memory.parts().unwrap().iter().map(|part| part.rows).collect();
        assert_eq!(rows, [Some(1_500_000); 2]);
        let small = Memory::new(batch.schema(), vec![batch.slice(0, 10)], 2, &budget);
        assert_eq!(small.parts().unwrap().len(), 1);
        crate::testing::source(|| {
            let pieces = vec![batch.slice(0, 2_000_000), batch.slice(9, 0), batch.slice(2_000_000, 7)];
            Memory::new(batch.schema(), pieces, 2, &budget)
        });
    }
}
