//! How a batch is cut so that every rank has as many rows.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dataset::Cutter;
use crate::error::Result;

/// Cuts rows into rounds of equal pieces, one for each rank. What does not divide waits for the next batch.
pub(super) struct Equal {
    cutter: Cutter,
    ranks: usize,
}

impl Equal {
    pub(super) fn new(schema: SchemaRef, ranks: usize) -> Self {
        Self { cutter: Cutter::new(schema, ranks), ranks }
    }

    /// A piece for each rank, in their order, or nothing while there are fewer rows than ranks.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        self.cutter.push(batch);
        let rows = self.cutter.rows() / self.ranks;
        if rows == 0 {
            return Ok(Vec::new());
        }
        (0..self.ranks).map(|_| self.cutter.cut(rows)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    proptest! {
        #[test]
        fn ranks_are_level_after_every_batch_and_all_rows_but_a_few_are_dealt(
            sizes in prop::collection::vec(0..40_i64, 0..20),
            ranks in 1..9_usize,
        ) {
            let mut equal = Equal::new(numbers(0..0).schema(), ranks);
            let mut dealt: Vec<Vec<i64>> = vec![Vec::new(); ranks];
            let mut at = 0;
            for rows in sizes {
                let pieces = equal.push(numbers(at..at + rows)).unwrap();
                at += rows;
                prop_assert!(pieces.is_empty() || pieces.len() == ranks);
                for (rank, piece) in pieces.iter().enumerate() {
                    dealt[rank].extend(piece.column(0).as_primitive::<Int64Type>().values());
                }
                prop_assert!(dealt.iter().all(|rows| rows.len() == dealt[0].len()));
                prop_assert_eq!(dealt[0].len(), at as usize / ranks, "what waits is less than a round");
            }
            prop_assert!(dealt.iter().all(|rows| rows.is_sorted()), "each rank's rows keep their order");
            let mut all: Vec<i64> = dealt.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..at - at % ranks as i64).collect::<Vec<_>>());
        }
    }
}
