//! [`SpillFiles`]: what does not fit into memory, on disk; a disk that takes no more is told with where and how much.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use air_core::BoxError;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;

use crate::error::DataError;

/// The engine's own files in a directory, with errors of ours.
pub(crate) struct SpillFiles {
    disk: Arc<DiskManager>,
}

impl fmt::Debug for SpillFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillFiles").field("bytes", &self.disk.used_disk_space()).finish_non_exhaustive()
    }
}

impl SpillFiles {
    /// In `dir`, or the system's temporary directory.
    pub(crate) fn new(dir: Option<&PathBuf>) -> Result<Self> {
        let mode = match dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        // The disk is the limit.
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(u64::MAX);
        Ok(Self { disk: Arc::new(disk.build()?) })
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
        Ok(Arc::new(Told { file, disk: self.disk.clone() }))
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
}

impl SpillFile for Told {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        self.file.read_stream()
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let writer = self.file.open_writer()?;
        Ok(Box::new(Writer { inner: writer, file: self.file.clone(), disk: self.disk.clone() }))
    }
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
