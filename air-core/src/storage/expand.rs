//! From a file, a directory or a pattern to the files it stands for.

use glob::{MatchOptions, Pattern};
use object_store::ObjectStoreExt as _;

use super::error::StorageError;
use super::{Object, Storage};
use crate::Result;

/// What opens a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// A shell's rules: `*` stays within one directory (`**` does not), and a leading dot is matched only by a dot.
const RULES: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that a location stands for.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they are; their names are relative to it.
    pub storage: Storage,
    /// The files, sorted by name; at least one.
    pub objects: Vec<Object>,
}

impl Storage {
    /// The files that `location` stands for: itself, all files below a directory (except those whose name, or
    /// directory, begins with `.` or `_`), or all that match a pattern (`*`, `?`, `[a-z]`, `**`). Sorted by name.
    /// None is an error.
    pub async fn expand(location: &str) -> Result<Files> {
        let whole = Self::open(location)?;
        let as_named = match &whole.location.local {
            Some(path) => path.exists(),
            None => !location.contains(WILD),
        };
        if as_named { whole.expand_named().await } else { whole.expand_pattern(location).await }
    }

    /// [`expand`](Self::expand) for callers that are not async.
    pub fn expand_blocking(location: &str) -> Result<Files> {
        Self::open(location)?.wait(Self::expand(location))
    }

    /// A file, or else a directory.
    async fn expand_named(self) -> Result<Files> {
        if let Some(object) = self.as_file().await? {
            return Ok(object);
        }
        let mut objects = self.list("").await?;
        objects.retain(|object| !object.name.split('/').any(|part| part.starts_with(['.', '_'])));
        if objects.is_empty() {
            let location = self.shown.to_string();
            if self.is_local_dir("") {
                return Err(StorageError::NoMatch { pattern: location }.into());
            }
            return Err(StorageError::NotFound { location }.into());
        }
        Ok(Files { storage: self, objects })
    }

    /// This very place as a file in the directory that holds it.
    async fn as_file(&self) -> Result<Option<Files>> {
        if self.is_local_dir("") {
            return Ok(None);
        }
        let meta = match self.location.store.head(&self.location.root).await {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("look at", "", error)),
        };
        let (dir, _) = split_last(&self.shown);
        let mut parent = self.clone();
        parent.shown = dir.into();
        parent.location.root = meta.location.parent().unwrap_or_default();
        parent.location.local = self.location.local.as_ref().and_then(|path| Some(path.parent()?.to_owned()));
        let objects: Vec<_> = parent.object(meta).into_iter().collect();
        Ok(Some(Files { storage: parent, objects }))
    }

    async fn expand_pattern(self, location: &str) -> Result<Files> {
        let Some(first_wild) = location.find(WILD) else {
            return Err(StorageError::NotFound { location: location.into() }.into());
        };
        if matches!(self.location.base.scheme(), "http" | "https") {
            let reason = "a web server cannot be listed: name each file".into();
            return Err(StorageError::BadLocation { location: location.into(), reason }.into());
        }
        let dir_end = location[..first_wild].rfind('/').map_or(0, |slash| slash + 1);
        let (dir, pattern) = location.split_at(dir_end);
        let pattern = Pattern::new(pattern).map_err(|error| StorageError::BadLocation {
            location: location.into(),
            reason: error.to_string(),
        })?;
        let storage = Self::open(if dir.is_empty() { "." } else { dir })?;
        let mut objects = storage.list("").await?;
        objects.retain(|object| pattern.matches_with(&object.name, RULES));
        if objects.is_empty() {
            return Err(StorageError::NoMatch { pattern: location.into() }.into());
        }
        Ok(Files { storage, objects })
    }
}

/// The directory and the name of a path or URL as the user wrote it.
fn split_last(shown: &str) -> (&str, &str) {
    match shown.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => (".", shown),
    }
}
