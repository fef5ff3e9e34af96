//! [`FileFormat`]: the formats of files, their settings, and who reads them.

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat as EngineFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use serde::{Deserialize, Serialize};

#[cfg(feature = "avro")]
use super::avro::Avro;
use super::binary::Binary;
use super::compression::Codec;
use super::csv::Csv;
#[cfg(feature = "images")]
use super::images::{ImageOptions, Images};
use super::json_array::JsonArray;
use super::npy::Npy;
use super::text::Text;
use super::tfrecord::TfRecord;
use super::webdataset::WebDataset;
use super::{FileBytes, Format};
use crate::error::{DataError, Result};

/// Rows of each of many CSV files that are looked at for the columns' types.
const FEWEST_ROWS: usize = 1000;

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
    /// Rows looked at to tell the columns' types: so many in all files together, and no fewer than 1000 in each where it is that many.
    pub infer_rows: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { header: true, delimiter: ',', quote: '"', comment: None, infer_rows: 10_000 }
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

    fn comment_byte(&self) -> Result<Option<u8>> {
        self.comment.map(|c| Self::byte(c, "comment")).transpose()
    }

    fn csv(&self) -> Result<Csv> {
        Ok(Csv {
            delimiter: self.delimiter_byte()?,
            quote: self.quote_byte()?,
            comment: self.comment_byte()?,
            header: self.header,
        })
    }

    fn engine(&self) -> Result<CsvFormat> {
        Ok(CsvFormat::default()
            .with_has_header(self.header)
            .with_delimiter(self.delimiter_byte()?)
            .with_quote(self.quote_byte()?)
            .with_comment(self.comment_byte()?)
            .with_newlines_in_values(true)
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
    /// JSON lines: one object a line. Where the first file read begins with `[`, all are read as [`JsonArray`](Self::JsonArray).
    Json,
    /// JSON files that are one array of objects: a row for each object.
    JsonArray,
    /// Arrow's own files (also called Feather), and its streams for reading.
    Ipc,
    /// Text: a row for each line, in the column `text`, without its line end.
    Text,
    /// Whole files: a row for each, in the column `bytes`.
    Binary,
    /// NumPy's `.npy`: a row for each entry along the first axis, in the column `data`: a number, or a tensor of the other axes
    /// (`arrow.fixed_shape_tensor`).
    Npy,
    /// TensorFlow's TFRecord files of `Example` messages: a row for each, a column for each feature. A feature that never has other than one value is a
    /// plain column (`Binary`, `Float32` or `Int64`), others are lists; a feature that is missing is null. Checksums are checked.
    TfRecord,
    /// WebDataset's tar archives: a row for each sample, which is the files next to each other that are called the same up to the first dot. The columns are
    /// `__key__`, and one for each ending: text for `txt`, `text`, `transcript`, `json` and `jsonl`, integers for `cls`, `cls2`, `index`, `inx` and `id`, else bytes.
    WebDataset,
    /// Avro's object container files. Columns that a file lacks are null.
    #[cfg(feature = "avro")]
    Avro,
    /// Images, PNG and JPEG: a row for each file, in the column `image`: a tensor of height, width and channels (`UInt8`), of one shape where
    /// [`ImageOptions::size`] gives it (`arrow.fixed_shape_tensor`), else of each row's own (`arrow.variable_shape_tensor`).
    #[cfg(feature = "images")]
    Images(ImageOptions),
}

impl FileFormat {
    /// The format that the extension of `path` stands for; before `.gz` and `.zst` that of CSV, JSON or text.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`] for any other extension.
    pub fn of_path(path: &str) -> Result<Self> {
        let name = path.rsplit('/').next().unwrap_or_default();
        match Codec::of_path(name) {
            Some((stem, _)) => Self::of_name(stem).filter(Self::is_packable),
            None => Self::of_name(name),
        }
        .ok_or_else(|| DataError::UnknownFormat { path: path.to_owned() })
    }

    fn of_name(name: &str) -> Option<Self> {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        Some(match extension.as_deref() {
            Some("csv" | "tsv") => {
                let delimiter = if extension.as_deref() == Some("tsv") { '\t' } else { ',' };
                Self::Csv(CsvOptions { delimiter, ..CsvOptions::default() })
            }
            Some("parquet" | "pq") => Self::Parquet,
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("arrow" | "ipc" | "feather") => Self::Ipc,
            Some("txt" | "text") => Self::Text,
            Some("npy") => Self::Npy,
            Some("tfrecord" | "tfrecords") => Self::TfRecord,
            Some("tar") => Self::WebDataset,
            #[cfg(feature = "avro")]
            Some("avro") => Self::Avro,
            #[cfg(feature = "images")]
            Some("png" | "jpg" | "jpeg") => Self::Images(ImageOptions::default()),
            _ => return None,
        })
    }

    /// The extensions that files of this format have; new files get the first. None for whole files, which may have any.
    pub fn extensions(&self) -> &'static [&'static str] {
        match self {
            Self::Csv(_) => &["csv", "tsv"],
            Self::Parquet => &["parquet", "pq"],
            Self::Json => &["json", "jsonl", "ndjson"],
            Self::Ipc => &["arrow", "ipc", "feather"],
            Self::Text => &["txt", "text"],
            Self::JsonArray => &["json"],
            Self::Npy => &["npy"],
            Self::TfRecord => &["tfrecord", "tfrecords"],
            Self::WebDataset => &["tar"],
            #[cfg(feature = "avro")]
            Self::Avro => &["avro"],
            #[cfg(feature = "images")]
            Self::Images(_) => &["png", "jpg", "jpeg"],
            Self::Binary => &[],
        }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &'static str {
        self.extensions().first().copied().unwrap_or("whole files")
    }

    /// Whether its files are read and written compressed as a whole: those that are read from one end to the other.
    pub(crate) fn is_packable(&self) -> bool {
        matches!(self, Self::Csv(_) | Self::Json | Self::JsonArray | Self::Text)
    }

    /// Whether a file holds one row.
    pub(crate) fn is_file_a_row(&self) -> bool {
        match self {
            #[cfg(feature = "images")]
            Self::Images(_) => true,
            _ => false,
        }
    }

    /// The format of one of so many files, all of which are looked into.
    pub(crate) fn looked_into(&self, files: usize) -> Self {
        match self {
            Self::Csv(options) => {
                let rows = options.infer_rows.div_ceil(files.max(1)).max(options.infer_rows.min(FEWEST_ROWS));
                Self::Csv(CsvOptions { infer_rows: rows, ..options.clone() })
            }
            other => other.clone(),
        }
    }

    /// Who reads it.
    pub(crate) fn reader(&self) -> Result<Reader> {
        Ok(match self {
            Self::Csv(options) => Reader::Csv(Arc::new(options.engine()?), options.csv()?),
            // The metadata of columns says which are tensors.
            Self::Parquet => Reader::Engine(Arc::new(
                ParquetFormat::default().with_force_view_types(false).with_skip_metadata(false),
            )),
            Self::Json => Reader::Engine(Arc::new(JsonFormat::default())),
            Self::Ipc => Reader::Engine(Arc::new(ArrowFormat)),
            Self::Text => Reader::Ours(Arc::new(Text)),
            Self::Binary => Reader::Ours(Arc::new(Binary)),
            Self::Npy => Reader::Ours(Arc::new(Npy)),
            Self::JsonArray => Reader::Ours(Arc::new(JsonArray)),
            Self::TfRecord => Reader::Ours(Arc::new(TfRecord)),
            Self::WebDataset => Reader::Ours(Arc::new(WebDataset)),
            #[cfg(feature = "avro")]
            Self::Avro => Reader::Ours(Arc::new(Avro)),
            #[cfg(feature = "images")]
            Self::Images(options) => {
                options.validate()?;
                Reader::Ours(Arc::new(Images(options.clone())))
            }
        })
    }
}

