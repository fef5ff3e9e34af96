//! What the verbs read.

use clap::Args;

use crate::{DataError, Dataset, FileFormat, Result, Session};

#[derive(Debug, Args)]
pub(super) struct Input {
    /// What to read
    pub(super) file: String,
}

impl Input {
    pub(super) fn open(&self, session: &Session) -> Result<Dataset> {
        open(session, &self.file)
    }
}

pub(super) fn open(session: &Session, file: &str) -> Result<Dataset> {
    session.read(file, format_of(file)?)
}

/// The format of a file, or of the first file of known format in a directory.
pub(super) fn format_of(path: &str) -> Result<FileFormat> {
    let known = FileFormat::of_path(path);
    let Ok(entries) = std::fs::read_dir(path) else {
        // A path without a known extension that is not there is above all not there.
        let missing =
            !path.contains("://") && !path.contains(['*', '?', '[']) && !std::path::Path::new(path).exists();
        return match known {
            Err(_) if missing => Err(DataError::NotFound { path: path.to_owned() }),
            known => known,
        };
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.iter().find_map(|name| FileFormat::of_path(name).ok()).map_or(known, Ok)
}
