//! [`FileFormat`]: the formats of files, and their settings.

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat as EngineFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Settings for reading and writing CSV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvOptions {
    /// Whether the first line names the columns; without names they are `column_1`, `column_2`, …
    pub header: bool,
    /// The character between two values.
    pub delimiter: char,
    /// The character around values that hold delimiters, quotes or line ends.
    pub quote: char,
    /// Lines that begin with this character are passed over.
    pub comment: Option<char>,
    /// Whether a quoted value may hold line ends. When not, large files are read by several threads at once.
    pub newlines_in_values: bool,
    /// Rows looked at to tell the columns' types.
    pub infer_rows: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: ',',
            quote: '"',
            comment: None,
            newlines_in_values: true,
            infer_rows: 10_000,
        }
    }
}

impl CsvOptions {
    fn byte(character: char, field: &'static str) -> Result<u8> {
        u8::try_from(character).ok().filter(u8::is_ascii).ok_or_else(|| DataError::Config {
            field,
            reason: format!("{character:?} is not an ASCII character"),
        })
    }

    /// The delimiter as the one byte that it must be.
    pub(crate) fn delimiter_byte(&self) -> Result<u8> {
        Self::byte(self.delimiter, "delimiter")
    }

    /// The quote as the one byte that it must be.
    pub(crate) fn quote_byte(&self) -> Result<u8> {
        Self::byte(self.quote, "quote")
    }

    fn engine(&self) -> Result<CsvFormat> {
        Ok(CsvFormat::default()
            .with_has_header(self.header)
            .with_delimiter(self.delimiter_byte()?)
            .with_quote(self.quote_byte()?)
            .with_comment(self.comment.map(|c| Self::byte(c, "comment")).transpose()?)
            .with_newlines_in_values(self.newlines_in_values)
            .with_schema_infer_max_rec(self.infer_rows))
    }
}

/// A file format, with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// Comma-separated values.
    Csv(CsvOptions),
    /// Apache Parquet.
    Parquet,
    /// JSON lines: one object a line.
    Json,
    /// Arrow's own files (also called Feather), and its streams for reading.
    Ipc,
    /// Text: a row for each line, in the column `text`, without its line end.
    Text,
    /// Whole files: a row for each, in the column `bytes`.
    Binary,
    /// NumPy's `.npy`: a row for each entry along the first axis, in the column `data`: a number, or a tensor of the other axes
    /// (`arrow.fixed_shape_tensor`).
    Npy,
}

impl FileFormat {
    /// The format that the extension of `path` stands for.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`] for any other extension.
    pub fn of_path(path: &str) -> Result<Self> {
        let extension = path
            .rsplit('/')
            .next()
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("csv" | "tsv") => {
                let delimiter = if extension.as_deref() == Some("tsv") { '\t' } else { ',' };
                Ok(Self::Csv(CsvOptions { delimiter, ..CsvOptions::default() }))
            }
            Some("parquet" | "pq") => Ok(Self::Parquet),
            Some("json" | "jsonl" | "ndjson") => Ok(Self::Json),
            Some("arrow" | "ipc" | "feather") => Ok(Self::Ipc),
            Some("txt" | "text") => Ok(Self::Text),
            Some("npy") => Ok(Self::Npy),
            _ => Err(DataError::UnknownFormat { path: path.to_owned() }),
        }
    }

    /// The extensions that files of this format have; new files get the first. None for whole files, which may have any.
    pub fn extensions(&self) -> &'static [&'static str] {
        match self {
            Self::Csv(_) => &["csv", "tsv"],
            Self::Parquet => &["parquet", "pq"],
            Self::Json => &["json", "jsonl", "ndjson"],
            Self::Ipc => &["arrow", "ipc", "feather"],
            Self::Text => &["txt", "text"],
            Self::Npy => &["npy"],
            Self::Binary => &[],
        }
    }

    /// The engine's reader of it; none for formats that are ours.
    pub(super) fn engine(&self) -> Result<Option<Arc<dyn EngineFormat>>> {
        Ok(Some(match self {
            Self::Csv(options) => Arc::new(options.engine()?),
            // The metadata of columns says which are tensors.
            Self::Parquet => {
                Arc::new(ParquetFormat::default().with_force_view_types(false).with_skip_metadata(false))
            }
            Self::Json => Arc::new(JsonFormat::default()),
            Self::Ipc => Arc::new(ArrowFormat),
            Self::Text | Self::Binary | Self::Npy => return Ok(None),
        }))
    }
}
