//! [`FilePart`]: one block of a dataset, written into a file, or into one for each directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::encode::{Encoder, encoder};
use super::split::Layout;
use super::{FileWrite, Target, WriteOptions};
use crate::error::{DataError, Result};
use crate::format::FileFormat;
use crate::sink::SinkPart;

/// Parts of one file that may be on their way to the store at once.
const PARTS_AT_ONCE: usize = 4;

/// Files that a block may have open at once.
const MAX_FILES: usize = 4096;

/// A file that is written and not yet visible.
pub(crate) struct Written {
    pub(super) path: Path,
    pub(super) rows: u64,
    pub(super) upload: WriteMultipart,
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
            let done = encoder.write(&piece);
            written.rows += piece.num_rows() as u64;
            let bytes = encoder.take();
            let done = match done {
                Ok(()) => send(bytes, written).await,
                Err(error) => Err(error),
            };
            done.map_err(|e| self.to.failed(&written.path, e))?;
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
            let done = encoder.finish();
            let bytes = encoder.take();
            let done = match done {
                Ok(()) => send(bytes, written).await,
                Err(error) => Err(error),
            };
            done.map_err(|e| self.to.failed(&written.path, e))?;
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
        Ok((encoder, Written { path, rows: 0, upload: WriteMultipart::new(upload) }))
    }

    fn failed(&self, path: &Path, source: BoxError) -> DataError {
        DataError::Write { path: self.target.name(path), source }
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
        Ok(self.open.into_values().map(|(_, written)| written).collect())
    }

    async fn abort(self) {
        for (_, file) in self.open.into_values() {
            // The first error is the one to tell; an upload that cannot be taken back is never visible.
            let _ = file.upload.abort().await;
        }
    }
}

async fn send(bytes: Vec<u8>, written: &mut Written) -> std::result::Result<(), BoxError> {
    if !bytes.is_empty() {
        written.upload.wait_for_capacity(PARTS_AT_ONCE).await?;
        written.upload.put(bytes.into());
    }
    Ok(())
}
