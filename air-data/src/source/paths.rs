//! Paths as users give them → files: one path, several, a pattern, a directory or a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use glob::MatchOptions;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::Stores;
use super::location::{self, Kind};
use crate::error::{DataError, Result};

/// Most files that one dataset may read.
const MAX_FILES: usize = 1_000_000;

/// How many paths are looked for at once.
const LISTS_AT_ONCE: usize = 16;

/// What `read_csv` and its siblings accept as a path: one path or many; each a file, a directory, a pattern such as
/// `logs/*.csv`, or a URL (`file://`, `s3://`, `gs://`, `az://`, `http://`, `https://`).
pub trait IntoPaths {
    /// The paths as text.
    fn into_paths(self) -> Vec<String>;
}

impl IntoPaths for &str {
    fn into_paths(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoPaths for String {
    fn into_paths(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoPaths for &String {
    fn into_paths(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl IntoPaths for &Path {
    fn into_paths(self) -> Vec<String> {
        vec![self.to_string_lossy().into_owned()]
    }
}

impl IntoPaths for PathBuf {
    fn into_paths(self) -> Vec<String> {
        self.as_path().into_paths()
    }
}

impl IntoPaths for &PathBuf {
    fn into_paths(self) -> Vec<String> {
        self.as_path().into_paths()
    }
}

impl<P: IntoPaths> IntoPaths for Vec<P> {
    fn into_paths(self) -> Vec<String> {
        self.into_iter().flat_map(P::into_paths).collect()
    }
}

impl<P: IntoPaths, const N: usize> IntoPaths for [P; N] {
    fn into_paths(self) -> Vec<String> {
        self.into_iter().flat_map(P::into_paths).collect()
    }
}

/// Files of one store, in the order they will be read.
pub(crate) struct Found {
    pub(crate) url: ObjectStoreUrl,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) files: Vec<FoundFile>,
}

/// A file, and where below the directory or pattern that was asked for it lies.
pub(crate) struct FoundFile {
    pub(crate) meta: ObjectMeta,
    /// The directories between the two, from the outermost.
    pub(crate) directories: Vec<String>,
}

/// Finds the files of `paths`. Directories are searched, deeply, for the `extensions`, or for all files where there are none; files in a directory or a pattern
/// come in the order of their names, and hidden ones (`.x`, `_x`) are passed over.
pub(crate) async fn find(paths: &[String], extensions: &[String], stores: &Stores) -> Result<Found> {
    let bad = |path: &str, reason: String| DataError::BadPath { path: path.to_owned(), reason };
    let mut urls = Vec::with_capacity(paths.len());
    for path in paths {
        urls.push((path, location::parse(path).map_err(|reason| bad(path, reason))?));
    }
    let Some((first_path, first)) = urls.first() else {
        return Err(DataError::NotFound { path: "an empty list of paths".to_owned() });
    };
    let url = first.object_store();
    if let Some((path, _)) = urls.iter().find(|(_, other)| other.object_store() != url) {
        let first = url.as_str();
        return Err(bad(
            path,
            format!("the paths of one dataset lie in one store, and the first is in {first}"),
        ));
    }
    let store = stores.get(first.get_url()).map_err(|reason| bad(first_path, reason))?;
    let found: Vec<_> = urls.iter().map(|(path, url)| list(path, url, &store, extensions)).collect();
    let mut found = futures::stream::iter(found).buffered(LISTS_AT_ONCE);
    let mut files = Vec::new();
    while let Some(more) = found.try_next().await? {
        files.extend(more);
        if files.len() > MAX_FILES {
            return Err(bad(first_path, format!("more than {MAX_FILES} files")));
        }
    }
    drop(found);
    Ok(Found { url, store, files })
}

async fn list(
    path: &str,
    url: &ListingTableUrl,
    store: &Arc<dyn ObjectStore>,
    extensions: &[String],
) -> Result<Vec<FoundFile>> {
    let failed = |verb: &'static str| {
        move |error: object_store::Error| match error {
            object_store::Error::NotFound { .. } => DataError::NotFound { path: path.to_owned() },
            other => DataError::storage(verb, path, other),
        }
    };
    if url.get_glob().is_none() && !url.is_collection() {
        match store.head(url.prefix()).await {
            Ok(meta) => return Ok(vec![FoundFile { meta, directories: Vec::new() }]),
            // In a store of objects nothing but the names in it tells a directory.
            Err(object_store::Error::NotFound { .. }) if Kind::of(url.get_url()) == Ok(Kind::Objects) => {}
            Err(error) => return Err(failed("look at")(error)),
        }
    }
    let prefix = url.prefix().clone();
    let everything = url.get_glob().is_some();
    let mut files: Vec<ObjectMeta> = store
        .list(Some(&prefix))
        .try_filter(|meta| {
            let keep = !hidden(&prefix, &meta.location)
                && (matches(url, &meta.location)
                    || !everything
                        && (extensions.is_empty()
                            || extensions.iter().any(|ending| ends_with(&meta.location, ending))));
            futures::future::ready(keep)
        })
        // One more than may be, which is found out above.
        .take(MAX_FILES + 1)
        .try_collect()
        .await
        .map_err(failed("list"))?;
    files.sort_by(|a, b| a.location.cmp(&b.location));
    if files.is_empty() {
        return Err(match (everything, extensions.first()) {
            (false, Some(extension)) if exists(url) => {
                DataError::EmptyDirectory { path: path.to_owned(), extension: extension.clone() }
            }
            _ => DataError::NotFound { path: path.to_owned() },
        });
    }
    Ok(files
        .into_iter()
        .map(|meta| FoundFile { directories: below(&prefix, &meta.location), meta })
        .collect())
}

/// Whether a file's name is `*.ending`.
fn ends_with(location: &object_store::path::Path, ending: &str) -> bool {
    let stem = location.filename().and_then(|name| name.strip_suffix(ending));
    stem.is_some_and(|stem| stem.ends_with('.'))
}

fn below(prefix: &object_store::path::Path, location: &object_store::path::Path) -> Vec<String> {
    let parts = location.prefix_match(prefix).into_iter().flatten();
    let mut parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
    parts.pop();
    parts
}

/// Whether any part of the location below `prefix` begins like a hidden file.
fn hidden(prefix: &object_store::path::Path, location: &object_store::path::Path) -> bool {
    let mut below = location.prefix_match(prefix).into_iter().flatten();
    below.any(|part| part.as_ref().starts_with(['.', '_']))
}

/// Whether the location matches the pattern, whose `*` stays within one directory and whose `**` does not.
fn matches(url: &ListingTableUrl, location: &object_store::path::Path) -> bool {
    let within = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let below: Option<Vec<_>> = location.prefix_match(url.prefix()).map(Iterator::collect);
    url.get_glob().as_ref().zip(below).is_some_and(|(pattern, below)| {
        let below: Vec<&str> = below.iter().map(AsRef::as_ref).collect();
        pattern.matches_with(&below.join("/"), within)
    })
}

/// Object stores have no directories: one without files does not exist there.
fn exists(url: &ListingTableUrl) -> bool {
    url.get_url().to_file_path().is_ok_and(|path| path.is_dir())
}
