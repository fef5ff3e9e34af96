//! [`Integers`]: the numbers from zero.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::contract::{ReadRequest, Source, SourceBatches, SourcePart};

/// Rows that make it worth a block of their own.
const BLOCK_ROWS: u64 = 1 << 20;

/// The numbers `0..end`, in one column `id`, made as they are asked for.
#[derive(Debug)]
pub(crate) struct Integers {
    end: u64,
    blocks: u64,
    schema: SchemaRef,
}

impl Integers {
    pub(crate) fn new(end: u64, parallelism: usize) -> Self {
        let blocks = end.div_ceil(BLOCK_ROWS).clamp(1, parallelism.max(1) as u64);
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        Self { end, blocks, schema }
    }

    fn bounds(&self, block: usize) -> std::ops::Range<u64> {
        let each = self.end.div_ceil(self.blocks);
        let start = (block as u64 * each).min(self.end);
        start..(start + each).min(self.end)
    }
}

impl Source for Integers {
    fn name(&self) -> String {
        format!("range 0..{}", self.end)
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> Result<Vec<SourcePart>, BoxError> {
        let part = |block| {
            let ids = self.bounds(block);
            SourcePart::new(format!("{}..{}", ids.start, ids.end)).rows(ids.end - ids.start)
        };
        Ok((0..self.blocks as usize).map(part).collect())
    }

    fn open(&self, part: usize, request: &ReadRequest) -> Result<SourceBatches, BoxError> {
        if part as u64 >= self.blocks {
            return Err(format!("there are {} parts", self.blocks).into());
        }
        let (bounds, schema) = (self.bounds(part), self.schema.clone());
        let step = request.batch_rows.max(1) as u64;
        let batches = (0..(bounds.end - bounds.start).div_ceil(step)).map(move |index| {
            let start = bounds.start + index * step;
            let end = start.saturating_add(step).min(bounds.end);
            let ids = Int64Array::from_iter_values((start..end).map(|id| id as i64));
            Ok(RecordBatch::try_new(schema.clone(), vec![Arc::new(ids)])?)
        });
        Ok(SourceBatches::computed(batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_source() {
        crate::testing::source(|| Integers::new(3 << 20, 4));
        crate::testing::source(|| Integers::new(0, 4));
    }
}
