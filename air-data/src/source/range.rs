//! [`Integers`]: the numbers from zero.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::Source;

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

impl fmt::Display for Integers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range 0..{}", self.end)
    }
}

impl Source for Integers {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn partitions(&self) -> usize {
        self.blocks as usize
    }

    fn rows(&self, partition: usize) -> Option<usize> {
        let bounds = self.bounds(partition);
        usize::try_from(bounds.end - bounds.start).ok()
    }

    fn open(&self, partition: usize, context: Arc<TaskContext>) -> BoxStream<'static, Result<RecordBatch>> {
        let (bounds, schema) = (self.bounds(partition), self.schema.clone());
        let step = context.session_config().batch_size() as u64;
        let batches = (0..(bounds.end - bounds.start).div_ceil(step)).map(move |index| {
            let start = bounds.start + index * step;
            let end = (start + step).min(bounds.end);
            let ids = Int64Array::from_iter_values((start..end).map(|id| id as i64));
            Ok(RecordBatch::try_new(schema.clone(), vec![Arc::new(ids)])?)
        });
        futures::stream::iter(batches).boxed()
    }
}
