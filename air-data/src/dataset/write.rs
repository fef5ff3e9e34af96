//! The verbs that write files.

use datafusion::physical_plan::ExecutionPlanProperties;
use object_store::path::Path;

use super::Dataset;
use crate::error::{DataError, Result};
#[cfg(feature = "images")]
use crate::format::ImageOptions;
use crate::format::{CsvOptions, FileFormat};
use crate::plan::repeatable;
use crate::sink::{FileSink, Sink, Target, WriteOptions, write};
use crate::source::destination;

impl Dataset {
    /// Writes Parquet: one file for each block into the directory `path`, or one file if `path` ends in `.parquet`.
    /// Nothing is visible before all is written. Returns the files.
    ///
    /// # Errors
    /// [`DataError::Exists`] when there is data already, [`DataError::Write`] when writing fails; whatever goes wrong in
    /// running the dataset.
    pub fn write_parquet(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Parquet, WriteOptions::default())
    }

    /// Writes CSV with a header, compressed where the path is a file that ends in `.csv.gz` or `.csv.zst`. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub fn write_csv(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Csv(CsvOptions::default()), WriteOptions::default())
    }

    /// Writes JSON lines, compressed where the path is a file that ends in `.jsonl.gz` or `.jsonl.zst`. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub fn write_json(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Json, WriteOptions::default())
    }

    /// Writes Arrow's own files. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub fn write_ipc(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Ipc, WriteOptions::default())
    }

    /// Writes NumPy's `.npy` files of the only column: numbers, booleans or lists of a fixed size, without nulls. The values of a block are held in memory.
    /// See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub fn write_npy(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Npy, WriteOptions::default())
    }

    /// Writes TensorFlow's TFRecord files: an `Example` for each row, a feature for each column. Integers and booleans become integers of 64 bits, floats floats of
    /// 32, text and bytes bytes, lists of these several values; a null is a feature that is missing. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`]; columns of other types and integers past 63 bits are refused by name.
    pub fn write_tfrecord(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::TfRecord, WriteOptions::default())
    }

    /// Writes WebDataset's tar archives: a sample for each row, called as the column `__key__` says, and in it a file for each other column, whose name is the file's
    /// ending: bytes and text as they are, numbers as text; a null is a file that is missing. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`]; keys that do not make samples are refused.
    pub fn write_webdataset(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::WebDataset, WriteOptions::default())
    }

    /// Writes Avro's object container files. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    #[cfg(feature = "avro")]
    pub fn write_avro(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Avro, WriteOptions::default())
    }

    /// Writes PNG images: a file for each row of the only column, tensors of height, width and, unless it is one, channels (1, 3 or 4) of 8-bit integers, of one shape or
    /// of any, as [`Session::read_images`](crate::Session::read_images) makes them. [`WriteOptions::jpeg_quality`](crate::WriteOptions) makes them JPEG. Each is complete as it comes; a
    /// new directory on a local disk is there once all are. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`]; columns and tensors that are no images are refused.
    #[cfg(feature = "images")]
    pub fn write_images(&self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.write(path.as_ref(), FileFormat::Images(ImageOptions::default()), WriteOptions::default())
    }

    /// Writes into a place that this crate does not know; see [`Sink`]. A part for each block, all of them or none. Returns what the sink says of it.
    ///
    /// # Errors
    /// [`DataError::Sink`] names the sink, the part and the row; whatever goes wrong in running the dataset.
    pub fn write_sink(&self, sink: impl Sink) -> Result<Vec<String>> {
        let this = self.clone();
        self.session.block_on(async move { this.write_into(sink).await })
    }

    /// [`Dataset::write_sink`] for asynchronous code, of any runtime.
    ///
    /// # Errors
    /// As [`Dataset::write_sink`].
    pub async fn write_sink_async(&self, sink: impl Sink) -> Result<Vec<String>> {
        let this = self.clone();
        self.session.run(async move { this.write_into(sink).await }).await
    }

    async fn write_into(&self, sink: impl Sink) -> Result<Vec<String>> {
        let (plan, context) = self.physical().await?;
        let mut run = self.begin_run(&plan);
        let written = write(plan, context, sink, run.progress().clone()).await;
        run.ended(written.as_ref().err());
        written
    }

    /// Writes files of any format, with settings: into directories by columns, over what is there, compressed. See [`Dataset::write_parquet`].
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub fn write(&self, path: &str, format: FileFormat, options: WriteOptions) -> Result<Vec<String>> {
        let (this, path) = (self.clone(), path.to_owned());
        self.session.block_on(async move { this.write_files(&path, format, options).await })
    }

    /// [`Dataset::write`] for asynchronous code, of any runtime.
    ///
    /// # Errors
    /// As [`Dataset::write_parquet`].
    pub async fn write_async(
        &self,
        path: &str,
        format: FileFormat,
        options: WriteOptions,
    ) -> Result<Vec<String>> {
        let (this, path) = (self.clone(), path.to_owned());
        self.session.run(async move { this.write_files(&path, format, options).await }).await
    }

    async fn write_files(
        &self,
        path: &str,
        format: FileFormat,
        options: WriteOptions,
    ) -> Result<Vec<String>> {
        let single = FileFormat::of_path(path).is_ok();
        let bad = |reason: String| DataError::BadPath { path: path.to_owned(), reason };
        let (url, root) = destination(path).map_err(bad)?;
        let store = self.session.stores().get(&url).map_err(bad)?;
        let location = Path::from_url_path(url.path()).map_err(|e| bad(e.to_string()))?;
        let local = if url.scheme() == "file" { url.to_file_path().ok() } else { None };
        let target = Target { store, root, path: location, single, local };
        // One file takes all blocks, in order.
        let (mut plan, context) = self.physical().await?;
        if single && plan.output_partitioning().partition_count() > 1 {
            plan = crate::plan::merge(plan, self.room())?;
        }
        let made = if options.resume { Some(repeatable(&plan)?) } else { None };
        let mut run = self.begin_run(&plan);
        let sink = FileSink { target, format, options, plan: made };
        let written = write(plan, context, sink, run.progress().clone()).await;
        run.ended(written.as_ref().err());
        written
    }
}
