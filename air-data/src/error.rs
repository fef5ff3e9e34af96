//! What can go wrong with a dataset: [`DataError`].
//!
//! | file | idea |
//! |---|---|
//! | `carried` | our errors' way through the engine, and back |
//! | `near` | the name that was meant |

mod carried;
mod near;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use air_core::BoxError;
use air_core::device::Device;
use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};

pub(crate) use near::nearest;

use crate::source::{explain, status};
use crate::stats::Bytes;

/// The result of a verb of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// What can go wrong while a dataset is described, read, transformed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing is at the path, or no file matches the pattern.
    #[error("no file at {path}")]
    NotFound {
        /// The path, URL or pattern as it was given.
        path: String,
    },
    /// The directory exists and holds no file of the format asked for.
    #[error("no .{extension} file in directory {path}")]
    EmptyDirectory {
        /// The directory.
        path: String,
        /// The extension looked for, without its dot.
        extension: String,
    },
    /// The extension of the path does not say which format to use.
    #[error(
        "cannot tell the format of {path}: expected one of .csv, .parquet, .json, .jsonl, .ndjson, .arrow, .txt, .npy, .tfrecord, .tar, or .gz or .zst after that of CSV, JSON or text"
    )]
    UnknownFormat {
        /// The path.
        path: String,
    },
    /// The path is not one this build can read.
    #[error("cannot use path {path}: {reason}")]
    BadPath {
        /// The path or URL.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A store could not be asked for its files.
    #[error("cannot {verb} {path}")]
    Storage {
        /// What was tried.
        verb: &'static str,
        /// The path, URL or pattern as it was given.
        path: String,
        /// The status of the store's answer, where there was one.
        status: Option<u16>,
        /// What the store said, and what to do about it.
        source: BoxError,
    },
    /// What does not fit into memory does not fit on the disk either.
    #[error(
        "cannot spill to {path} with {} of this file written and {} on disk in all; free space there, set spill_dir to a larger disk, or raise \
         memory_limit_bytes",
        Bytes(*file_bytes),
        Bytes(*spilled_bytes)
    )]
    Spill {
        /// The file, or where it was to be.
        path: String,
        /// Bytes of it that were written.
        file_bytes: u64,
        /// Bytes of all files of the session that were spilled then.
        spilled_bytes: u64,
        /// What the system said.
        source: BoxError,
    },
    /// A function of the user's own in an expression failed, panicked, or gave what it should not.
    #[error("function `{name}`")]
    Function {
        /// Its name.
        name: String,
        /// What it said, or what is wrong with what it gave.
        source: BoxError,
    },
    /// A file could be opened but not read to its end.
    #[error("reading {path}")]
    File {
        /// The file.
        path: String,
        /// What the decoder says, with the line where it knows it.
        source: BoxError,
    },
    /// A part of a source could not be read.
    #[error("reading {part} of {name} at row {row}")]
    Source {
        /// The source.
        name: String,
        /// The part of it.
        part: String,
        /// The row of the part, from 0, that did not come.
        row: u64,
        /// What the source says.
        source: BoxError,
    },
    /// A part could not be written into a sink, or what was written could not be made visible: then none of it is.
    #[error("writing {part} of {name} at row {row}")]
    Sink {
        /// The sink.
        name: String,
        /// The part, or what was done with all of them.
        part: String,
        /// The row of the part, from 0, that was not taken.
        row: u64,
        /// What the sink says.
        source: BoxError,
    },
    /// A stream over Arrow's C interface failed, or breaks the interface.
    #[error("reading a C stream")]
    CStream {
        /// What the stream says.
        source: BoxError,
    },
    /// A stream over Arrow's C interface is read a second time.
    #[error(
        "a C stream can be read once, and this one was: keep its rows with materialize() before the first use"
    )]
    CStreamSpent,
    /// A file has two columns of one name.
    #[error("column '{column}' appears more than once in {path}")]
    DuplicateColumn {
        /// The column's name.
        column: String,
        /// The file, or the operator, that has it.
        path: String,
    },
    /// A column is named that the dataset does not have.
    #[error("{}", unknown_column(column, known, nearest.as_ref()))]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// The columns the dataset has.
        known: Vec<String>,
        /// The known column whose name is nearest, when one is near.
        nearest: Option<String>,
    },
    /// Datasets to be put together do not have the same columns.
    #[error("{op} needs the same columns in all datasets: {reason}")]
    ColumnsDiffer {
        /// The verb.
        op: &'static str,
        /// Which column of which dataset, and how it differs.
        reason: String,
    },
    /// Datasets to be put side by side do not have as many rows.
    #[error("cannot zip {left} rows with {right} rows; limit the longer one first")]
    ZipLengths {
        /// The rows of the first.
        left: u64,
        /// The rows of the second.
        right: u64,
    },
    /// The columns of a join's keys cannot be compared.
    #[error(
        "cannot join '{left}' ({left_type}) with '{right}' ({right_type}); cast one of them with with_column first"
    )]
    JoinKeys {
        /// The left column.
        left: String,
        /// Its type.
        left_type: String,
        /// The right column.
        right: String,
        /// Its type.
        right_type: String,
    },
    /// An aggregate cannot be made of these values.
    #[error("cannot compute {name}: {reason}")]
    Aggregate {
        /// The aggregate's name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A preprocessor cannot be fitted to a column, or cannot transform it.
    #[error("{name} cannot use column '{column}': {reason}")]
    Preprocess {
        /// The preprocessor.
        name: String,
        /// The column.
        column: String,
        /// Why not.
        reason: String,
    },
    /// A column does not hold tensors, or tensors do not make a column.
    #[error("cannot use column '{column}' as tensors: {reason}")]
    TensorColumn {
        /// The column.
        column: String,
        /// Why not.
        reason: String,
    },
    /// A group is larger than what may be held in memory.
    #[error("map_groups needs all rows of a group at once, and the group {group} does not fit: {source}")]
    GroupTooLarge {
        /// The group's keys and their values.
        group: String,
        /// How much there is of memory, and who has it.
        source: BoxError,
    },
    /// A user function returned an error.
    #[error("{op} failed on {place}")]
    Closure {
        /// The operator, such as `map` or `map_batches`.
        op: String,
        /// Where its input came from.
        place: Place,
        /// The function's own error.
        source: BoxError,
    },
    /// A user function panicked.
    #[error("{op} panicked on {place}: {message}")]
    Panicked {
        /// The operator, such as `map` or `map_batches`.
        op: String,
        /// Where its input came from.
        place: Place,
        /// The panic's message.
        message: String,
    },
    /// A batch of a worker pool failed as often as it may.
    #[error("{op} failed on {} after {}", list(places), tries(*attempts))]
    Batch {
        /// The operator.
        op: String,
        /// Where the batch's rows came from.
        places: Vec<Place>,
        /// How often it was tried, each time in a fresh life of a worker.
        attempts: u32,
        /// The function's own error, or how the worker ended: that it panicked, hung or was killed.
        source: BoxError,
    },
    /// The workers of a pool do not start.
    #[error("the workers of {op} do not start")]
    WorkerStart {
        /// The operator.
        op: String,
        /// What building the state came to the last time.
        source: BoxError,
    },
    /// The runtime has no workers to give: it has ended, or they ask for more than the machine has.
    #[error("cannot start workers")]
    Workers(#[source] air_core::CoreError),
    /// A rank of a streaming split waited for another one that takes nothing.
    #[error(
        "rank {waits} of a streaming split has waited for {limit:?} because rank {rank} takes no batches: read all ranks at the same time, or drop those that are not read"
    )]
    SplitStalled {
        /// The rank that takes nothing.
        rank: usize,
        /// The rank that waits.
        waits: usize,
        /// How long it waited.
        limit: std::time::Duration,
    },
    /// A row cannot be read as the type a function takes, or the other way round.
    #[error("{op} cannot convert between rows and {type_name} on {place}")]
    Row {
        /// The operator.
        op: String,
        /// The Rust type.
        type_name: &'static str,
        /// Which row.
        place: Place,
        /// Why not.
        source: BoxError,
    },
    /// The columns that an operator returns cannot be told before it runs.
    #[error("cannot tell the columns that {op} returns: {reason}")]
    SchemaUnknown {
        /// The operator.
        op: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The destination holds data and was not to be overwritten.
    #[error("{path} already exists; ask for overwriting to replace it")]
    Exists {
        /// The destination.
        path: String,
    },
    /// Writing failed; nothing of the output is visible.
    #[error("writing {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: BoxError,
    },
    /// A setting is out of its range.
    #[error("bad setting {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A device that tensors were to lie on cannot be had.
    #[error("no tensors on {device}: {source}")]
    Device {
        /// The device asked for.
        device: Device,
        /// What is missing.
        #[source]
        source: BoxError,
    },
    /// The query engine refused the plan or failed while running it.
    #[error("{0}")]
    Engine(#[from] Box<DataFusionError>),
    /// An error that several readers of one stream share.
    #[error(transparent)]
    Shared(Arc<DataError>),
}

