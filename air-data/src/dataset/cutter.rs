//! [`Cutter`]: batches of any size into batches of one size.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::error::Result;

/// Cuts a stream of batches of any size into batches of one size. A cut is a slice; only a batch that spans several
/// incoming ones is copied.
#[derive(Debug)]
pub(crate) struct Cutter {
    schema: SchemaRef,
    size: usize,
    waiting: VecDeque<RecordBatch>,
    rows: usize,
}

impl Cutter {
    pub(crate) fn new(schema: SchemaRef, size: usize) -> Self {
        Self { schema, size, waiting: VecDeque::new(), rows: 0 }
    }

    /// Rows that wait.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.waiting.push_back(batch);
        }
    }

    /// The next full batch, if there are rows enough.
    pub(crate) fn full(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows < self.size { Ok(None) } else { self.cut(self.size).map(Some) }
    }

    /// What is left at the end.
    pub(crate) fn rest(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 { Ok(None) } else { self.cut(self.rows.min(self.size)).map(Some) }
    }

    /// The next `size` rows, which must be there.
    pub(crate) fn cut(&mut self, size: usize) -> Result<RecordBatch> {
        let mut pieces = Vec::new();
        let mut missing = size;
        while missing > 0 {
            let Some(first) = self.waiting.pop_front() else { break };
            let take = first.num_rows().min(missing);
            if take < first.num_rows() {
                self.waiting.push_front(first.slice(take, first.num_rows() - take));
            }
            pieces.push(if take < first.num_rows() { first.slice(0, take) } else { first });
            missing -= take;
        }
        self.rows -= size - missing;
        match pieces.pop() {
            Some(only) if pieces.is_empty() => Ok(only),
            last => {
                pieces.extend(last);
                Ok(concat_batches(&self.schema, &pieces)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    #[test]
    fn batches_have_the_size_asked_for_and_all_rows_in_order() {
        for sizes in [vec![10], vec![1, 2, 3, 4], vec![0, 7, 0, 3]] {
            for size in 1..12 {
                let mut cutter = Cutter::new(numbers(0..0).schema(), size);
                let (mut at, mut out) = (0, Vec::new());
                for rows in &sizes {
                    cutter.push(numbers(at..at + rows));
                    at += rows;
                    while let Some(batch) = cutter.full().unwrap() {
                        assert_eq!(batch.num_rows(), size);
                        out.push(batch);
                    }
                }
                out.extend(cutter.rest().unwrap());
                let ids: Vec<i64> = out
                    .iter()
                    .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
                    .collect();
                assert_eq!(ids, (0..10).collect::<Vec<_>>(), "sizes {sizes:?} cut at {size}");
            }
        }
    }
}
