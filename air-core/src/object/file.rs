//! Values as files in a directory of the runtime's own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::error::ObjectError;
use super::spill::Codec;

/// Where the files of one runtime lie; made when the first is written, gone when the runtime is.
pub(super) struct Directory {
    parent: PathBuf,
    made: Mutex<Made>,
    /// Files written so far.
    written: AtomicU64,
}

enum Made {
    NotYet,
    At(TempDir),
    Closed,
}

impl Directory {
    pub(super) fn within(parent: Option<PathBuf>) -> Self {
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        Self { parent, made: Mutex::new(Made::NotYet), written: AtomicU64::new(0) }
    }

    /// Removes the directory and all files in it.
    pub(super) fn close(&self) {
        let made = std::mem::replace(&mut *self.made.lock(), Made::Closed);
        if let Made::At(directory) = made
            && let Err(error) = directory.close()
        {
            tracing::warn!(%error, parent = %self.parent.display(), "cannot remove the directory of spilled objects");
        }
    }

    pub(super) fn closed(&self) -> bool {
        matches!(*self.made.lock(), Made::Closed)
    }

    /// The directory, made if it is not there; `None` once it is closed.
    fn path(&self) -> Result<Option<PathBuf>, ObjectError> {
        let mut made = self.made.lock();
        if matches!(*made, Made::NotYet) {
            let prefix = format!("air-objects-{}-", std::process::id());
            let directory = tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir_in(&self.parent)
                .map_err(|source| spill_error(&self.parent, source))?;
            *made = Made::At(directory);
        }
        Ok(match &*made {
            Made::At(directory) => Some(directory.path().to_path_buf()),
            _ => None,
        })
    }

    /// Writes a value; the file is complete or not there. No two files have one name, also of one value: who gives up a file that was not
    /// needed deletes no other.
    pub(super) fn write<T>(&self, id: u64, value: &T, codec: Codec<T>) -> Result<SpillFile, ObjectError> {
        let directory = self.path()?.ok_or(ObjectError::Gone)?;
        let name = format!("{id}-{}", self.written.fetch_add(1, Ordering::Relaxed));
        let (part, path) = (directory.join(format!("{name}.part")), directory.join(name));
        let written = write_checked(&part, value, codec).and_then(|sum| {
            fs::rename(&part, &path)?;
            Ok(sum)
        });
        match written {
            Ok((len_bytes, crc32c)) => Ok(SpillFile { path, len_bytes, crc32c }),
            Err(source) => {
                // What is there of it takes the room that is missing.
                let _ = fs::remove_file(&part);
                Err(spill_error(&path, source))
            }
        }
    }
}

fn spill_error(path: &Path, source: io::Error) -> ObjectError {
    ObjectError::Spill { path: path.to_path_buf(), source: Arc::new(source) }
}

/// A value on disk. Dropping it deletes the file.
pub(super) struct SpillFile {
    path: PathBuf,
    len_bytes: u64,
    crc32c: u32,
}

impl SpillFile {
    pub(super) fn read<T>(&self, codec: Codec<T>) -> Result<T, ObjectError> {
        self.read_checked(codec)
            .map_err(|source| ObjectError::Restore { path: self.path.clone(), source: Arc::new(source) })
    }

    fn read_checked<T>(&self, codec: Codec<T>) -> io::Result<T> {
        let mut from = Summed::new(File::open(&self.path)?);
        let value = (codec.decode)(&mut from, self.len_bytes)?;
        // Nothing may follow.
        let _ = from.read(&mut [0])?;
        if (from.len_bytes, from.crc32c) != (self.len_bytes, self.crc32c) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its content has changed"));
        }
        Ok(value)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot delete a spilled object");
        }
    }
}

fn write_checked<T>(path: &Path, value: &T, codec: Codec<T>) -> io::Result<(u64, u32)> {
    let file = File::options().write(true).create_new(true).open(path)?;
    let mut to = io::BufWriter::with_capacity(1 << 16, Summed::new(file));
    (codec.encode)(value, &mut to)?;
    let to = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((to.len_bytes, to.crc32c))
}

/// Counts and sums what passes.
struct Summed {
    file: File,
    len_bytes: u64,
    crc32c: u32,
}

impl Summed {
    fn new(file: File) -> Self {
        Self { file, len_bytes: 0, crc32c: 0 }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.len_bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.passed(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Summed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(bytes)?;
        self.passed(&bytes[..len]);
        Ok(len)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::spill::Codecs;
    use super::*;

    #[test]
    fn giving_up_one_file_of_a_value_leaves_another() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::within(Some(parent.path().to_owned()));
        let codec = Codecs::default().find::<Vec<u8>>().unwrap();
        let unneeded = directory.write(7, &vec![1_u8; 10], codec).unwrap();
        let needed = directory.write(7, &vec![2_u8; 10], codec).unwrap();
        drop(unneeded);
        assert_eq!(needed.read(codec).unwrap(), [2; 10]);
        let folder = needed.path.parent().unwrap().to_owned();
        drop(needed);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        directory.close();
    }
}
