//! [`Resumable`]: a directory that outlives a write that was cut off, with the parts that were complete by then.
//!
//! It lies beside the one to be written, under a hidden name that the next write finds: `files/` with whole files, `parts/` with a note for each
//! part all of whose files are there, `write.json`, which says what is written, and a lock, which ends with its process.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path as LocalPath, PathBuf};

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::WriteOptions;
use crate::error::{DataError, Result};
use crate::format::FileFormat;

/// What has to be the same for parts of one write to go together with those of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) parts: usize,
    pub(super) columns: String,
    pub(super) format: String,
    pub(super) options: WriteOptions,
    /// How the rows come about.
    pub(super) plan: String,
}

impl Description {
    pub(super) fn new(
        parts: usize,
        columns: &arrow::datatypes::Schema,
        format: &FileFormat,
        options: &WriteOptions,
        plan: &str,
    ) -> Self {
        Self {
            parts,
            columns: columns.to_string(),
            format: format!("{format:?}"),
            options: WriteOptions { mode: super::WriteMode::Create, ..options.clone() },
            plan: plan.to_owned(),
        }
    }

    /// What is not the same in another.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let same = [
            (self.parts == other.parts, "the number of blocks"),
            (self.columns == other.columns, "the columns"),
            (self.format == other.format, "the format"),
            (self.options == other.options, "the settings"),
            (self.plan == other.plan, "the way in which the rows come about"),
        ];
        same.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
    }
}

/// A file of a complete part, by its path below the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    pub(super) path: String,
    pub(super) rows: u64,
}

/// Parts of one write, complete or not.
#[derive(Debug)]
pub(super) struct Resumable {
    hidden: PathBuf,
    to: PathBuf,
    _lock: File,
}

impl Resumable {
    /// For the directory `to`, with the notes that an earlier write of the same left.
    pub(super) fn open(
        to: &LocalPath,
        description: &Description,
    ) -> Result<(Self, BTreeMap<usize, Vec<Noted>>)> {
        let failed =
            |error: io::Error| DataError::Write { path: to.display().to_string(), source: error.into() };
        let Some(hidden) = hidden(to) else {
            return Err(refused("the root has no name; give a directory in it".to_owned()));
        };
        for directory in ["files", "parts"] {
            fs::create_dir_all(hidden.join(directory)).map_err(failed)?;
        }
        let lock = File::create(hidden.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused(format!("{} is being written already", to.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let this = Self { hidden, to: to.to_owned(), _lock: lock };
        let what = this.hidden.join("write.json");
        match fs::read(&what) {
            Ok(found) => {
                let found: Description = serde_json::from_slice(&found)
                    .map_err(|e| refused(format!("{} cannot be read: {e}; remove it", what.display())))?;
                if let Some(differs) = found.differs(description) {
                    return Err(refused(format!(
                        "{} has parts of a write that differs in {differs}; write the same with as many threads, or remove it",
                        this.hidden.display()
                    )));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                this.put(&what, description).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let noted = this.noted().map_err(failed)?;
        Ok((this, noted))
    }

    /// Whether there is one for the directory `to`.
    pub(super) fn is_of(to: &LocalPath) -> bool {
        hidden(to).is_some_and(|hidden| hidden.is_dir())
    }

    /// Where the files lie, in the store.
    pub(super) fn files(&self) -> Result<Path> {
        Path::from_absolute_path(self.hidden.join("files"))
            .map_err(|e| DataError::BadPath { path: self.to.display().to_string(), reason: e.to_string() })
    }

    /// A part all of whose files are there.
    pub(super) fn note(&self, part: usize, files: &[Noted]) -> io::Result<()> {
        self.put(&self.hidden.join(format!("parts/{part:05}.json")), &files)
    }

    /// Gives the files their names: all at once where the directory is not there yet.
    pub(super) fn publish(&self) -> io::Result<()> {
        let files = self.hidden.join("files");
        // What was cut off in the middle of a file.
        for file in below(&files)?.iter().filter(|file| file.to_string_lossy().contains('#')) {
            fs::remove_file(file)?;
        }
        if self.to.symlink_metadata().is_err() {
            fs::rename(&files, &self.to)?;
        } else {
            for file in below(&files)? {
                let to = self.to.join(file.strip_prefix(&files).unwrap_or(&file));
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(&file, to)?;
            }
        }
        fs::remove_dir_all(&self.hidden)
    }

    fn noted(&self) -> io::Result<BTreeMap<usize, Vec<Noted>>> {
        let mut noted = BTreeMap::new();
        for file in below(&self.hidden.join("parts"))? {
            let part = file.file_stem().and_then(|name| name.to_str()?.parse().ok());
            // What cannot be read is no note: its part is written again.
            if let (Some(part), Ok(files)) = (part, serde_json::from_slice(&fs::read(&file)?)) {
                noted.insert(part, files);
            }
        }
        Ok(noted)
    }

    /// A file that is there as a whole or not at all.
    fn put(&self, path: &LocalPath, value: &impl Serialize) -> io::Result<()> {
        let half =
            self.hidden.join(format!("half-{}", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::write(&half, serde_json::to_vec(value)?)?;
        fs::rename(half, path)
    }
}

fn hidden(to: &LocalPath) -> Option<PathBuf> {
    Some(to.with_file_name(format!(".{}.unfinished", to.file_name()?.to_string_lossy())))
}

fn refused(reason: String) -> DataError {
    DataError::Config { field: "resume", reason }
}

/// All files below a directory.
fn below(directory: &LocalPath) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
