//! [`ReadOptions`]: what can be said about files beyond their format.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::format::Compression;

/// Settings of a reading of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The columns that the files have, instead of those that a look into them tells: then nothing is read before the dataset runs. Columns that
    /// a file lacks are null (Parquet and JSON; those of CSV go by their place).
    pub schema: Option<SchemaRef>,
    /// The name of a last column with the path of each row's file; none when absent.
    pub include_paths: Option<String>,
    /// Whether directories called `key=value` below the path make columns: of `Int64` where all values of a key are integers, else of text, with
    /// `__HIVE_DEFAULT_PARTITION__` for null. A filter over them leaves out the files that cannot match. A column that the files have
    /// themselves is theirs.
    pub hive: bool,
    /// The endings, without a dot, of the files to read in directories, instead of the format's own: `log`, `log.gz`.
    pub extensions: Option<Vec<String>>,
    /// How files of CSV, JSON and text are compressed. Such a file is unpacked as it is read, from one end to the other: not in pieces, as large ones
    /// are that are not compressed. Directories are searched for the endings `.csv.gz` and `.csv.zst`, too, and so on.
    pub compression: Compression,
    /// What to do about a file that cannot be read.
    pub on_error: FileErrors,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            schema: None,
            include_paths: None,
            hive: true,
            extensions: None,
            compression: Compression::Auto,
            on_error: FileErrors::Fail,
        }
    }
}

/// What to do about a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileErrors {
    /// End the run with the error.
    #[default]
    Fail,
    /// Go on with the next file, and keep the error for [`Dataset::skipped_files`](crate::Dataset::skipped_files). Rows that were read of the file
    /// before the error stay.
    Skip,
}

/// A file that was not read, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Its path or URL.
    pub path: String,
    /// Why, with causes.
    pub error: String,
}

/// The files that a dataset skipped so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skipped(Arc<Mutex<Vec<SkippedFile>>>);

impl Skipped {
    /// Files are listed once, however often they are skipped.
    pub(crate) fn add(&self, path: &str, error: &DataError) {
        let mut files = self.0.lock();
        if files.iter().all(|file| file.path != path) {
            let error = air_core::cli::Chain(error).to_string();
            files.push(SkippedFile { path: path.to_owned(), error });
        }
    }

    /// In the order of their paths.
    pub(crate) fn list(&self) -> Vec<SkippedFile> {
        let mut files = self.0.lock().clone();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }
}
