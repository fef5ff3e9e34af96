//! Writing: one file for each block, all of them or none.
//!
//! Every file is an upload of its own that becomes visible only when it is completed (a rename on local disks, a
//! multipart upload elsewhere), and none is completed before all blocks are written. So a failure, or a crash while rows
//! are still being computed, leaves nothing half-written to be read.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::csv::{QuoteStyle, WriterBuilder};
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::session::AbortOnDrop;
use crate::source::{CsvOptions, FileFormat};
use crate::stats::Progress;

/// Parts of one file that may be on their way to the store at once.
const PARTS_AT_ONCE: usize = 4;

/// What to do about data that is already at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Refuse: [`DataError::Exists`].
    #[default]
    Create,
    /// Replace it once the new data is complete.
    Overwrite,
}

/// Parquet's compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParquetCompression {
    /// None.
    None,
    /// Fast, and read everywhere.
    #[default]
    Snappy,
    /// Smaller and slower.
    Zstd,
}

/// Settings of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// What to do about data that is already there.
    pub mode: WriteMode,
    /// How CSV looks; only `header`, `delimiter` and `quote` matter to a writer.
    pub csv: CsvOptions,
    /// How Parquet is compressed.
    pub compression: ParquetCompression,
}

/// Where a write goes.
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What messages put before a path.
    pub(crate) root: String,
    /// The directory, or the one file.
    pub(crate) path: Path,
    /// Whether `path` is one file.
    pub(crate) single: bool,
}

/// Writes every partition of `plan`; returns the files, in the order of the partitions.
pub(crate) async fn write(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    target: Target,
    format: FileFormat,
    options: WriteOptions,
    progress: Progress,
) -> Result<Vec<String>> {
    let target = Arc::new(target);
    let before = existing(&target).await?;
    if options.mode == WriteMode::Create && !before.is_empty() {
        return Err(DataError::Exists { path: target.name(&target.path) });
    }
    let partitions = plan.output_partitioning().partition_count();
    let width = context.session_config().target_partitions();
    let written = futures::stream::iter(0..partitions)
        .map(|partition| {
            let part = Part {
                path: target.file(partition, &format),
                target: target.clone(),
                format: format.clone(),
                options: options.clone(),
                // The only file is there even when it holds no row: its columns are worth having.
                even_empty: partition == 0,
            };
            let (plan, context, progress) = (plan.clone(), context.clone(), progress.clone());
            async move {
                let mut task = AbortOnDrop(tokio::spawn(part.write(plan, partition, context, progress)));
                match (&mut task.0).await {
                    Ok(result) => result,
                    Err(error) => Err(DataError::Engine(Box::new(
                        datafusion::common::DataFusionError::ExecutionJoin(Box::new(error)),
                    ))),
                }
            }
        })
        .buffered(width)
        .collect::<Vec<Result<Option<Written>>>>()
        .await;
    let mut files = Vec::new();
    let mut failure = None;
    for part in written {
        match part {
            Ok(part) => files.extend(part),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        for file in files {
            // The first error is the one to tell; an upload that cannot be taken back is never visible.
            let _ = file.upload.abort().await;
        }
        return Err(error);
    }
    // The first block's file exists for the columns' sake: it is not needed when another one has rows.
    if files.len() > 1 && files[0].rows == 0 {
        let _ = files.remove(0).upload.abort().await;
    }
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let path = target.name(&file.path);
        file.upload.finish().await.map_err(|e| DataError::Write { path: path.clone(), source: e.into() })?;
        paths.push((path, file.path));
    }
    if options.mode == WriteMode::Overwrite && !target.single {
        for old in before.into_iter().filter(|old| !paths.iter().any(|(_, new)| new == old)) {
            let path = target.name(&old);
            target.store.delete(&old).await.map_err(|e| DataError::Write { path, source: e.into() })?;
        }
    }
    Ok(paths.into_iter().map(|(path, _)| path).collect())
}

/// The files that are at the destination already.
async fn existing(target: &Target) -> Result<Vec<Path>> {
    let failed =
        |e: object_store::Error| DataError::Write { path: target.name(&target.path), source: e.into() };
    if target.single {
        return match target.store.head(&target.path).await {
            Ok(meta) => Ok(vec![meta.location]),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        };
    }
    target.store.list(Some(&target.path)).map_ok(|meta| meta.location).try_collect().await.map_err(failed)
}

impl Target {
    fn file(&self, partition: usize, format: &FileFormat) -> Path {
        if self.single {
            self.path.clone()
        } else {
            self.path.clone().join(format!("part-{partition:05}.{}", format.extensions()[0]))
        }
    }

    fn name(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }
}

