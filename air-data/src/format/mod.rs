//! What files may look like. A [`Format`] is how the columns of a file are told and how one file is opened as batches; everything else, lists of files, columns in
//! their paths, projections, limits, order, read-ahead, files that cannot be read, is the same for all (`source`).
//!
//! | file | what |
//! |---|---|
//! | `kind` | [`FileFormat`]: the formats there are, with their settings |
//! | `bytes` | the bytes of a file, as many at a time as are wanted |
//! | `compression`, `unpack` | what whole files are compressed with; the bytes that such a one holds |
//! | `scan` | a format of ours in the engine's file scan |
//! | `csv` | comma-separated values, large files in pieces |
//! | `cells` | columns that are filled value by value |
//! | `text`, `binary`, `npy`, `json_array` | lines, whole files, NumPy arrays, one array of objects |
//! | `avro` | Avro's container files, with the feature `avro` |
//! | `images` | PNG and JPEG, with the feature `images` |
//! | `tfrecord`, `webdataset` | records of examples; samples in tar archives |
//! | `ipc` | the columns of Arrow's files, which the engine reads |
//! | `signature` | what a file is by its first bytes, where it is not what it was read as |

#[cfg(feature = "avro")]
pub(crate) mod avro;
mod binary;
mod bytes;
pub(crate) mod cells;
mod compression;
pub(crate) mod csv;
#[cfg(feature = "images")]
pub(crate) mod images;
pub(crate) mod ipc;
mod json_array;
mod kind;
pub(crate) mod npy;
mod scan;
pub(crate) mod signature;
mod text;
pub(crate) mod tfrecord;
mod unpack;
pub(crate) mod webdataset;

pub(crate) use bytes::FileBytes;
pub(crate) use compression::Codec;
pub use compression::Compression;
#[cfg(feature = "images")]
pub use images::{ImageMode, ImageOptions};
pub use kind::{CsvOptions, FileFormat};
pub(crate) use kind::{Reader, sniffed};
pub(crate) use scan::FormatSource;
pub(crate) use unpack::{Spoilt, Unpack};

use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// A batch is closed when it has so many bytes, however few its rows are.
const BATCH_BYTES: usize = 32 << 20;

/// A record, an element, a file in an archive with more bytes is an error.
pub(crate) const VALUE_BYTES: u64 = 512 << 20;

/// Rows that are looked at to tell the columns of a file, where they are not told at its beginning.
pub(crate) const LOOK_ROWS: u64 = 1000;

/// Bytes of a file that are looked at for its columns.
const LOOK_BYTES: u64 = 8 << 20;

/// More columns are an error: each costs memory in every batch.
const MAX_COLUMNS: usize = 10_000;

/// A format of ours, as opposed to the engine's.
pub(crate) trait Format: fmt::Debug + Send + Sync + 'static {
    /// What plans call it.
    fn name(&self) -> &'static str;

    /// The columns of a file.
    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>>;

    /// The columns of two files together.
    fn merge(&self, a: Schema, b: Schema) -> Result<Schema, ArrowError> {
        Schema::try_merge([a, b])
    }

    /// The rows of a file. An error ends them, and says where in the file it is; which file that is, others say.
    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>>;
}

/// What is wanted of a file.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// All columns that the table has.
    pub(crate) all: SchemaRef,
    /// Those that the batches are to have.
    pub(crate) columns: SchemaRef,
    /// Whether somebody gave the columns: then what else is in the files is not wanted. Columns that a look found are to be all there are.
    pub(crate) given: bool,
    /// Rows of a batch, at most.
    pub(crate) rows: usize,
    /// Which pieces of a file of CSV, if not all of it.
    pub(crate) pieces: Option<Vec<(Arc<csv::Cuts>, usize)>>,
}

/// A batch of so many rows, also of no columns.
fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, BoxError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}
