//! Datasets of AIR: lazy, streaming, order-preserving, on DataFusion and Arrow.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use serde::{Deserialize, Serialize};
//!
//! // Numbers, and closures over them: nothing runs before `take`, and then only as much as it needs.
//! let doubled = air_data::range(10_000)?.map(|x: i64| Ok(2 * x));
//! assert_eq!(doubled.filter(|x: &i64| Ok(*x > 5)).take::<i64>(5)?, [6, 8, 10, 12, 14]);
//! assert_eq!(doubled.flat_map(|x: i64| Ok([x, -x])).take::<i64>(5)?, [0, 0, 2, -2, 4]);
//!
//! // Any serde type is a row.
//! #[derive(Serialize, Deserialize)]
//! struct Flower {
//!     #[serde(rename = "sepal.length")]
//!     sepal: f64,
//!     #[serde(rename = "petal.length")]
//!     petal: f64,
//!     variety: String,
//! }
//! # let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv");
//! let flowers = air_data::read_csv(iris)?;
//! assert_eq!(flowers.count()?, 150);
//! let odd = flowers.filter(|f: &Flower| Ok(f.sepal < 5.5 && f.petal > 3.5));
//! assert_eq!(odd.count()?, 3);
//! assert_eq!(odd.map(|f: Flower| Ok(f.variety)).take::<String>(1)?, ["Versicolor"]);
//!
//! // Batches for training; disjoint shares for four workers.
//! assert_eq!(flowers.batches(10)?.count(), 15);
//! let shares = flowers.repartition(10).split(4);
//! assert_eq!(shares[3].count()?, 30);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | `dataset` | [`Dataset`]: making one, transforming it (`transform` rows, `columns`, `order`, `combine`, `join`, `group`, `split`), looking into it, running it, writing it; [`CStream`]s in and out |
//! | [`expr`], [`agg`] | expressions over columns and sort keys; aggregates |
//! | [`preprocess`] | what is learnt from a dataset and done to others: scalers, encoders, imputers |
//! | `session` | [`Session`]: the engine as a value; threads, memory, settings |
//! | `lists` | columns of lists, of whatever kind |
//! | `rows` | between Arrow batches and Rust values |
//! | `plan` | our operators in DataFusion's plan: closures, pools, blocks, the ordered merge, zip, mix, groups; joins that can spill |
//! | `memory` | [`Budget`]: what may wait, be kept and be worked on, counted once |
//! | `exchange` | queues of bounded bytes; many partitions in, one ordered stream out |
//! | `pool` | [`Pool`]: functions with a state, in supervised workers |
//! | `split` | [`DataShard`]: one run dealt to several trainers |
//! | `stats` | [`Stats`]: what a run did; progress on a terminal |
//! | `blocks` | a whole dataset at rest, in memory and on disk |
//! | `source` | [`Source`]: where rows come from: numbers, memory, files, what others bring; paths and the columns in them; object stores |
//! | `format` | [`FileFormat`]: how one file is opened as batches; [`Compression`] of whole files |
//! | `sink` | [`Sink`]: where rows go, all or none; files, directories by columns |
//! | `sql` | databases as sources and sinks, with the features `sqlite` and `postgres` |
//! | [`testing`] | suites that every source and every sink passes |
//! | `tensors` | [`TensorColumns`]: tensors in columns, of one shape and of any; a dataset as a [`BatchSource`](air_core::data::BatchSource) |
//! | [`cli`] | the `air-data` binary, a file for each family of verbs; `cli/run`: pipelines as files |
//!
//! # Invariants
//!
//! 1. Nothing runs before a terminal verb, except that `read_*` looks into files for their columns.
//! 2. `map`, `flat_map`, `filter`, `map_batches`, `map_batches_with`, `limit`, `repartition`, `union`, `zip`, `random_sample`, the splits, verbs of columns and every
//!    terminal keep the order of rows, whatever the number of threads, blocks and batches; `sort` and `map_groups` make one; joins, groups and
//!    `distinct` promise none (`tests/it/random_plans.rs`, `random_verbs.rs`).
//! 3. A stream never holds more than its bound in bytes ahead of its consumer, all of them together no more than their share of the
//!    budget, and a limit stops what feeds them (`tests/it/engine.rs`, `tests/it/budget.rs`; every interleaving of the queues: `exchange_loom`).
//! 4. An error or a panic of a user function ends the dataset's run with an error that names the function and the rows; it
//!    ends nothing else. In a pool the batch is tried again first, in a fresh life of the worker (`tests/it/pools.rs`).
//! 5. A file that is being written is not visible before all files of the write are complete; a new local directory appears with all of them;
//!    of a write that fails nothing stays (`tests/it/files.rs`, `sources.rs`, `disk_full.rs`, `s3/`), but of one that is to be gone on with, which stays
//!    hidden (`resume.rs`).
//! 6. What is random depends on its seed and the order of rows alone (`tests/it/order.rs`).
//! 7. Blocking verbs may be called anywhere, also inside a tokio runtime; dropping the last handle on a session ends its threads.