/// Where in a dataset something happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file that the rows came from, where one partition reads one file.
    pub file: Option<String>,
    /// The partition (block) of the operator's input.
    pub partition: usize,
    /// The rows of that partition, counted from zero as they reach the operator.
    pub rows: Range<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows.end.saturating_sub(self.rows.start) {
            1 => write!(f, "row {}", self.rows.start)?,
            _ => write!(f, "rows {}..{}", self.rows.start, self.rows.end)?,
        }
        match &self.file {
            Some(file) => write!(f, " of {file}"),
            None => write!(f, " of block {}", self.partition),
        }
    }
}

impl DataError {
    /// An error about the column `column`, with the nearest of the `known` names as a suggestion.
    pub(crate) fn unknown_column(column: &str, known: Vec<String>) -> Self {
        let nearest = nearest(column, &known).map(str::to_owned);
        Self::UnknownColumn { column: column.to_owned(), known, nearest }
    }

    /// A file could not be read; of an error of its store with what to do about it.
    pub(crate) fn file(path: &str, source: BoxError) -> Self {
        Self::File { path: path.to_owned(), source: explain(path, source) }
    }

    /// A store could not be asked for what is at a path.
    pub(crate) fn storage(verb: &'static str, path: &str, source: object_store::Error) -> Self {
        let source = explain(path, source.into());
        Self::Storage { verb, path: path.to_owned(), status: status(&source), source }
    }

