//! Writing: one file for each block, all of them or none.
//!
//! Every file is an upload of its own that becomes visible only when it is completed (a rename on local disks, a
//! multipart upload elsewhere), and none is completed before all blocks are written. So a failure, or a crash while rows
//! are still being computed, leaves nothing half-written to be read. A new directory on a local disk is written under another, hidden name beside it
//! and then renamed, so it is there with all its files or not at all; elsewhere a crash between the first and the last completion leaves some of
//! the files, each of them whole.

mod encode;
mod part;
mod split;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::session::AbortOnDrop;
use crate::source::{CsvOptions, FileFormat};
use crate::stats::Progress;
use part::{Part, Written};
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

/// Writes every partition of `plan`; returns the files, in the order of the partitions.
pub(crate) async fn write(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    target: Target,
    format: FileFormat,
    options: WriteOptions,
    progress: Progress,
) -> Result<Vec<String>> {
    options.validate()?;
    let layout = Arc::new(Layout::new(&plan.schema(), &options.partition_by)?);
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
    let target = Arc::new(target);
    let partitions = plan.output_partitioning().partition_count();
    let width = context.session_config().target_partitions();
    let written = futures::stream::iter(0..partitions)
        .map(|partition| {
            let part = Part {
                base: base.clone(),
                number: partition,
                target: target.clone(),
                layout: layout.clone(),
                format: format.clone(),
                options: options.clone(),
                // The only file is there even when it holds no row: its columns are worth having.
                even_empty: partition == 0 && options.partition_by.is_empty(),
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
        .collect::<Vec<Result<Vec<Written>>>>()
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
        // Where it is to be found in the end, also while it lies under another name.
        let last = match &stage {
            Some(_) => below(&target.path, &base, &file.path),
            None => file.path.clone(),
        };
        let path = target.name(&last);
        file.upload.finish().await.map_err(|e| DataError::Write { path: path.clone(), source: e.into() })?;
        paths.push((path, last));
    }
    if let Some(stage) = stage {
        let path = target.name(&target.path);
        stage.publish().map_err(|e| DataError::Write { path, source: e.into() })?;
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

/// The file `path`, which lies below `from`, below `to`.
fn below(to: &Path, from: &Path, path: &Path) -> Path {
    path.prefix_match(from).into_iter().flatten().fold(to.clone(), Path::join)
}

impl Target {
    fn name(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }
}
