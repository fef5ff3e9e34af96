//! [`DataShard`]: a rank's share, epoch after epoch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use super::epochs::{Epochs, WAIT_LIMIT};
use crate::dataset::{BatchOptions, Batches, Dataset};
use crate::error::{DataError, Result};

/// Most ranks of a split.
const MAX_RANKS: usize = 4096;

/// How [`Dataset::streaming_split`] deals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitOptions {
    /// Every rank gets equally many rows, to the row; fewer rows than there are ranks are left out at the end. Without it each batch
    /// of the engine goes to the rank that has the least waiting, and faster ranks get more.
    pub equal: bool,
    /// Bytes that may wait, over all ranks; the session's [`prefetch_bytes`](crate::SessionConfig::prefetch_bytes) when absent.
    pub prefetch_bytes: Option<usize>,
    /// How long a rank that has nothing waits for one that takes nothing, before it gets [`DataError::SplitStalled`].
    pub wait_limit: Duration,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { equal: false, prefetch_bytes: None, wait_limit: WAIT_LIMIT }
    }
}

impl SplitOptions {
    /// Sets [`equal`](Self::equal): what trainers need that reduce gradients together.
    pub fn equal() -> Self {
        Self { equal: true, ..Self::default() }
    }

    /// Sets [`prefetch_bytes`](Self::prefetch_bytes).
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch_bytes = Some(bytes);
        self
    }

    /// Sets [`wait_limit`](Self::wait_limit).
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit;
        self
    }

    fn validate(&self, ranks: usize) -> Result<()> {
        let check = |ok: bool, field, reason: String| {
            if ok { Ok(()) } else { Err(DataError::Config { field, reason }) }
        };
        check((1..=MAX_RANKS).contains(&ranks), "ranks", format!("between 1 and {MAX_RANKS}, not {ranks}"))?;
        check(self.prefetch_bytes != Some(0), "prefetch_bytes", "at least 1".to_owned())?;
        let limit = Duration::from_secs(1 << 30);
        let within = !self.wait_limit.is_zero() && self.wait_limit <= limit;
        check(within, "wait_limit", "more than nothing and at most 34 years".to_owned())
    }
}

impl Dataset {
    /// One run of the dataset for several trainers: its rows are dealt to the ranks as they come, nothing is collected first.
    ///
    /// Each shard is moved to its trainer, and [`DataShard::batches`] begins an epoch. The ranks of an epoch are to be read at the same
    /// time: what waits for each of them is bounded, so one that is not read holds up the others, until it is dropped. See
    /// [`Dataset::split`] for shares that can be read one after the other.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// use air_data::{BatchOptions, SplitOptions};
    ///
    /// let shards = air_data::range(1001)?.streaming_split(4, SplitOptions::equal())?;
    /// let trainers: Vec<_> = shards
    ///     .into_iter()
    ///     .map(|mut shard| {
    ///         std::thread::spawn(move || {
    ///             let mut rows = 0;
    ///             for _epoch in 0..2 {
    ///                 for batch in shard.batches(BatchOptions::new(32))? {
    ///                     rows += batch?.num_rows();
    ///                 }
    ///             }
    ///             Ok::<_, air_data::DataError>(rows)
    ///         })
    ///     })
    ///     .collect();
    /// for trainer in trainers {
    ///     assert_eq!(trainer.join().expect("no panic")?, 500);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DataError::Config`] for an option out of range; the first mistake made in describing the dataset.
    pub fn streaming_split(&self, ranks: usize, options: SplitOptions) -> Result<Vec<DataShard>> {
        options.validate(ranks)?;
        self.schema()?;
        let epochs = Arc::new(Epochs::new(self.clone(), options, ranks));
        Ok((0..ranks).map(|rank| DataShard { epochs: epochs.clone(), rank }).collect())
    }
}

/// A rank's share of a [`Dataset::streaming_split`]. Dropping it leaves its rows to nobody (with [`SplitOptions::equal`]) or to the others.
pub struct DataShard {
    epochs: Arc<Epochs>,
    rank: usize,
}

impl DataShard {
    /// Which share it is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many shares there are.
    pub fn world_size(&self) -> usize {
        self.epochs.ranks
    }

    /// The columns of its batches.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn schema(&self) -> Result<SchemaRef> {
        self.epochs.dataset.schema()
    }

    /// Begins the rank's next epoch: its batches, made ahead. It waits for ranks that have not begun the epoch before. Batches that are
    /// dropped before their end leave the epoch.
    ///
    /// # Errors
    /// [`DataError::Config`] for an option out of range; [`DataError::SplitStalled`] when a rank has not begun the epoch before within
    /// the split's limit; whatever goes wrong in planning. What goes wrong later comes out of the iterators of all ranks, as their last item.
    pub fn batches(&mut self, options: BatchOptions) -> Result<Batches> {
        options.validate()?;
        let schema = self.schema()?;
        let (entry, dealer) = self.epochs.begin(self.rank)?;
        let bytes = options.prefetch_bytes.unwrap_or(self.epochs.lane_bytes());
        let hungry = entry.hungry;
        let rows = futures::stream::unfold((entry.lane, dealer), |(mut lane, dealer)| async move {
            let item = lane.recv().await?;
            Some((item, (lane, dealer)))
        });
        let batches = Batches::shaped(self.epochs.dataset.session(), rows.boxed(), schema, &options, bytes)?;
        Ok(batches.hungry(hungry))
    }
}

impl fmt::Debug for DataShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataShard({} of {})", self.rank, self.epochs.ranks)
    }
}

impl Drop for DataShard {
    fn drop(&mut self) {
        self.epochs.leave(self.rank);
    }
}
