//! [`Part`]: one block of a dataset, written into a file, or into one for each directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use air_core::BoxError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::encode::{Encoder, encoder};
use super::split::Layout;
use super::{Target, WriteOptions};
use crate::error::{DataError, Result};
use crate::source::FileFormat;
use crate::stats::Progress;

/// Parts of one file that may be on their way to the store at once.
const PARTS_AT_ONCE: usize = 4;

/// Files that a block may have open at once.
const MAX_FILES: usize = 4096;

pub(super) struct Part {
    /// The directory that files go to, or the one file.
    pub(super) base: Path,
    pub(super) number: usize,
    pub(super) target: Arc<Target>,
    pub(super) layout: Arc<Layout>,
    pub(super) format: FileFormat,
    pub(super) options: WriteOptions,
    pub(super) even_empty: bool,
}

/// A file that is written and not yet visible.
pub(super) struct Written {
    pub(super) path: Path,
    pub(super) rows: u64,
    pub(super) upload: WriteMultipart,
}

/// Files under way, by their directories.
type Open = BTreeMap<Vec<String>, (Box<dyn Encoder>, Written)>;

impl Part {
    /// Writes the block; no file for one without rows that need not be there.
    pub(super) async fn write(
        self,
        plan: Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        progress: Progress,
    ) -> Result<Vec<Written>> {
        let mut open = Open::new();
        let done = self.fill(&mut open, plan, partition, context, progress).await;
        let files = open.into_values().map(|(_, written)| written);
        if let Err(error) = done {
            for file in files {
                // The first error is the one to tell; an upload that cannot be taken back is never visible.
                let _ = file.upload.abort().await;
            }
            return Err(error);
        }
        Ok(files.collect())
    }

    async fn fill(
        &self,
        open: &mut Open,
        plan: Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        progress: Progress,
    ) -> Result<()> {
        let mut stream = plan.execute(partition, context)?;
        while let Some(batch) = stream.next().await.transpose()? {
            let rows = batch.num_rows();
            if rows == 0 {
                continue;
            }
            for (directories, piece) in self.layout.split(&batch).map_err(|e| self.failed(&self.base, e))? {
                if !open.contains_key(&directories) {
                    if open.len() == MAX_FILES {
                        let reason = format!(
                            "more than {MAX_FILES} directories in one block; sort by the columns first"
                        );
                        return Err(DataError::Config { field: "partition_by", reason });
                    }
                    let file = self.start(&directories).await?;
                    open.insert(directories.clone(), file);
                }
                let Some((encoder, written)) = open.get_mut(&directories) else { continue };
                encoder.write(&piece).map_err(|e| self.failed(&written.path, e))?;
                written.rows += piece.num_rows() as u64;
                self.send(encoder.take(), written).await?;
            }
            progress.add(rows);
        }
        if open.is_empty() && self.even_empty {
            open.insert(Vec::new(), self.start(&[]).await?);
        }
        for (encoder, written) in open.values_mut() {
            encoder.finish().map_err(|e| self.failed(&written.path, e))?;
            self.send(encoder.take(), written).await?;
        }
        Ok(())
    }

    async fn start(&self, directories: &[String]) -> Result<(Box<dyn Encoder>, Written)> {
        let path = if self.target.single {
            self.base.clone()
        } else {
            let extension = self.format.extensions().first().copied().unwrap_or("bin");
            let directory = directories.iter().fold(self.base.clone(), |path, part| path.join(part.as_str()));
            directory.join(format!("part-{:05}.{extension}", self.number))
        };
        let encoder =
            encoder(&self.format, &self.options, &self.layout.schema).map_err(|e| self.failed(&path, e))?;
        let upload =
            self.target.store.put_multipart(&path).await.map_err(|e| self.failed(&path, e.into()))?;
        Ok((encoder, Written { path, rows: 0, upload: WriteMultipart::new(upload) }))
    }

    async fn send(&self, bytes: Vec<u8>, written: &mut Written) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let room = written.upload.wait_for_capacity(PARTS_AT_ONCE).await;
        room.map_err(|e| self.failed(&written.path, e.into()))?;
        written.upload.put(bytes.into());
        Ok(())
    }

    fn failed(&self, path: &Path, source: BoxError) -> DataError {
        DataError::Write { path: self.target.name(path), source }
    }
}