/// Who reads a format.
#[derive(Debug, Clone)]
pub(crate) enum Reader {
    /// The engine.
    Engine(Arc<dyn EngineFormat>),
    /// We.
    Ours(Arc<dyn Format>),
    /// The engine tells the columns, we read the rows.
    Csv(Arc<dyn EngineFormat>, Csv),
}

/// As many bytes are looked at for the first that is no space.
const SNIFFED_BYTES: u64 = 4096;

/// The format that a file really has: JSON is lines or one array.
pub(crate) async fn sniffed(format: FileFormat, first: Option<FileBytes>) -> FileFormat {
    let (FileFormat::Json, Some(file)) = (&format, first) else { return format };
    // What is wrong with the file, whoever reads it says.
    let start = file.start(SNIFFED_BYTES).await.unwrap_or_default();
    match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => FileFormat::JsonArray,
        _ => format,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_share_the_rows_that_types_are_told_by() {
        let rows =
            |infer_rows, files| match FileFormat::Csv(CsvOptions { infer_rows, ..CsvOptions::default() })
                .looked_into(files)
            {
                FileFormat::Csv(options) => options.infer_rows,
                _ => 0,
            };
        assert_eq!(rows(10_000, 1), 10_000);
        assert_eq!(rows(10_000, 3), 3334);
        assert_eq!(rows(10_000, 5000), 1000);
        assert_eq!(rows(20, 3), 20);
    }
}