struct Part {
    path: Path,
    target: Arc<Target>,
    format: FileFormat,
    options: WriteOptions,
    even_empty: bool,
}

/// A file that is written and not yet visible.
struct Written {
    path: Path,
    rows: u64,
    upload: WriteMultipart,
}

impl Part {
    /// Writes the partition; nothing, for one without rows that need not be there.
    async fn write(
        self,
        plan: Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        progress: Progress,
    ) -> Result<Option<Written>> {
        let schema = plan.schema();
        let mut stream = plan.execute(partition, context)?;
        let mut open: Option<(Box<dyn Encoder>, Written)> = None;
        while let Some(batch) = stream.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return self.give_up(open, error.into()).await,
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let step = async {
                let (encoder, written) = match &mut open {
                    Some(open) => open,
                    none => none.insert(self.start(&schema).await?),
                };
                encoder.write(&batch).map_err(|e| self.failed(e))?;
                written.rows += batch.num_rows() as u64;
                self.send(encoder.take(), &mut written.upload).await
            };
            if let Err(error) = step.await {
                return self.give_up(open, error).await;
            }
            progress.add(batch.num_rows());
        }
        if open.is_none() && self.even_empty {
            open = Some(self.start(&schema).await?);
        }
        let Some((mut encoder, mut written)) = open else { return Ok(None) };
        let last = match encoder.finish().map_err(|e| self.failed(e)) {
            Ok(()) => self.send(encoder.take(), &mut written.upload).await,
            Err(error) => Err(error),
        };
        match last {
            Ok(()) => Ok(Some(written)),
            Err(error) => self.give_up(Some((encoder, written)), error).await,
        }
    }

    async fn give_up(
        &self,
        open: Option<(Box<dyn Encoder>, Written)>,
        error: DataError,
    ) -> Result<Option<Written>> {
        if let Some((_, written)) = open {
            let _ = written.upload.abort().await;
        }
        Err(error)
    }

    async fn start(&self, schema: &SchemaRef) -> Result<(Box<dyn Encoder>, Written)> {
        let encoder = encoder(&self.format, &self.options, schema).map_err(|e| self.failed(e))?;
        let upload = self.target.store.put_multipart(&self.path).await.map_err(|e| self.failed(e.into()))?;
        Ok((encoder, Written { path: self.path.clone(), rows: 0, upload: WriteMultipart::new(upload) }))
    }

    async fn send(&self, bytes: Vec<u8>, upload: &mut WriteMultipart) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|e| self.failed(e.into()))?;
        upload.put(bytes.into());
        Ok(())
    }

    fn failed(&self, source: BoxError) -> DataError {
        DataError::Write { path: self.target.name(&self.path), source }
    }
}

/// Batches → bytes of a file.
trait Encoder: Send {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError>;
    fn finish(&mut self) -> std::result::Result<(), BoxError>;
    /// The bytes made since the last call.
    fn take(&mut self) -> Vec<u8>;
}

fn encoder(
    format: &FileFormat,
    options: &WriteOptions,
    schema: &SchemaRef,
) -> std::result::Result<Box<dyn Encoder>, BoxError> {
    Ok(match format {
        FileFormat::Parquet => {
            let compression = match options.compression {
                ParquetCompression::None => Compression::UNCOMPRESSED,
                ParquetCompression::Snappy => Compression::SNAPPY,
                ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
            };
            let properties = WriterProperties::builder().set_compression(compression).build();
            Box::new(Parquet { writer: ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))? })
        }
        FileFormat::Csv(_) => {
            let csv = &options.csv;
            let builder = WriterBuilder::new()
                .with_delimiter(csv.delimiter_byte()?)
                .with_quote(csv.quote_byte()?)
                .with_quote_style(QuoteStyle::Necessary);
            let mut bytes = Vec::new();
            if csv.header {
                builder
                    .clone()
                    .with_header(true)
                    .build(&mut bytes)
                    .write(&RecordBatch::new_empty(schema.clone()))?;
            }
            Box::new(Csv { builder: builder.with_header(false), bytes })
        }
        FileFormat::Json => Box::new(Json { bytes: Vec::new() }),
    })
}

struct Parquet {
    writer: ArrowWriter<Vec<u8>>,
}

impl Encoder for Parquet {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        self.writer.finish()?;
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

struct Csv {
    builder: WriterBuilder,
    bytes: Vec<u8>,
}

impl Encoder for Csv {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.builder.clone().build(&mut self.bytes).write(batch)?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

struct Json {
    bytes: Vec<u8>,
}

impl Encoder for Json {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        let mut writer = LineDelimitedWriter::new(&mut self.bytes);
        writer.write(batch)?;
        Ok(writer.finish()?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
