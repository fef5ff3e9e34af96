//! [`Batches`]: a dataset as an iterator of equal batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use air_core::seed::Seed;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use rand::seq::SliceRandom;

use super::cutter::Cutter;
use crate::error::{DataError, Result};
use crate::exchange::{Incoming, Sender};
use crate::memory::{Parcel, Watch};
use crate::session::Session;

/// Most batches that go to the consumer as one item: what is cut from one batch of the engine costs one hand-over.
const GROUP: usize = 32;

/// What the batches of [`Dataset::batches_with`](crate::Dataset::batches_with) are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Rows in a batch.
    pub rows: usize,
    /// Leave out the last batch when it has fewer rows.
    pub drop_last: bool,
    /// Mix the rows within windows.
    pub shuffle: Option<LocalShuffle>,
    /// Bytes of finished batches that may wait for the consumer; the session's
    /// [`prefetch_bytes`](crate::SessionConfig::prefetch_bytes) when absent.
    pub prefetch_bytes: Option<usize>,
}

/// A shuffle that holds a window of rows at a time: cheap, and as random as the window is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalShuffle {
    /// The same seed gives the same order, whatever the threads do.
    pub seed: Seed,
    /// Rows that are held and mixed at once.
    pub window_rows: usize,
}

impl BatchOptions {
    /// Batches of `rows` rows in the dataset's order, the last one smaller where the number does not divide.
    pub fn new(rows: usize) -> Self {
        Self { rows, drop_last: false, shuffle: None, prefetch_bytes: None }
    }

    /// Sets [`drop_last`](Self::drop_last).
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Mixes the rows within windows of `window_rows`, from this seed.
    pub fn local_shuffle(mut self, seed: u64, window_rows: usize) -> Self {
        self.shuffle = Some(LocalShuffle { seed: Seed::new(seed), window_rows });
        self
    }

    /// Sets [`prefetch_bytes`](Self::prefetch_bytes).
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch_bytes = Some(bytes);
        self
    }

    /// Checks every field's range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, field, reason: &str| {
            if ok { Ok(()) } else { Err(DataError::Config { field, reason: reason.to_owned() }) }
        };
        check(self.rows > 0, "rows", "a batch has at least one row")?;
        check(self.prefetch_bytes != Some(0), "prefetch_bytes", "at least 1")?;
        let window = self.shuffle.map_or(1, |shuffle| shuffle.window_rows);
        check(window > 0, "window_rows", "at least 1")?;
        check(u32::try_from(window).is_ok(), "window_rows", "at most 4294967295")
    }
}

/// Cuts, and mixes where asked to.
struct Shaper {
    mixer: Option<Mixer>,
    cutter: Cutter,
    drop_last: bool,
}

struct Mixer {
    windows: Cutter,
    seed: Seed,
    mixed: u64,
}

impl Shaper {
    fn new(schema: &SchemaRef, options: &BatchOptions) -> Self {
        let mixer = options.shuffle.map(|shuffle| Mixer {
            // A window is at least a batch.
            windows: Cutter::new(schema.clone(), shuffle.window_rows.max(options.rows)),
            seed: shuffle.seed,
            mixed: 0,
        });
        let cutter = Cutter::new(schema.clone(), options.rows);
        Self { mixer, cutter, drop_last: options.drop_last }
    }

