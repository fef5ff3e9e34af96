//! [`FilePart`]: one block of a dataset, written into a file, or into one for each directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::encode::{Encoder, encoder};
use super::packed::Packed;
use super::resume::{Noted, Resumable};
use super::split::Layout;
use super::upload::Upload;
use super::{FileWrite, Target, WriteOptions, give_up};
use crate::error::{DataError, Result};
use crate::format::{Codec, FileFormat};
use crate::session::blocking;
use crate::sink::SinkPart;

/// Files that a block may have open at once.
const MAX_FILES: usize = 4096;

/// A file that is written and not yet visible.
pub(crate) struct Written {
    pub(super) path: Path,
    pub(super) rows: u64,
    pub(super) upload: Upload,
}

/// A file that has all its rows, and is visible once it is complete.
pub(crate) struct Ended {
    pub(super) path: Path,
    pub(super) rows: u64,
    /// Until then.
    upload: Option<Upload>,
    /// It was complete before the write was, and goes again if that fails.
    early: bool,
}

impl Ended {
    /// One that an earlier write completed.
    pub(super) fn there(path: Path, rows: u64) -> Self {
        Self { path, rows, upload: None, early: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.upload.is_none()
    }

    pub(super) async fn complete(&mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
            self.upload = None;
        }
        Ok(())
    }

    /// Takes it back, unless it was completed when all were.
    pub(super) async fn give_up(self, store: &dyn ObjectStore) {
        if let Some(upload) = self.upload {
            // The first error is the one to tell; an upload that cannot be taken back is never visible.
            let _ = upload.abort().await;
        } else if self.early {
            let _ = store.delete(&self.path).await;
        }
    }
}

