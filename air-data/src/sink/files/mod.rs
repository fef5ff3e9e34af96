//! [`FileSink`]: one file for each block, all of them or none.
//!
//! Every file is an upload of its own that becomes visible only when it is completed (a rename on local disks, a
//! multipart upload elsewhere), and none is completed before the store has all parts of all. So a failure, or a crash while rows
//! are still being computed, leaves nothing half-written to be read, and one in completing takes the files back that were not there before. A new directory on a
//! local disk is written under another, hidden name beside it and then renamed, so it is there with all its files or not at all; elsewhere a crash between the first
//! and the last completion leaves some of the files, each of them whole.

mod encode;
mod part;
mod split;
mod stage;
mod upload;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::contract::{Sink, SinkWrite};
use crate::error::{DataError, Result};
use crate::format::{CsvOptions, FileFormat};
use crate::source::{explain, explain_after};
use part::{FilePart, Written};
use split::Layout;
use stage::Stage;

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
    /// Rows in one row group of Parquet, at most; 1 048 576 when absent.
    pub row_group_rows: Option<usize>,
    /// Columns that become directories, `key=value`, outermost first, instead of being in the files.
    pub partition_by: Vec<String>,
}

impl WriteOptions {
    /// Checks every field's range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.row_group_rows == Some(0) {
            return Err(DataError::Config { field: "row_group_rows", reason: "at least 1".to_owned() });
        }
        Ok(())
    }
}

/// Where a write goes.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What messages put before a path.
    pub(crate) root: String,
    /// The directory, or the one file.
    pub(crate) path: Path,
    /// Whether `path` is one file.
    pub(crate) single: bool,
    /// The directory on the local disk, if it is one.
    pub(crate) local: Option<PathBuf>,
}

/// Whether rows of `schema` can be written so, before there are any.
pub(crate) fn check(
    schema: &SchemaRef,
    format: &FileFormat,
    options: &WriteOptions,
) -> std::result::Result<(), BoxError> {
    options.validate()?;
    let layout = Layout::new(schema, &options.partition_by)?;
    encode::encoder(format, options, &layout.schema).map(|_| ())
}

/// Files of one format.
pub(crate) struct FileSink {
    pub(crate) target: Target,
    pub(crate) format: FileFormat,
    pub(crate) options: WriteOptions,
}

impl Sink for FileSink {
    type Write = FileWrite;

    fn name(&self) -> String {
        self.target.name(&self.target.path)
    }

    async fn begin(&self, schema: &SchemaRef, _: usize) -> std::result::Result<FileWrite, BoxError> {
        Ok(FileWrite::new(self, schema).await?)
    }
}

/// Files under way: where they lie, and what they are to replace.
pub(crate) struct FileWrite {
    target: Arc<Target>,
    format: FileFormat,
    options: WriteOptions,
    layout: Arc<Layout>,
    stage: Option<Stage>,
    /// Where the files lie until they are complete.
    base: Path,
    before: Vec<Path>,
}

impl FileWrite {
    async fn new(sink: &FileSink, schema: &SchemaRef) -> Result<Self> {
        let (target, options) = (Arc::new(sink.target.clone()), sink.options.clone());
        options.validate()?;
        let layout = Arc::new(Layout::new(schema, &options.partition_by)?);
        if target.single && !options.partition_by.is_empty() {
            let reason = "a single file has no directories; give a path without an extension".to_owned();
            return Err(DataError::Config { field: "partition_by", reason });
        }
        let before = existing(&target).await?;
        if options.mode == WriteMode::Create && !before.is_empty() {
            return Err(DataError::Exists { path: target.name(&target.path) });
        }
        let stage = if target.single { None } else { target.local.as_deref().and_then(Stage::beside) };
        let base = stage.as_ref().map_or_else(|| Ok(target.path.clone()), Stage::path)?;
        Ok(Self { target, format: sink.format.clone(), options, layout, stage, base, before })
    }

    async fn finish(&self, mut files: VecDeque<Written>) -> Result<Vec<String>> {
        let target = &self.target;
        // The first block's file exists for the columns' sake: it is not needed when another one has rows.
        if files.len() > 1 && files[0].rows == 0 {
            give_up(files.pop_front()).await;
        }
        let mut complete: Vec<Path> = Vec::with_capacity(files.len());
        while let Some(mut file) = files.pop_front() {
            if let Err(error) = file.upload.complete().await {
                let error = target.failed(&target.shown(&self.base, &file.path), error.into());
                files.push_front(file);
                self.take_back(files, &complete).await;
                return Err(error);
            }
            complete.push(file.path);
        }
        if let Some(stage) = &self.stage {
            stage.publish().map_err(|e| target.failed(&target.path, e.into()))?;
        }
        let paths: Vec<Path> = complete.iter().map(|path| target.shown(&self.base, path)).collect();
        if self.options.mode == WriteMode::Overwrite && !target.single {
            for old in self.before.iter().filter(|old| !paths.contains(old)) {
                target.store.delete(old).await.map_err(|e| target.failed(old, e.into()))?;
            }
        }
        Ok(paths.iter().map(|path| target.name(path)).collect())
    }

    /// After a failure to complete a file: those that are not complete, and those that are and were not there before.
    async fn take_back(&self, files: VecDeque<Written>, complete: &[Path]) {
        give_up(files).await;
        for path in complete.iter().filter(|path| !self.before.contains(path)) {
            let _ = self.target.store.delete(path).await;
        }
    }
}

/// Takes back files that are not visible yet.
async fn give_up(files: impl IntoIterator<Item = Written>) {
    for file in files {
        // The first error is the one to tell; an upload that cannot be taken back is never visible.
        let _ = file.upload.abort().await;
    }
}

impl SinkWrite for FileWrite {
    type Part = FilePart;

    async fn open(&self, part: usize) -> std::result::Result<FilePart, BoxError> {
        Ok(FilePart::new(self, part))
    }

    async fn commit(&self, parts: Vec<Vec<Written>>) -> std::result::Result<Vec<String>, BoxError> {
        Ok(self.finish(parts.into_iter().flatten().collect()).await?)
    }

    async fn abort(&self, parts: Vec<Vec<Written>>) {
        give_up(parts.into_iter().flatten()).await;
    }
}

/// The files that are at the destination already.
async fn existing(target: &Target) -> Result<Vec<Path>> {
    let failed = |e: object_store::Error| target.failed(&target.path, e.into());
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
    fn name(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }

    /// Where a file is to be found in the end that lies below `base` until then.
    fn shown(&self, base: &Path, path: &Path) -> Path {
        path.prefix_match(base).into_iter().flatten().fold(self.path.clone(), Path::join)
    }

    fn failed(&self, path: &Path, source: BoxError) -> DataError {
        let path = self.name(path);
        let source = explain(&path, source);
        DataError::Write { path, source }
    }

    /// As [`failed`](Self::failed), once some of the file was sent.
    fn failed_after(&self, path: &Path, sent_bytes: u64, source: object_store::Error) -> DataError {
        let path = self.name(path);
        let source = explain_after(&path, sent_bytes, source.into());
        DataError::Write { path, source }
    }
}