    /// Takes rows in and gives out the batches that are full then.
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        match &mut self.mixer {
            None => self.cutter.push(batch),
            Some(mixer) => {
                mixer.windows.push(batch);
                while let Some(window) = mixer.windows.full()? {
                    self.cutter.push(mixer.mix(&window)?);
                }
            }
        }
        self.full()
    }

    /// What is left at the end.
    fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        if let Some(mixer) = &mut self.mixer
            && let Some(window) = mixer.windows.rest()?
        {
            self.cutter.push(mixer.mix(&window)?);
        }
        let mut batches = self.full()?;
        if !self.drop_last {
            batches.extend(self.cutter.rest()?);
        }
        Ok(batches)
    }

    fn full(&mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.cutter.full()? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

impl Mixer {
    fn mix(&mut self, window: &RecordBatch) -> Result<RecordBatch> {
        let mut order: Vec<u32> = (0..window.num_rows() as u32).collect();
        order.shuffle(&mut self.seed.child("window", self.mixed).rng());
        self.mixed += 1;
        Ok(take_record_batch(window, &UInt32Array::from(order))?)
    }
}

/// Shapes a stream into a lane, until it ends, fails, or nobody listens any more.
async fn shape(
    mut stream: BoxStream<'static, Result<RecordBatch>>,
    mut shaper: Shaper,
    mut lane: Sender<Result<Vec<RecordBatch>>>,
) {
    loop {
        let (batches, whole, last) = match stream.next().await {
            Some(Ok(batch)) => {
                let whole = shaper.mixer.is_none().then(|| Parcel::of(&batch));
                (shaper.push(batch), whole, false)
            }
            Some(Err(error)) => (Err(error), None, true),
            None => (shaper.finish(), None, true),
        };
        match batches {
            Ok(batches) => {
                for (number, group) in batches.chunks(GROUP).enumerate() {
                    let parcel = match &whole {
                        // All but the first are slices of what came in.
                        Some(whole) if batches.len() > 1 => {
                            Parcel::of_slices(group, group.first().filter(|_| number == 0), whole)
                        }
                        _ => Parcel::of_all(group),
                    };
                    if !lane.send(Ok(group.to_vec()), parcel).await {
                        return;
                    }
                }
            }
            Err(error) => {
                lane.force(Err(error), Parcel::default());
                return;
            }
        }
        if last {
            return;
        }
    }
}

/// An iterator over the batches of a dataset. They are read, cut and mixed ahead, on the session's threads, as many as the prefetch
/// budget allows. Dropping it stops the work.
#[derive(Debug)]
pub struct Batches {
    incoming: Option<Incoming<Vec<RecordBatch>>>,
    ready: VecDeque<RecordBatch>,
    schema: SchemaRef,
    hungry: Option<Arc<AtomicBool>>,
}

impl Batches {
    /// Batches of a stream, made ahead on the session's threads, as many as `bytes` hold.
    pub(crate) fn shaped(
        session: &Session,
        stream: BoxStream<'static, Result<RecordBatch>>,
        schema: SchemaRef,
        options: &BatchOptions,
        bytes: usize,
    ) -> Result<Self> {
        let shaper = Shaper::new(&schema, options);
        let incoming = Incoming::spawn(session, bytes, |lane| shape(stream, shaper, lane))?;
        Ok(Self { incoming: Some(incoming), ready: VecDeque::new(), schema, hungry: None })
    }

    /// The batches of a stream as they are.
    pub(crate) fn as_made(
        session: &Session,
        stream: BoxStream<'static, Result<RecordBatch>>,
        schema: SchemaRef,
        watch: Arc<Watch>,
    ) -> Self {
        let stream = stream.map(|item| item.map(|batch| vec![batch])).boxed();
        let incoming = Some(Incoming::of(session, stream, watch));
        Self { incoming, ready: VecDeque::new(), schema, hungry: None }
    }

    /// Has a flag say while a batch is waited for.
    pub(crate) fn hungry(self, flag: Arc<AtomicBool>) -> Self {
        Self { hungry: Some(flag), ..self }
    }

    /// The columns of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes of finished batches that wait for [`next`](Iterator::next) now.
    pub fn queued_bytes(&self) -> usize {
        self.incoming.as_ref().map_or(0, Incoming::queued_bytes)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            let flag = |waits| {
                if let Some(hungry) = &self.hungry {
                    hungry.store(waits, Ordering::Relaxed);
                }
            };
            let incoming = self.incoming.as_mut()?;
            flag(true);
            let next = incoming.next_blocking();
            flag(false);
            match next {
                Some(Ok(group)) => self.ready.extend(group),
                Some(Err(error)) => {
                    // An error is the last item.
                    self.incoming = None;
                    return Some(Err(error));
                }
                None => self.incoming = None,
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

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("id", column)]).unwrap()
    }

    fn shaped(options: &BatchOptions, pieces: &[i64]) -> Vec<Vec<i64>> {
        let mut shaper = Shaper::new(&numbers(0..0).schema(), options);
        let (mut at, mut out) = (0, Vec::new());
        for rows in pieces {
            out.extend(shaper.push(numbers(at..at + rows)).unwrap());
            at += rows;
        }
        out.extend(shaper.finish().unwrap());
        out.iter().map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn the_last_batch_may_be_dropped() {
        let sizes = |options| shaped(&options, &[4, 4, 3]).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(BatchOptions::new(5)), [5, 5, 1]);
        assert_eq!(sizes(BatchOptions::new(5).drop_last()), [5, 5]);
        assert_eq!(sizes(BatchOptions::new(20).drop_last()), [0_usize; 0]);
    }

    #[test]
    fn a_local_shuffle_stays_within_its_window_and_does_not_depend_on_how_rows_come() {
        let options = BatchOptions::new(7).local_shuffle(3, 50);
        let mixed = shaped(&options, &[200]);
        assert_eq!(mixed, shaped(&options, &[33; 6].iter().copied().chain([2]).collect::<Vec<_>>()));
        assert_ne!(mixed, shaped(&BatchOptions::new(7).local_shuffle(4, 50), &[200]));
        let rows: Vec<i64> = mixed.into_iter().flatten().collect();
        for (number, window) in rows.chunks(50).enumerate() {
            let mut sorted = window.to_vec();
            sorted.sort_unstable();
            let first = number as i64 * 50;
            assert_eq!(sorted, (first..first + 50).collect::<Vec<_>>());
            assert_ne!(sorted, window);
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let refused = |options: BatchOptions| options.validate().unwrap_err().to_string();
        assert_eq!(refused(BatchOptions::new(0)), "bad setting rows: a batch has at least one row");
        assert_eq!(refused(BatchOptions::new(1).local_shuffle(0, 0)), "bad setting window_rows: at least 1");
        assert_eq!(refused(BatchOptions::new(1).prefetch_bytes(0)), "bad setting prefetch_bytes: at least 1");
    }
}
