//! What takes a dataset apart. The parts share one run of it, which starts with the first terminal of any of them and is kept.

use std::sync::Arc;

use super::Dataset;
use super::create::scan;
use crate::error::{DataError, Result};
use crate::source::{Materialized, Run, Share};

impl Dataset {
    /// `count` disjoint datasets that together are this one: its blocks dealt in order, the first ones getting one more
    /// where the number does not divide; or its rows, where there are fewer blocks than shares. Like
    /// [`Dataset::materialize`] it runs once, with the first terminal of any share.
    pub fn split(&self, count: usize) -> Vec<Self> {
        self.shares((0..count).map(|index| Share::Blocks { index, count }))
    }

    /// `count` disjoint datasets with as many rows each; the last rows, where the number does not divide, are left out. For workers that go
    /// in step.
    pub fn split_equal(&self, count: usize) -> Vec<Self> {
        self.shares((0..count).map(|index| Share::Equal { index, count }))
    }

    /// The rows before the first index, from there to the next, …, and from the last one on: one part more than there are indices.
    /// Parts beyond the last row are empty.
    ///
    /// # Errors
    /// [`DataError::Config`] for indices that go down.
    pub fn split_at_indices(&self, indices: &[u64]) -> Result<Vec<Self>> {
        let pairs = indices.iter().zip(indices.iter().skip(1));
        if let Some((from, to)) = pairs.into_iter().find(|(from, to)| from > to) {
            let reason = format!("they must not go down, as from {from} to {to}");
            return Err(DataError::Config { field: "indices", reason });
        }
        let starts = std::iter::once(0).chain(indices.iter().copied());
        let ends = indices.iter().copied().chain([u64::MAX]);
        Ok(self.shares(starts.zip(ends).map(|(from, to)| Share::Between { from, to })))
    }

    /// Parts of these sizes, as fractions of all rows, in order, and the rest as a last part: `[0.7, 0.2]` makes three. Bounds are rounded to
    /// the nearest row.
    ///
    /// # Errors
    /// [`DataError::Config`] for fractions that are not above 0, or together not below 1.
    pub fn split_proportionately(&self, fractions: &[f64]) -> Result<Vec<Self>> {
        let bad = |reason: String| DataError::Config { field: "fractions", reason };
        if let Some(fraction) = fractions.iter().find(|fraction| fraction.is_nan() || **fraction <= 0.0) {
            return Err(bad(format!("each above 0, not {fraction}")));
        }
        let mut ends = Vec::with_capacity(fractions.len() + 1);
        let mut sum = 0.0;
        for fraction in fractions {
            sum += fraction;
            ends.push(sum);
        }
        if sum >= 1.0 {
            return Err(bad(format!("together below 1, which leaves a rest, not {sum}")));
        }
        ends.push(1.0);
        let starts = std::iter::once(0.0).chain(ends.iter().copied());
        Ok(self.shares(starts.zip(ends.iter().copied()).map(|(from, to)| Share::Fraction { from, to })))
    }

    /// A part to train with and one to test with, the latter `test` of all rows (0.25: a quarter; rounded to the nearest row). Without a seed
    /// the last rows are the test; with one, rows [shuffled](Self::random_shuffle) by it.
    ///
    /// # Errors
    /// [`DataError::Config`] for a part that is not between 0 and 1.
    pub fn train_test_split(&self, test: f64, seed: Option<u64>) -> Result<(Self, Self)> {
        if !(test > 0.0 && test < 1.0) {
            let reason = format!("between 0 and 1, not {test}");
            return Err(DataError::Config { field: "test", reason });
        }
        let all = seed.map_or_else(|| self.clone(), |seed| self.random_shuffle(seed));
        let cut = 1.0 - test;
        let run = all.once();
        let part = |from, to| all.share(&run, Share::Fraction { from, to });
        Ok((part(0.0, cut), part(cut, 1.0)))
    }

    fn shares(&self, shares: impl IntoIterator<Item = Share>) -> Vec<Self> {
        let run = self.once();
        shares.into_iter().map(|share| self.share(&run, share)).collect()
    }

    /// One run for all shares.
    fn once(&self) -> Result<Arc<Run>> {
        Ok(Arc::new(Run::new(self.logical_plan()?.clone())))
    }

    fn share(&self, run: &Result<Arc<Run>>, share: Share) -> Self {
        let plan = match run {
            Ok(run) => scan(Arc::new(Materialized { run: run.clone(), share })),
            Err(_) => self.logical_plan().cloned(),
        };
        self.then(|_| plan)
    }
}
