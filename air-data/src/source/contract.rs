//! [`Source`]: what a place has to tell and do for its rows to be a dataset.

use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

/// A place that rows come from: a description, of which datasets are made with [`Session::read_source`](crate::Session::read_source).
///
/// It has columns, and parts that are read by themselves: each is a block, so parts are what is read in parallel. The rows of a dataset are those of the
/// parts, in the order of the parts. How many parts are open at once, how far they are read ahead and what is done about one that cannot be read is
/// not the source's affair. [`testing::source`](crate::testing::source) checks that one holds to all of this.
///
/// ```
/// use std::sync::Arc;
///
/// use air_data::{ReadRequest, Session, Source, SourceBatches, SourcePart};
/// use arrow::array::{Int64Array, RecordBatch};
/// use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
///
/// /// Squares, a hundred to a part.
/// #[derive(Debug)]
/// struct Squares {
///     parts: i64,
/// }
///
/// impl Source for Squares {
///     fn name(&self) -> String {
///         "squares".to_owned()
///     }
///
///     fn schema(&self) -> SchemaRef {
///         Arc::new(Schema::new(vec![Field::new("square", DataType::Int64, false)]))
///     }
///
///     fn parts(&self) -> Result<Vec<SourcePart>, air_core::BoxError> {
///         Ok((0..self.parts).map(|part| SourcePart::new(format!("hundred {part}")).rows(100)).collect())
///     }
///
///     fn open(&self, part: usize, _: &ReadRequest) -> Result<SourceBatches, air_core::BoxError> {
///         if part as i64 >= self.parts {
///             return Err(format!("there are {} parts", self.parts).into());
///         }
///         let first = 100 * part as i64;
///         let squares = Int64Array::from_iter_values((first..first + 100).map(|x| x * x));
///         let batch = RecordBatch::try_new(self.schema(), vec![Arc::new(squares)])?;
///         Ok(SourceBatches::computed([Ok(batch)]))
///     }
/// }
///
/// # fn main() -> air_data::Result<()> {
/// air_data::testing::source(|| Squares { parts: 3 });
/// let squares = Session::shared()?.read_source(Squares { parts: 3 })?;
/// assert_eq!(squares.sum::<i64>("square")?, (0..300).map(|x| x * x).sum::<i64>());
/// # Ok(())
/// # }
/// ```
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// What it is called in messages and plans.
    fn name(&self) -> String;

    /// The columns of every batch.
    fn schema(&self) -> SchemaRef;

    /// What is read by itself, in the order of the rows. It is asked once, when a dataset is made of the source.
    ///
    /// # Errors
    /// Why the parts cannot be told.
    fn parts(&self) -> Result<Vec<SourcePart>, BoxError>;

    /// What one run of a dataset reads, where that is not the source itself: the same rows, but all parts in one state of the place. It lives as long as the run.
    fn for_run(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// Begins to read one of the parts, by its place in [`parts`](Self::parts). A part is opened as often as datasets run, also twice at once, and may be
    /// left unread at any batch.
    ///
    /// # Errors
    /// Why the part cannot be read, also when there is none in that place. What goes wrong later is an item of the batches, and the last one.
    fn open(&self, part: usize, request: &ReadRequest) -> Result<SourceBatches, BoxError>;
}

/// A part of a [`Source`] that is read by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourcePart {
    /// What it is called in messages.
    pub name: String,
    /// Its rows, where they are known. A part that has others is an error.
    pub rows: Option<u64>,
    /// About how many bytes it has in memory, where that is known.
    pub bytes: Option<u64>,
}

impl SourcePart {
    /// A part of that name, of which nothing else is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// With its number of rows.
    pub fn rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    /// With its size in memory.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

/// What is wanted of a part. A source may heed it or not: columns and rows that nobody asked for are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRequest {
    /// The columns that are wanted, by their places in the schema and in this order; all when absent. A batch has all columns, or exactly these.
    pub columns: Option<Vec<usize>>,
    /// No more rows than these are wanted.
    pub limit: Option<usize>,
    /// Rows that make a good batch.
    pub batch_rows: usize,
}

impl ReadRequest {
    /// The columns that are wanted of a source that has those of `schema`.
    ///
    /// # Errors
    /// Where a column is asked for that is not there.
    pub fn schema(&self, schema: &Schema) -> Result<Schema, BoxError> {
        match &self.columns {
            Some(columns) => Ok(schema.project(columns)?),
            None => Ok(schema.clone()),
        }
    }
}

/// The batches of a part, as they are made. An error ends them.
pub struct SourceBatches(BoxStream<'static, Result<RecordBatch, BoxError>>);

impl fmt::Debug for SourceBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBatches").finish_non_exhaustive()
    }
}

impl SourceBatches {
    /// Batches out of a stream, which may wait for what it needs without blocking.
    pub fn stream(batches: impl Stream<Item = Result<RecordBatch, BoxError>> + Send + 'static) -> Self {
        Self(batches.boxed())
    }

    /// Batches out of an iterator that computes and never waits: it runs on the session's threads.
    pub fn computed<I>(batches: I) -> Self
    where
        I: IntoIterator<Item = Result<RecordBatch, BoxError>>,
        I::IntoIter: Send + 'static,
    {
        Self(futures::stream::iter(batches).boxed())
    }

    /// Batches out of an iterator that blocks, as readers of files and databases do: it runs on a thread of its own, one batch ahead.
    pub fn blocking<I>(batches: I) -> Self
    where
        I: IntoIterator<Item = Result<RecordBatch, BoxError>> + Send + 'static,
    {
        Self::blocking_with(move |put| {
            for batch in batches {
                if !put(batch?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Batches out of a function that blocks and gives them out one by one, for readers that no iterator can hold. It runs on a thread of its own, one batch
    /// ahead; `put` says whether more are wanted.
    pub fn blocking_with<F>(produce: F) -> Self
    where
        F: FnOnce(&mut dyn FnMut(RecordBatch) -> bool) -> Result<(), BoxError> + Send + 'static,
    {
        let start = futures::stream::once(async move {
            let (sender, receiver) = mpsc::channel(1);
            let thread = tokio::task::spawn_blocking(move || {
                produce(&mut |batch| sender.blocking_send(batch).is_ok())
            });
            futures::stream::unfold((receiver, Some(thread)), |(mut receiver, thread)| async move {
                if let Some(batch) = receiver.recv().await {
                    return Some((Ok(batch), (receiver, thread)));
                }
                // A thread that ended early because it failed or panicked must not look like the end of the rows.
                let error: BoxError = match thread?.await {
                    Ok(done) => done.err()?,
                    Err(panic) => panic.into(),
                };
                Some((Err(error), (receiver, None)))
            })
        });
        Self(start.flatten().boxed())
    }

    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        self.0
    }
}