pub mod agg;
mod blocks;
pub mod cli;
mod dataset;
mod error;
mod exchange;
pub mod expr;
mod format;
mod lists;
mod memory;
mod plan;
mod pool;
pub mod preprocess;
mod rows;
mod session;
mod sink;
mod source;
mod split;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod stats;
mod tensors;
pub mod testing;

pub use agg::Aggregate;
pub use dataset::{
    BatchOptions, Batches, CStream, ColumnSummary, Dataset, GroupBy, IntoJoinKey, Join, JoinKind,
    LocalShuffle, Rows, Summary,
};
pub use error::{DataError, Place, Result};
pub use expr::{Expr, IntoExpr, SortKey, asc, col, desc, lit};
pub use format::{Compression, CsvOptions, FileFormat};
#[cfg(feature = "images")]
pub use format::{ImageMode, ImageOptions};
pub use memory::{Budget, BudgetUse};
pub use plan::MixUntil;
pub use pool::{Pool, SkippedBatch, WorkerContext};
pub use rows::Row;
pub use session::{Session, SessionConfig};
pub use sink::{Sink, SinkPart, SinkWrite, WriteMode, WriteOptions};
pub use source::{
    FileErrors, IntoPaths, ReadOptions, ReadRequest, SkippedFile, Source, SourceBatches, SourcePart,
    StorageConfig,
};
pub use split::{DataShard, SplitOptions};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use sql::SqlOptions;
pub use stats::{OperatorStats, PoolStats, RunState, Stats};
pub use tensors::{Ragged, TensorBatches, TensorColumns, TensorSpec};

use arrow::array::RecordBatch;
use serde::Serialize;

/// [`Session::range`] on the shared session.
///
/// # Errors
/// As [`Session::shared`].
pub fn range(end: u64) -> Result<Dataset> {
    Session::shared()?.range(end)
}

/// [`Session::from_items`] on the shared session.
///
/// # Errors
/// As [`Session::from_items`] and [`Session::shared`].
pub fn from_items<T: Serialize>(items: Vec<T>) -> Result<Dataset> {
    Session::shared()?.from_items(items)
}

/// [`Session::from_batches`] on the shared session.
///
/// # Errors
/// As [`Session::from_batches`] and [`Session::shared`].
pub fn from_batches(batches: Vec<RecordBatch>) -> Result<Dataset> {
    Session::shared()?.from_batches(batches)
}

/// [`Session::read_csv`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_csv(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_csv(paths)
}

/// [`Session::read_parquet`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_parquet(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_parquet(paths)
}

/// [`Session::read_json`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_json(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_json(paths)
}

/// [`Session::read_ipc`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_ipc(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_ipc(paths)
}

/// [`Session::read_text`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_text(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_text(paths)
}

/// [`Session::read_binary`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_binary(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_binary(paths)
}

/// [`Session::read_npy`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_npy(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_npy(paths)
}

/// [`Session::read_tfrecord`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_tfrecord(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_tfrecord(paths)
}

/// [`Session::read_webdataset`] on the shared session.
///
/// # Errors
/// As [`Session::read_csv`] and [`Session::shared`].
pub fn read_webdataset(paths: impl IntoPaths) -> Result<Dataset> {
    Session::shared()?.read_webdataset(paths)
}

/// [`Session::read_source`] on the shared session.
///
/// # Errors
/// As [`Session::read_source`] and [`Session::shared`].
pub fn read_source(source: impl Source) -> Result<Dataset> {
    Session::shared()?.read_source(source)
}
