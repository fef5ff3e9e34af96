//! Checkpoints: a run's state, saved whole or not at all.
//!
//! ```
//! # fn main() -> Result<(), air_core::CoreError> {
//! use air_core::checkpoint::{CheckpointStore, Mode, Retention};
//! use air_core::storage::Storage;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path().to_str().unwrap();
//! let store = CheckpointStore::open(Storage::open(dir)?, Retention::best(2, "loss", Mode::Min))?;
//! for step in 0..5 {
//!     let metrics = [("loss".to_owned(), 1.0 / (step + 1) as f64)].into();
//!     store.save(step, &metrics, &[("weights.bin", vec![step as u8; 100].into())])?;
//! }
//! let latest = store.latest()?.expect("five were saved");
//! assert_eq!(latest.step(), 4);
//! assert_eq!(latest.read("weights.bin")?[0], 4);
//! # Ok(())
//! # }
//! ```
//!
//! A checkpoint is a directory, `checkpoint_000003`: an empty file `claim` that reserves the number, the files, and
//! last a `manifest.json` with the size and CRC-32C of each. Several threads and processes may save into one store.
//!
//! Invariants, each held by a test in `tests/it/checkpoint.rs`:
//!
//! 1. A save that is cut off at any point leaves no checkpoint, and does not harm the earlier ones.
//! 2. [`CheckpointStore::latest`] and [`best`](CheckpointStore::best) return only what was read back and has the
//!    checksums of what was saved. What they pass over is reported, with the file and the reason.
//! 3. The newest checkpoint is never deleted, nor one that is being saved.

mod error;
mod manifest;
mod retention;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub use error::CheckpointError;
pub use manifest::{FileEntry, MAX_FILES, MAX_MANIFEST_BYTES, MAX_METRICS, Manifest};
pub use retention::{Mode, Retention, Saved, Score};
pub use store::{CheckpointStore, Skipped};

use crate::storage::{Storage, StorageError};
use crate::{CoreError, Result};
use manifest::MANIFEST;

/// A handle on one complete checkpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    storage: Storage,
    manifest: Arc<Manifest>,
}

impl Checkpoint {
    /// The checkpoint at a path or URL; where that is a directory of checkpoints, the latest of them.
    pub fn find(location: &str) -> Result<Self> {
        let storage = Storage::open(location)?;
        match Self::load(storage.clone()) {
            Err(CoreError::Checkpoint(CheckpointError::Incomplete { .. })) => {}
            found => return found.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint)),
        }
        let is_one = storage.exists_blocking(manifest::CLAIM)?;
        let latest =
            if is_one { None } else { CheckpointStore::open(storage, Retention::default())?.latest()? };
        match latest {
            Some(checkpoint) => Ok(checkpoint),
            None if is_one => Err(CheckpointError::Incomplete { checkpoint: location.into() }.into()),
            None => Err(CheckpointError::NotFound { location: location.into() }.into()),
        }
    }

    /// Reads the manifest, and nothing else.
    fn load(storage: Storage) -> Result<Self> {
        let checkpoint = storage.to_string();
        let text = match storage.get_blocking(MANIFEST, MAX_MANIFEST_BYTES) {
            Ok(text) => text,
            Err(CoreError::Storage(StorageError::NotFound { .. })) => {
                return Err(CheckpointError::Incomplete { checkpoint }.into());
            }
            Err(CoreError::Storage(StorageError::TooLarge { limit_bytes, .. })) => {
                let reason = format!("is larger than {limit_bytes} bytes");
                return Err(CheckpointError::Corrupt { checkpoint, file: MANIFEST.into(), reason }.into());
            }
            Err(error) => return Err(error),
        };
        let manifest = Manifest::from_text(&text, &checkpoint)?;
        Ok(Self { storage, manifest: Arc::new(manifest) })
    }

    /// Where it is, as a path or URL that [`find`](Self::find) takes.
    pub fn location(&self) -> String {
        self.storage.to_string()
    }

    /// Its directory, where it is in the local file system.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.storage.local_path("")
    }

    /// How far the run was when it was saved.
    pub fn step(&self) -> u64 {
        self.manifest.step
    }

    /// The metrics it was saved with.
    pub fn metrics(&self) -> &BTreeMap<String, f64> {
        &self.manifest.metrics
    }

    /// All that is known of it.
    pub fn metadata(&self) -> &Manifest {
        &self.manifest
    }

    /// Its files.
    pub fn files(&self) -> &[FileEntry] {
        &self.manifest.files
    }

    /// The content of one file, checked against its size and checksum.
    pub fn read(&self, name: &str) -> Result<Bytes> {
        let Some(entry) = self.files().iter().find(|entry| entry.name == name) else {
            let files = self.files().iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(CheckpointError::NoSuchFile {
                checkpoint: self.location(),
                file: name.into(),
                files,
            }
            .into());
        };
        match self.storage.get_blocking(name, entry.size_bytes) {
            Ok(bytes) => {
                self.compare(entry, bytes.len() as u64, crc32c::crc32c(&bytes))?;
                Ok(bytes)
            }
            Err(CoreError::Storage(StorageError::TooLarge { limit_bytes, .. })) => {
                Err(self.corrupt(entry, format!("has more bytes than the {limit_bytes} saved")))
            }
            Err(error) => Err(self.missing(entry, error)),
        }
    }

    /// Reads every file and compares it with what was saved.
    pub fn verify(&self) -> Result<()> {
        for entry in self.files() {
            let found = self.storage.checksum_blocking(&entry.name);
            let (size_bytes, crc32c) = found.map_err(|error| self.missing(entry, error))?;
            self.compare(entry, size_bytes, crc32c)?;
        }
        Ok(())
    }

    fn compare(&self, entry: &FileEntry, size_bytes: u64, crc32c: u32) -> Result<()> {
        if size_bytes != entry.size_bytes {
            return Err(
                self.corrupt(entry, format!("has {size_bytes} bytes, {} were saved", entry.size_bytes))
            );
        }
        if crc32c != entry.crc32c {
            return Err(
                self.corrupt(entry, format!("has checksum {crc32c:08x}, {:08x} was saved", entry.crc32c))
            );
        }
        Ok(())
    }

    fn missing(&self, entry: &FileEntry, error: CoreError) -> CoreError {
        match error {
            CoreError::Storage(StorageError::NotFound { .. }) => self.corrupt(entry, "is missing".into()),
            error => error,
        }
    }

    fn corrupt(&self, entry: &FileEntry, reason: String) -> CoreError {
        CheckpointError::Corrupt { checkpoint: self.location(), file: entry.name.clone(), reason }.into()
    }
}
