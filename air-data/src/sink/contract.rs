//! [`Sink`]: what a place has to do for datasets to be written into it.

use std::future::Future;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// A place that rows go to: a description, which [`Dataset::write_sink`](crate::Dataset::write_sink) writes into.
///
/// A write is all or nothing. It [begins](Self::begin), opens a [part](SinkWrite::open) for each block of the dataset, several at once, gives each its batches in
/// order, and finishes it; once all parts are finished it [commits](SinkWrite::commit). Before that nobody who reads from the place may see anything of it. When
/// anything fails, every part is aborted, those under way at their next batch, and then the write. [`testing::sink`](crate::testing::sink) checks that a sink holds to this.
///
/// The functions may wait and may compute; they run on the session's threads. An implementation writes them as `async fn`.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use air_core::BoxError;
/// use air_data::{Sink, SinkPart, SinkWrite};
/// use arrow::array::RecordBatch;
/// use arrow::datatypes::SchemaRef;
///
/// /// Keeps batches in memory.
/// #[derive(Debug, Clone, Default)]
/// struct Shelf(Arc<Mutex<Vec<RecordBatch>>>);
///
/// impl Sink for Shelf {
///     type Write = Shelf;
///
///     fn name(&self) -> String {
///         "shelf".to_owned()
///     }
///
///     async fn begin(&self, _: &SchemaRef, _: usize) -> Result<Shelf, BoxError> {
///         Ok(self.clone())
///     }
/// }
///
/// impl SinkWrite for Shelf {
///     type Part = Pile;
///
///     async fn open(&self, _: usize) -> Result<Pile, BoxError> {
///         Ok(Pile(Vec::new()))
///     }
///
///     async fn commit(&self, parts: Vec<Vec<RecordBatch>>) -> Result<Vec<String>, BoxError> {
///         self.0.lock().unwrap().extend(parts.into_iter().flatten());
///         Ok(Vec::new())
///     }
///
///     async fn abort(&self, _: Vec<Vec<RecordBatch>>) {}
/// }
///
/// struct Pile(Vec<RecordBatch>);
///
/// impl SinkPart for Pile {
///     type Finished = Vec<RecordBatch>;
///
///     async fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
///         self.0.push(batch.clone());
///         Ok(())
///     }
///
///     async fn finish(self) -> Result<Vec<RecordBatch>, BoxError> {
///         Ok(self.0)
///     }
///
///     async fn abort(self) {}
/// }
///
/// # fn main() -> air_data::Result<()> {
/// air_data::testing::sink(Shelf::default, |shelf: &Shelf| shelf.0.lock().unwrap().clone());
/// let shelf = Shelf::default();
/// air_data::range(10)?.write_sink(shelf.clone())?;
/// assert_eq!(shelf.0.lock().unwrap()[0].num_rows(), 10);
/// # Ok(())
/// # }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// One write under way.
    type Write: SinkWrite;

    /// What it is called in messages.
    fn name(&self) -> String;

    /// Begins a write of so many parts with these columns.
    ///
    /// # Errors
    /// Why it cannot be written, such as that there is something already.
    fn begin(
        &self,
        schema: &SchemaRef,
        parts: usize,
    ) -> impl Future<Output = Result<Self::Write, BoxError>> + Send;
}

/// A write under way.
pub trait SinkWrite: Send + Sync + 'static {
    /// One part under way.
    type Part: SinkPart;

    /// What there is of a part from an earlier write that was cut off: all of it, finished. Such a part is not opened, and its rows are not computed.
    /// By default there is nothing.
    fn resumed(&self, part: usize) -> Option<<Self::Part as SinkPart>::Finished> {
        let _ = part;
        None
    }

    /// Begins a part. Each is opened once, in any order, several at once, but those that are [there](Self::resumed).
    ///
    /// # Errors
    /// Why the part cannot be written.
    fn open(&self, part: usize) -> impl Future<Output = Result<Self::Part, BoxError>> + Send;

    /// Makes everything visible: all parts, in their order. It is the last call. What it returns, such as the names of files, the write returns.
    ///
    /// # Errors
    /// Why it cannot be made visible; then nothing of it may be.
    fn commit(
        &self,
        parts: Vec<<Self::Part as SinkPart>::Finished>,
    ) -> impl Future<Output = Result<Vec<String>, BoxError>> + Send;

    /// Takes back what was written: the parts that were finished before something failed. It is the last call.
    fn abort(&self, parts: Vec<<Self::Part as SinkPart>::Finished>) -> impl Future<Output = ()> + Send;
}

/// A part under way.
pub trait SinkPart: Send + 'static {
    /// What a finished part is to its write.
    type Finished: Send + 'static;

    /// Takes the next rows.
    ///
    /// # Errors
    /// Why they cannot be written.
    fn write(&mut self, batch: &RecordBatch) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Writes what is left. Nothing is visible yet.
    ///
    /// # Errors
    /// Why it cannot be written; the part must then have taken back what it wrote.
    fn finish(self) -> impl Future<Output = Result<Self::Finished, BoxError>> + Send;

    /// Takes back what was written.
    fn abort(self) -> impl Future<Output = ()> + Send;
}

impl<S: Sink> Sink for std::sync::Arc<S> {
    type Write = S::Write;

    fn name(&self) -> String {
        S::name(self)
    }

    async fn begin(&self, schema: &SchemaRef, parts: usize) -> Result<S::Write, BoxError> {
        S::begin(self, schema, parts).await
    }
}
