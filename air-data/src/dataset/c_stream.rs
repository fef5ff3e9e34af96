//! Datasets over [Arrow's C stream interface](https://arrow.apache.org/docs/format/CStreamInterface.html), in both directions.
//!
//! There is no unsafe code in it: a [`CStream`] is a value that owns its stream, and Arrow's own implementation makes and reads it. What has to be
//! believed is believed where a `CStream` is made of a pointer, which is the caller's `unsafe` block.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ffi_stream::FFI_ArrowArrayStream;

use super::Dataset;
use super::batches::Batches;
use crate::error::Result;
use crate::session::{Session, panic_message};
use crate::source::Foreign;

/// A stream of Arrow batches in C's terms, `struct ArrowArrayStream`: what goes to other languages and libraries and comes from them, without copying.
///
/// It owns the stream: dropping it releases it. To hand one out, write it to where the receiver wants it (`ptr.write(stream)`); from then on the
/// receiver releases it. To take one over, `CStream::from_raw(ptr)`, which is unsafe: it believes that the pointer is valid and that the batches
/// are what their schema says.
pub type CStream = FFI_ArrowArrayStream;

impl Dataset {
    /// Runs the dataset as a stream for pyarrow, polars, DuckDB and whatever else speaks Arrow's C interface. Batches are made ahead, as many as the session's
    /// `prefetch_bytes` hold, and go out as they are: the receiver reads this engine's memory, and each batch lives until it releases it.
    ///
    /// An error of the run ends the stream; its text, causes included, is the stream's last error. Releasing the stream stops the run, read to the end or
    /// not. It may be read and released on any thread, one at a time.
    ///
    /// # Errors
    /// Whatever goes wrong in planning.
    pub fn to_c_stream(&self) -> Result<CStream> {
        let batches = self.record_batches()?;
        Ok(CStream::new(Box::new(Exported { schema: batches.schema().clone(), batches: Some(batches) })))
    }
}

impl Session {
    /// The batches of a stream that another library makes, as they are. They are read as they are needed, on a thread that may block, and are never
    /// copied: each is released when nothing holds it any more.
    ///
    /// A stream can be read once, so the dataset can be run once; [`Dataset::materialize`] keeps its rows for more. It is released when it has been read
    /// to the end, or when the run or the dataset goes before that.
    ///
    /// # Errors
    /// [`DataError::CStream`](crate::DataError::CStream) for a stream that is released already or does not tell its columns, [`DataError::DuplicateColumn`](crate::DataError::DuplicateColumn).
    pub fn from_c_stream(&self, stream: CStream) -> Result<Dataset> {
        self.read_source(Foreign::open(stream)?)
    }
}

/// A run as what Arrow's implementation of the interface reads.
struct Exported {
    schema: SchemaRef,
    batches: Option<Batches>,
}

impl Iterator for Exported {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.batches.as_mut()?;
        // The caller may not be Rust: a panic would end the process.
        let next = catch_unwind(AssertUnwindSafe(|| {
            // Some readers take a batch without rows for the end.
            batches.find(|batch| !batch.as_ref().is_ok_and(|batch| batch.num_rows() == 0))
        }));
        let error = match next {
            Ok(Some(Ok(batch))) => return Some(Ok(batch)),
            Ok(Some(Err(error))) => Some(air_core::cli::Chain(&error).to_string()),
            Ok(None) => None,
            Err(panic) => Some(panic_message(&*panic)),
        };
        // An error is the last item.
        self.batches = None;
        error.map(|text| Err(told(&text)))
    }
}

impl RecordBatchReader for Exported {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// An error as text that C can hold.
fn told(text: &str) -> ArrowError {
    ArrowError::ExternalError(text.replace('\0', "\\0").into())
}
