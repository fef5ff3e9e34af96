//! [`Zip`]: two datasets side by side, row by row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::node::{Job, Operator};
use crate::error::DataError;
use crate::exchange::Room;

/// Row `i` of the second input after row `i` of the first, as one block.
#[derive(Debug, Clone)]
pub(crate) struct Zip {
    pub(crate) room: Room,
}

impl fmt::Display for Zip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("zip")
    }
}

impl Operator for Zip {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let fields = inputs.iter().flat_map(|input| input.fields().iter().cloned());
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn needs(&self, output: &[usize], inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        let left = inputs.first()?.fields().len();
        let (first, second): (Vec<usize>, Vec<usize>) = output.iter().partition(|index| **index < left);
        Some(vec![first, second.into_iter().map(|index| index - left).collect()])
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let side = |input| Side { stream: job.rows(input, self.room), rest: None, seen: 0 };
        let sides = (side(0), side(1), job.schema.clone());
        let zipped = futures::stream::try_unfold(sides, |(mut left, mut right, schema)| async move {
            let rows = match (left.ready().await?, right.ready().await?) {
                (0, 0) => return Ok(None),
                (0, _) | (_, 0) => {
                    let error =
                        DataError::ZipLengths { left: left.count().await?, right: right.count().await? };
                    return Err(error.into());
                }
                (left, right) => left.min(right),
            };
            let (first, second) = (left.cut(rows), right.cut(rows));
            let columns = first.columns().iter().chain(second.columns()).cloned().collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
            Ok(Some((batch, (left, right, schema))))
        });
        Ok(zipped.boxed())
    }
}

/// One of the two inputs.
struct Side {
    stream: BoxStream<'static, Result<RecordBatch>>,
    rest: Option<RecordBatch>,
    seen: u64,
}

impl Side {
    /// How many rows can be cut at once; 0 at the end.
    async fn ready(&mut self) -> Result<usize> {
        loop {
            match &self.rest {
                Some(batch) if batch.num_rows() > 0 => return Ok(batch.num_rows()),
                _ => match self.stream.next().await.transpose()? {
                    Some(batch) => self.rest = Some(batch),
                    None => return Ok(0),
                },
            }
        }
    }

    fn cut(&mut self, rows: usize) -> RecordBatch {
        let batch = self.rest.take().unwrap_or_else(|| RecordBatch::new_empty(Arc::new(Schema::empty())));
        self.seen += rows as u64;
        self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        batch.slice(0, rows)
    }

    /// All of its rows, the ones not yet seen counted.
    async fn count(&mut self) -> Result<u64> {
        let mut rows = self.seen + self.rest.take().map_or(0, |batch| batch.num_rows() as u64);
        while let Some(batch) = self.stream.next().await {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    }
}
