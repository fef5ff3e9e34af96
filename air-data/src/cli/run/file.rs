//! [`Pipeline`]: what the file says, checked for its form only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use air_core::CoreError;
use air_core::config::{self, ConfigError};
use serde::Deserialize;

use super::error::RunError;
use super::step::Step;
use super::written::{Param, Texts};
use crate::{Compression, CsvOptions, FileErrors, FileFormat, ReadOptions, Result, WriteMode, WriteOptions};

/// A pipeline.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pipeline {
    /// What the steps begin with.
    pub(super) read: Read,
    /// Further inputs, by the names that joins and SQL have for them.
    #[serde(default)]
    pub(super) tables: BTreeMap<String, Read>,
    /// Values by the names that texts of SQL have for them, after a `$`.
    #[serde(default)]
    pub(super) params: BTreeMap<String, Param>,
    /// What is done, one after the other.
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Step>,
    /// Where the rows go; to stdout when absent.
    pub(super) write: Option<Write>,
}

/// An input: a path or several, their format, and the settings of [`ReadOptions`] and [`CsvOptions`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    pub(super) path: Texts,
    /// Told by the path's extension when absent.
    pub(super) format: Option<Format>,
    csv: Option<CsvOptions>,
    /// The columns and their types, as in `create table`: `["id bigint", "name text"]`.
    pub(super) schema: Option<Vec<String>>,
    include_paths: Option<String>,
    hive: Option<bool>,
    extensions: Option<Vec<String>>,
    #[serde(default)]
    compression: Compression,
    #[serde(default)]
    on_error: FileErrors,
}

/// An output: a file, or a directory and its format, with the settings of [`WriteOptions`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    pub(super) path: String,
    /// Told by the path's extension when absent.
    pub(super) format: Option<Format>,
    csv: Option<CsvOptions>,
    #[serde(default)]
    mode: WriteMode,
    #[serde(default)]
    compression: Compression,
    row_group_rows: Option<usize>,
    #[serde(default)]
    pub(super) partition_by: Vec<String>,
    #[serde(default)]
    resume: bool,
}

/// The formats by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Csv,
    Tsv,
    Parquet,
    Json,
    Ipc,
    Text,
    Binary,
    Npy,
    TfRecord,
    WebDataset,
}

impl Format {
    pub(super) fn settled(self, csv: Option<&CsvOptions>) -> FileFormat {
        match self {
            Self::Csv => FileFormat::Csv(csv.cloned().unwrap_or_default()),
            Self::Tsv => FileFormat::Csv(CsvOptions { delimiter: '\t', ..csv.cloned().unwrap_or_default() }),
            Self::Parquet => FileFormat::Parquet,
            Self::Json => FileFormat::Json,
            Self::Ipc => FileFormat::Ipc,
            Self::Text => FileFormat::Text,
            Self::Binary => FileFormat::Binary,
            Self::Npy => FileFormat::Npy,
            Self::TfRecord => FileFormat::TfRecord,
            Self::WebDataset => FileFormat::WebDataset,
        }
    }
}

/// A format with the settings of CSV that were given, where it is CSV.
fn with_csv(format: FileFormat, csv: Option<&CsvOptions>) -> FileFormat {
    match (format, csv) {
        (FileFormat::Csv(_), Some(csv)) => FileFormat::Csv(csv.clone()),
        (format, _) => format,
    }
}

impl Pipeline {
    /// Reads the file, then `sets`, each `key=value`.
    pub(super) fn load(file: &Path, sets: &[String]) -> std::result::Result<Self, RunError> {
        config::load_from(Some(file), "", [], sets).map_err(|error| match error {
            CoreError::Configuration(ConfigError::Invalid { origin, key, message, suggestion }) => {
                RunError::written(&origin, &key, &message, suggestion.as_deref())
            }
            other => RunError::Config(other),
        })
    }
}

impl Read {
    pub(super) fn format(&self, paths: &[String]) -> Result<FileFormat> {
        match (self.format, paths.first()) {
            (Some(format), _) => Ok(format.settled(self.csv.as_ref())),
            (None, Some(path)) => Ok(with_csv(super::super::input::format_of(path)?, self.csv.as_ref())),
            (None, None) => FileFormat::of_path(""),
        }
    }

    pub(super) fn options(&self, schema: Option<arrow::datatypes::Schema>) -> ReadOptions {
        let default = ReadOptions::default();
        ReadOptions {
            schema: schema.map(Arc::new),
            include_paths: self.include_paths.clone(),
            hive: self.hive.unwrap_or(default.hive),
            extensions: self.extensions.clone(),
            compression: self.compression,
            on_error: self.on_error,
        }
    }
}

impl Write {
    pub(super) fn format(&self) -> Result<FileFormat> {
        match self.format {
            Some(format) => Ok(format.settled(self.csv.as_ref())),
            None => Ok(with_csv(FileFormat::of_path(&self.path)?, self.csv.as_ref())),
        }
    }

    pub(super) fn options(&self, format: &FileFormat) -> WriteOptions {
        let mut options = WriteOptions {
            mode: self.mode,
            compression: self.compression,
            row_group_rows: self.row_group_rows,
            partition_by: self.partition_by.clone(),
            resume: self.resume,
            ..WriteOptions::default()
        };
        if let FileFormat::Csv(csv) = format {
            options.csv = csv.clone();
        }
        options
    }
}
