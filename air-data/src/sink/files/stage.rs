//! [`Stage`]: a directory under another name until it is complete.

use std::path::{Path as LocalPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::path::Path;

use crate::error::{DataError, Result};

/// A hidden directory beside the one to be written. Dropping it removes what is left in it.
#[derive(Debug)]
pub(super) struct Stage {
    hidden: PathBuf,
    to: PathBuf,
}

impl Stage {
    /// For a directory that is not there yet. One that is gets its files one after the other.
    pub(super) fn beside(to: &LocalPath) -> Option<Self> {
        static STAGES: AtomicU64 = AtomicU64::new(0);
        if to.symlink_metadata().is_ok() {
            return None;
        }
        let name = to.file_name()?.to_string_lossy();
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        // Readers pass over names that begin with a dot.
        let hidden = to.with_file_name(format!(".{name}.writing-{}-{number}", std::process::id()));
        Some(Self { hidden, to: to.to_owned() })
    }

    /// Its path in the store.
    pub(super) fn path(&self) -> Result<Path> {
        Path::from_absolute_path(&self.hidden)
            .map_err(|e| DataError::BadPath { path: self.to.display().to_string(), reason: e.to_string() })
    }

    /// Gives the directory its name, all files at once.
    pub(super) fn publish(&self) -> std::io::Result<()> {
        // A dataset without rows may have made no file at all.
        std::fs::create_dir_all(&self.hidden)?;
        std::fs::rename(&self.hidden, &self.to)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a failure there may be empty directories; after a rename there is nothing.
        let _ = std::fs::remove_dir_all(&self.hidden);
    }
}