/// One block under way.
pub(crate) struct FilePart {
    to: Destination,
    /// Files under way, by their directories.
    open: BTreeMap<Vec<String>, (Box<dyn Encoder>, Written)>,
    /// Files of one row, which are complete.
    single: Vec<Ended>,
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
    codec: Option<Codec>,
    resumable: Option<Arc<Resumable>>,
    tag: String,
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
            codec: write.target.codec(&write.format, write.options.compression),
            resumable: write.resumable.clone(),
            tag: write.tag.clone(),
        };
        Self { to, open: BTreeMap::new(), single: Vec::new() }
    }

    fn into_files(self) -> (Destination, Vec<Ended>) {
        let ended = |(_, file): (_, Written)| Ended {
            path: file.path,
            rows: file.rows,
            upload: Some(file.upload),
            early: false,
        };
        (self.to, self.open.into_values().map(ended).chain(self.single).collect())
    }

    async fn put(&mut self, batch: &RecordBatch) -> Result<()> {
        for (directories, piece) in
            self.to.layout.split(batch).map_err(|e| self.to.failed(&self.to.base, e))?
        {
            if self.to.format.is_file_a_row() {
                self.put_rows(&directories, &piece).await?;
                continue;
            }
            if !self.open.contains_key(&directories) {
                if self.open.len() == MAX_FILES {
                    let reason =
                        format!("more than {MAX_FILES} directories in one block; sort by the columns first");
                    return Err(DataError::Config { field: "partition_by", reason });
                }
                let file = self.to.start(&directories, None).await?;
                self.open.insert(directories.clone(), file);
            }
            let Some((encoder, written)) = self.open.get_mut(&directories) else { continue };
            encoder.write(&piece).map_err(|e| self.to.failed(&written.path, e))?;
            written.rows += piece.num_rows() as u64;
            self.to.send(encoder.take(), written).await?;
        }
        Ok(())
    }

    /// Each row as a file.
    async fn put_rows(&mut self, directories: &[String], rows: &RecordBatch) -> Result<()> {
        for row in 0..rows.num_rows() {
            let number = self.single.len();
            if self.to.target.single && number > 0 {
                let reason = "there are more rows than one; give a path without an extension, a directory";
                return Err(self.to.failed(&self.to.base, reason.into()));
            }
            let (mut encoder, mut file) = self.to.start(directories, Some(number)).await?;
            let written = async {
                encoder.write(&rows.slice(row, 1)).map_err(|e| self.to.failed(&file.path, e))?;
                self.to.send(encoder.take(), &mut file).await?;
                file.upload.flush().await.map_err(|e| self.to.stopped(&file, e))?;
                file.upload.complete().await.map_err(|e| self.to.stopped(&file, e))
            };
            if let Err(error) = written.await {
                let _ = file.upload.abort().await;
                return Err(error);
            }
            self.single.push(Ended { path: file.path, rows: 1, upload: None, early: true });
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        // The only file is there even when it holds no row: its columns are worth having.
        if self.open.is_empty()
            && !self.to.format.is_file_a_row()
            && self.to.number == 0
            && self.to.options.partition_by.is_empty()
        {
            let file = self.to.start(&[], None).await?;
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
    /// A file of the block, or of one of its rows.
    async fn start(&self, directories: &[String], row: Option<usize>) -> Result<(Box<dyn Encoder>, Written)> {
        let path = if self.target.single {
            self.base.clone()
        } else {
            let (extension, number, tag) = (self.extension(), self.number, &self.tag);
            let directory = directories.iter().fold(self.base.clone(), |path, part| path.join(part.as_str()));
            directory.join(match row {
                Some(row) => format!("{tag}part-{number:05}-{row:06}.{extension}"),
                None => format!("part-{number:05}.{extension}{}", self.codec.map_or("", Codec::ending)),
            })
        };
        let plain = encoder(&self.format, &self.options, &self.layout.schema);
        let encoder = plain.and_then(|plain| match self.codec {
            Some(codec) => Ok(Box::new(Packed::new(plain, codec)?) as Box<dyn Encoder>),
            None => Ok(plain),
        });
        let encoder = encoder.map_err(|e| self.failed(&path, e))?;
        let upload =
            self.target.store.put_multipart(&path).await.map_err(|e| self.failed(&path, e.into()))?;
        Ok((encoder, Written { path, rows: 0, upload: Upload::new(upload) }))
    }

    fn extension(&self) -> &'static str {
        #[cfg(feature = "images")]
        if self.options.jpeg_quality.is_some() && self.format.is_file_a_row() {
            return "jpg";
        }
        self.format.extensions().first().copied().unwrap_or("bin")
    }

    /// Completes the files of a block that is to be gone on from, and notes that they are there.
    async fn keep(&self, resumable: &Resumable, files: &mut [Ended]) -> Result<()> {
        for file in &mut *files {
            file.complete().await.map_err(|e| self.failed(&file.path, e.into()))?;
        }
        let noted: Vec<Noted> = files.iter().map(|file| self.noted(file)).collect();
        blocking(|| resumable.note(self.number, &noted)).map_err(|e| self.failed(&self.base, e.into()))?;
        for file in files {
            file.early = false;
        }
        Ok(())
    }

    fn noted(&self, file: &Ended) -> Noted {
        let below: Vec<_> = file.path.prefix_match(&self.base).into_iter().flatten().collect();
        let below: Vec<&str> = below.iter().map(AsRef::as_ref).collect();
        Noted { path: below.join("/"), rows: file.rows }
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
    type Finished = Vec<Ended>;

    async fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.put(batch).await?)
    }

    async fn finish(mut self) -> std::result::Result<Vec<Ended>, BoxError> {
        if let Err(error) = self.end().await {
            self.abort().await;
            return Err(error.into());
        }
        let (to, mut files) = self.into_files();
        if let Some(resumable) = &to.resumable
            && let Err(error) = to.keep(resumable, &mut files).await
        {
            give_up(files, to.target.store.as_ref()).await;
            return Err(error.into());
        }
        Ok(files)
    }

    async fn abort(self) {
        let (to, files) = self.into_files();
        give_up(files, to.target.store.as_ref()).await;
    }
}
