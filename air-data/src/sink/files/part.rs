//! [`FilePart`]: one block of a dataset, written into a file, or into one for each directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::encode::{Encoder, encoder};
use super::split::Layout;
use super::upload::Upload;
use super::{FileWrite, Target, WriteOptions, give_up};
use crate::error::{DataError, Result};
use crate::format::FileFormat;
use crate::sink::SinkPart;

/// Files that a block may have open at once.
const MAX_FILES: usize = 4096;

/// A file that is written and not yet visible.
pub(crate) struct Written {
    pub(super) path: Path,
    pub(super) rows: u64,
    pub(super) upload: Upload,
}

/// One block under way.
pub(crate) struct FilePart {
    to: Destination,
    /// Files under way, by their directories.
    open: BTreeMap<Vec<String>, (Box<dyn Encoder>, Written)>,
}

/// Where a block's files go, and how they are written.
struct Destination {
    /// The directory that files go to, or the one file.
    base: Path,
    number: usize,
    target: Arc<Target>,
    layout: Arc<Layout>,
    format: FileFormat,
    options: WriteOptions,
}

impl FilePart {
    pub(super) fn new(write: &FileWrite, number: usize) -> Self {
        let to = Destination {
            base: write.base.clone(),
            number,
            target: write.target.clone(),
            layout: write.layout.clone(),
            format: write.format.clone(),
            options: write.options.clone(),
        };
        Self { to, open: BTreeMap::new() }
    }

    fn into_files(self) -> Vec<Written> {
        self.open.into_values().map(|(_, file)| file).collect()
    }

    async fn put(&mut self, batch: &RecordBatch) -> Result<()> {
        for (directories, piece) in
            self.to.layout.split(batch).map_err(|e| self.to.failed(&self.to.base, e))?
        {
            if !self.open.contains_key(&directories) {
                if self.open.len() == MAX_FILES {
                    let reason =
                        format!("more than {MAX_FILES} directories in one block; sort by the columns first");
                    return Err(DataError::Config { field: "partition_by", reason });
                }
                let file = self.to.start(&directories).await?;
                self.open.insert(directories.clone(), file);
            }
            let Some((encoder, written)) = self.open.get_mut(&directories) else { continue };
            encoder.write(&piece).map_err(|e| self.to.failed(&written.path, e))?;
            written.rows += piece.num_rows() as u64;
            self.to.send(encoder.take(), written).await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        // The only file is there even when it holds no row: its columns are worth having.
        if self.open.is_empty() && self.to.number == 0 && self.to.options.partition_by.is_empty() {
            let file = self.to.start(&[]).await?;
            self.open.insert(Vec::new(), file);
        }
        for (encoder, written) in self.open.values_mut() {
            encoder.finish().map_err(|e| self.to.failed(&written.path, e))?;
            self.to.send(encoder.take(), written).await?;
            let flushed = written.upload.flush().await;
            flushed.map_err(|e| self.to.stopped(written, e))?;
        }
        Ok(())
    }
}

impl Destination {
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
        Ok((encoder, Written { path, rows: 0, upload: Upload::new(upload) }))
    }

    async fn send(&self, bytes: Vec<u8>, written: &mut Written) -> Result<()> {
        let taken = written.upload.write(bytes.into()).await;
        taken.map_err(|e| self.stopped(written, e))
    }

    fn failed(&self, path: &Path, source: BoxError) -> DataError {
        self.target.failed(&self.target.shown(&self.base, path), source)
    }

    /// The store takes no more of a file.
    fn stopped(&self, written: &Written, source: object_store::Error) -> DataError {
        let path = self.target.shown(&self.base, &written.path);
        self.target.failed_after(&path, written.upload.sent_bytes(), source)
    }
}

impl SinkPart for FilePart {
    type Finished = Vec<Written>;

    async fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.put(batch).await?)
    }

    async fn finish(mut self) -> std::result::Result<Vec<Written>, BoxError> {
        if let Err(error) = self.end().await {
            self.abort().await;
            return Err(error.into());
        }
        Ok(self.into_files())
    }

    async fn abort(self) {
        give_up(self.into_files()).await;
    }
}