    /// The same error behind a handle that can be given out more than once.
    pub(crate) fn shared(self) -> Arc<Self> {
        match self {
            Self::Shared(inner) => inner,
            other => Arc::new(other),
        }
    }

    /// Looks through sharing.
    pub fn root(&self) -> &Self {
        match self {
            Self::Shared(inner) => inner.root(),
            other => other,
        }
    }
}

/// As many columns are listed in a message.
const COLUMNS_SHOWN: usize = 30;
/// Places that are written out; there may be thousands.
const PLACES: usize = 4;

fn list(places: &[Place]) -> String {
    let shown: Vec<String> = places.iter().take(PLACES).map(ToString::to_string).collect();
    match places.len().saturating_sub(PLACES) {
        0 => shown.join(" and "),
        more => format!("{} and {more} more places", shown.join(", ")),
    }
}

fn tries(attempts: u32) -> String {
    if attempts == 1 { "1 try".to_owned() } else { format!("{attempts} tries") }
}

fn unknown_column(column: &str, known: &[String], nearest: Option<&String>) -> String {
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean '{nearest}'?"));
    let (shown, more) = (known.len().min(COLUMNS_SHOWN), known.len().saturating_sub(COLUMNS_SHOWN));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let columns = match shown {
        0 => "there are no columns".to_owned(),
        _ => format!("the columns are {}{more}", known[..shown].join(", ")),
    };
    let link = if hint.is_empty() { "; " } else { " " };
    format!("no column '{column}'{hint}{link}{columns}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_well() {
        let place = Place { file: Some("a.csv".to_owned()), partition: 0, rows: 3..4 };
        assert_eq!(place.to_string(), "row 3 of a.csv");
        let place = Place { file: None, partition: 2, rows: 0..10 };
        assert_eq!(place.to_string(), "rows 0..10 of block 2");
    }
}
