//! [`SpillFiles`]: what does not fit into memory, on disk; a disk that takes no more is told with where and how much.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use air_core::BoxError;
use bytes::{Bytes, BytesMut};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::stream::try_unfold;
use futures::{Stream, TryStreamExt};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::error::DataError;

/// As much of a file is read at a time where there is memory enough: as much as the engine reads.
const PIECE_BYTES: usize = 128 << 10;

/// And where there is little.
const SMALLEST_PIECE_BYTES: usize = 4 << 10;

/// The engine's own files in a directory, with errors of ours, and read in pieces that suit the budget.
pub(crate) struct SpillFiles {
    disk: Arc<DiskManager>,
    piece_bytes: usize,
}

impl fmt::Debug for SpillFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillFiles").field("bytes", &self.disk.used_disk_space()).finish_non_exhaustive()
    }
}

impl SpillFiles {
    /// In `dir`, or the system's temporary directory, for operators that have `share_bytes` each.
    pub(crate) fn new(dir: Option<&PathBuf>, share_bytes: usize) -> Result<Self> {
        let mode = match dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        // The disk is the limit.
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(u64::MAX);
        // A batch keeps the pieces that it was read from, however short it is, and is counted with them.
        let piece_bytes = (share_bytes / 256).clamp(SMALLEST_PIECE_BYTES, PIECE_BYTES);
        Ok(Self { disk: Arc::new(disk.build()?), piece_bytes })
    }

    /// The directory, as far as it is there.
    fn place(&self) -> PathBuf {
        self.disk.temp_dir_paths().into_iter().next().unwrap_or_else(std::env::temp_dir)
    }
}

impl TempFileFactory for SpillFiles {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let file = self
            .disk
            .create_tmp_file(description)
            .map_err(|e| failed(&self.place(), 0, &self.disk, e.into()))?;
        Ok(Arc::new(Told { file, disk: self.disk.clone(), piece_bytes: self.piece_bytes }))
    }
}

fn failed(path: &Path, file_bytes: u64, disk: &DiskManager, source: BoxError) -> DataError {
    DataError::Spill {
        path: path.display().to_string(),
        file_bytes,
        spilled_bytes: disk.used_disk_space(),
        source,
    }
}

/// A file whose writing fails with our error.
struct Told {
    file: Arc<dyn SpillFile>,
    disk: Arc<DiskManager>,
    piece_bytes: usize,
}

impl SpillFile for Told {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        match self.file.path() {
            Some(path) => Ok(Box::pin(pieces(path.to_owned(), self.piece_bytes))),
            None => self.file.read_stream(),
        }
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let writer = self.file.open_writer()?;
        Ok(Box::new(Writer { inner: writer, file: self.file.clone(), disk: self.disk.clone() }))
    }
}

fn pieces(path: PathBuf, bytes: usize) -> impl Stream<Item = Result<Bytes>> + Send {
    let opened = async move { Ok::<_, DataFusionError>(File::open(path).await?) };
    let read = move |file| {
        try_unfold(file, move |mut file: File| async move {
            let mut piece = BytesMut::with_capacity(bytes);
            let read = file.read_buf(&mut piece).await?;
            Ok((read > 0).then(|| (piece.freeze(), file)))
        })
    };
    futures::stream::once(opened).map_ok(read).try_flatten()
}

struct Writer {
    inner: Box<dyn SpillWriter>,
    file: Arc<dyn SpillFile>,
    disk: Arc<DiskManager>,
}

impl Writer {
    fn failed(&self, source: BoxError) -> DataError {
        failed(
            self.file.path().unwrap_or(Path::new("a spill file")),
            self.file.size().unwrap_or(0),
            &self.disk,
            source,
        )
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes).map_err(|e| self.failed(e.into()).into_io())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush().map_err(|e| self.failed(e.into()).into_io())
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        self.inner.finish().map_err(|e| self.failed(e.into()).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_in_pieces_that_suit_the_budget() {
        for (share, most) in [(1 << 20, 4 << 10), (4 << 20, 16 << 10), (1 << 30, 128 << 10)] {
            let file = SpillFiles::new(None, share).unwrap().create_temp_file("a test").unwrap();
            let written: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
            let mut writer = file.open_writer().unwrap();
            writer.write_all(&written).unwrap();
            writer.finish().unwrap();
            let pieces: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
            assert_eq!(pieces.concat(), written);
            assert!(pieces.iter().all(|piece| piece.len() <= most), "{share}");
            assert!(pieces.len() <= written.len().div_ceil(most) + 8, "{} pieces", pieces.len());
        }
    }
}
