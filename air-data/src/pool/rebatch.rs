//! Engine batches into the size asked for, with where their rows came from.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dataset::Cutter;
use crate::error::{Place, Result};

/// A batch and where its rows came from.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) batch: RecordBatch,
    pub(super) places: Vec<Place>,
}

/// Cuts batches of one size, or passes them on as they come.
pub(super) struct Rebatch {
    cutter: Option<Cutter>,
    size: usize,
    places: VecDeque<Place>,
    ready: VecDeque<Placed>,
    /// Rows seen of each partition.
    seen: Vec<u64>,
    files: Vec<Option<String>>,
}

impl Rebatch {
    /// `files` has, for each partition, the file that it reads, where that is one.
    pub(super) fn new(schema: SchemaRef, size: Option<usize>, files: Vec<Option<String>>) -> Self {
        Self {
            cutter: size.map(|size| Cutter::new(schema, size)),
            size: size.unwrap_or(0),
            places: VecDeque::new(),
            ready: VecDeque::new(),
            seen: vec![0; files.len()],
            files,
        }
    }

    pub(super) fn push(&mut self, partition: usize, batch: RecordBatch) {
        let count = batch.num_rows() as u64;
        if count == 0 {
            return;
        }
        let first = self.seen.get(partition).copied().unwrap_or(0);
        if let Some(seen) = self.seen.get_mut(partition) {
            *seen += count;
        }
        let file = self.files.get(partition).cloned().flatten();
        let place = Place { file, partition, rows: first..first + count };
        match &mut self.cutter {
            None => self.ready.push_back(Placed { batch, places: vec![place] }),
            Some(cutter) => {
                cutter.push(batch);
                self.places.push_back(place);
            }
        }
    }

    /// The next full batch.
    pub(super) fn full(&mut self) -> Result<Option<Placed>> {
        match &mut self.cutter {
            Some(cutter) if cutter.rows() >= self.size => {
                let batch = cutter.cut(self.size)?;
                Ok(Some(Placed { batch, places: self.places_of(self.size) }))
            }
            _ => Ok(self.ready.pop_front()),
        }
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Result<Option<Placed>> {
        let Some(batch) = self.cutter.as_mut().map_or(Ok(None), Cutter::rest)? else { return Ok(None) };
        let places = self.places_of(batch.num_rows());
        Ok(Some(Placed { batch, places }))
    }

    /// Where the next `rows` rows came from.
    fn places_of(&mut self, rows: usize) -> Vec<Place> {
        let mut places = Vec::new();
        let mut missing = rows as u64;
        while missing > 0 {
            let Some(mut place) = self.places.pop_front() else { break };
            let has = place.rows.end - place.rows.start;
            if has > missing {
                let rest = place.rows.start + missing..place.rows.end;
                self.places.push_front(Place { rows: rest.clone(), ..place.clone() });
                place.rows.end = rest.start;
            }
            missing -= has.min(missing);
            match places.last_mut() {
                // Neighbours of one partition are one range.
                Some(Place { partition, rows, .. })
                    if *partition == place.partition && rows.end == place.rows.start =>
                {
                    rows.end = place.rows.end;
                }
                _ => places.push(place),
            }
        }
        places
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

    fn told(placed: &Placed) -> String {
        let ids = placed.batch.column(0).as_primitive::<Int64Type>();
        let places: Vec<String> = placed.places.iter().map(ToString::to_string).collect();
        format!("{}..={} {}", ids.value(0), ids.value(ids.len() - 1), places.join(", "))
    }

    #[test]
    fn a_batch_that_spans_blocks_names_all_of_them() {
        let files = vec![Some("a.csv".to_owned()), None];
        let mut rebatch = Rebatch::new(numbers(0..0).schema(), Some(4), files);
        rebatch.push(0, numbers(0..3));
        assert!(rebatch.full().unwrap().is_none());
        rebatch.push(0, numbers(3..5));
        assert_eq!(told(&rebatch.full().unwrap().unwrap()), "0..=3 rows 0..4 of a.csv");
        rebatch.push(1, numbers(5..10));
        assert_eq!(told(&rebatch.full().unwrap().unwrap()), "4..=7 row 4 of a.csv, rows 0..3 of block 1");
        assert!(rebatch.full().unwrap().is_none());
        assert_eq!(told(&rebatch.rest().unwrap().unwrap()), "8..=9 rows 3..5 of block 1");
        assert!(rebatch.rest().unwrap().is_none());
    }

    #[test]
    fn without_a_size_batches_pass() {
        let mut rebatch = Rebatch::new(numbers(0..0).schema(), None, vec![None]);
        for range in [0..3, 3..3, 3..9] {
            rebatch.push(0, numbers(range));
        }
        assert_eq!(told(&rebatch.full().unwrap().unwrap()), "0..=2 rows 0..3 of block 0");
        assert_eq!(told(&rebatch.full().unwrap().unwrap()), "3..=8 rows 3..9 of block 0");
        assert!(rebatch.full().unwrap().is_none());
        assert!(rebatch.rest().unwrap().is_none());
    }
}
