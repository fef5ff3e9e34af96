//! [`Numbered`]: rows with their number, as it is or mixed with a seed.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::node::{Job, Operator};
use crate::exchange::Room;

/// What the new column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// 0, 1, 2, …
    Index,
    /// A number that looks random and is another one for each row: its index mixed with a seed.
    Mixed(Mixer),
}

/// All rows as one block, with a column `name` after the others that numbers them. The number depends on the rows' order
/// alone, not on blocks or batches.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) name: String,
    pub(crate) numbering: Numbering,
    pub(crate) room: Room,
}

impl Numbered {
    fn column(&self, first: u64, rows: usize) -> ArrayRef {
        let indices = first..first + rows as u64;
        match self.numbering {
            Numbering::Index => Arc::new(Int64Array::from_iter_values(indices.map(|index| index as i64))),
            Numbering::Mixed(mixer) => {
                Arc::new(UInt64Array::from_iter_values(indices.map(|index| mixer.mix(index))))
            }
        }
    }
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbering {
            Numbering::Index => write!(f, "number rows as {}", self.name),
            Numbering::Mixed(_) => f.write_str("give rows random numbers"),
        }
    }
}

impl Operator for Numbered {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let kind = match self.numbering {
            Numbering::Index => DataType::Int64,
            Numbering::Mixed(_) => DataType::UInt64,
        };
        let fields = inputs.iter().flat_map(|input| input.fields().iter().cloned());
        let number = Arc::new(Field::new(&self.name, kind, false));
        Ok(Arc::new(Schema::new(fields.chain([number]).collect::<Vec<_>>())))
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn needs(&self, output: &[usize], inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        let width = inputs.iter().map(|input| input.fields().len()).sum();
        Some(vec![output.iter().copied().filter(|index| *index < width).collect()])
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (this, schema, mut seen) = (self.clone(), job.schema.clone(), 0);
        let numbered = job.rows(0, self.room).map(move |batch| {
            let batch = batch?;
            let first = seen;
            seen += batch.num_rows() as u64;
            let mut columns = batch.columns().to_vec();
            columns.push(this.column(first, batch.num_rows()));
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        });
        Ok(numbered.boxed())
    }
}

/// A bijection of the 64-bit numbers for each seed: two rounds of the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014), keyed in between. No two rows get the same number, so there are no ties to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mixer {
    keys: [u64; 2],
}

impl Mixer {
    pub(crate) fn new(seed: u64) -> Self {
        let first = finalize(seed ^ 0x9e37_79b9_7f4a_7c15);
        Self { keys: [first, finalize(first.wrapping_add(0x9e37_79b9_7f4a_7c15))] }
    }

    pub(crate) fn mix(self, index: u64) -> u64 {
        finalize(finalize(index.wrapping_add(self.keys[0])) ^ self.keys[1])
    }
}

fn finalize(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_number_comes_twice_and_every_bit_is_even() {
        for seed in [0, 1, u64::MAX] {
            let mixer = Mixer::new(seed);
            let numbers: Vec<u64> = (0..20_000).map(|index| mixer.mix(index)).collect();
            assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
            for bit in 0..64 {
                let ones = numbers.iter().filter(|number| *number >> bit & 1 == 1).count();
                // Five standard deviations of a fair coin: 5 × √20 000 / 2 = 354.
                assert!((9_646..=10_354).contains(&ones), "bit {bit} of seed {seed}: {ones}");
            }
        }
    }

    #[test]
    fn seeds_that_differ_by_one_share_no_neighbours() {
        let order = |seed| {
            let mixer = Mixer::new(seed);
            let mut rows: Vec<u64> = (0..1000).collect();
            rows.sort_by_key(|row| mixer.mix(*row));
            rows
        };
        let (one, two) = (order(1), order(2));
        let neighbours: HashSet<(u64, u64)> = one.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let shared = two.windows(2).filter(|pair| neighbours.contains(&(pair[0], pair[1]))).count();
        // One is expected by chance.
        assert!(shared < 10, "{shared}");
    }
}
