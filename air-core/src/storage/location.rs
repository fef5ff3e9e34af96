//! From what a user writes (a path or a URL) to a store and a place in it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use url::Url;

use super::error::StorageError;

/// A place in a store.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The URL of the store's root, for engines that keep a table of stores: `file:///`, `s3://bucket/`.
    pub(super) base: Url,
    pub(super) root: ObjectPath,
    /// The same place in the local file system, if that is where it is.
    pub(super) local: Option<PathBuf>,
}

impl Location {
    pub(super) fn resolve(text: &str) -> Result<Self, StorageError> {
        if text.is_empty() {
            return Err(bad(text, "it is empty"));
        }
        if !text.contains("://") {
            return Self::resolve_path(text, Path::new(text));
        }
        let url = Url::parse(text).map_err(|error| bad(text, error))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad(text, "a `?` or `#` in a URL is not supported"));
        }
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| bad(text, "write file:///absolute/path"))?;
            return Self::resolve_path(text, &path);
        }
        Self::resolve_url(text, &url)
    }

    /// Whether operations only touch this machine, so that they need no async runtime.
    pub(super) fn is_remote(&self) -> bool {
        !matches!(self.base.scheme(), "file" | "memory")
    }

    fn resolve_path(text: &str, path: &Path) -> Result<Self, StorageError> {
        let path = std::path::absolute(path).map_err(|error| bad(text, error))?;
        let path = without_dots(&path);
        let root = ObjectPath::from_absolute_path(&path).map_err(|error| bad(text, error))?;
        let base = Url::parse("file:///").map_err(|error| bad(text, error))?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), base, root, local: Some(path) })
    }

    fn resolve_url(text: &str, url: &Url) -> Result<Self, StorageError> {
        let known = match url.scheme() {
            "memory" => true,
            "s3" | "s3a" | "gs" | "az" | "adl" | "azure" | "abfs" | "abfss" | "http" | "https" => {
                cfg!(feature = "cloud")
            }
            scheme => {
                let reason = format!(
                    "unknown scheme `{scheme}`; expected a path, file, s3, gs, az, abfs, http or https"
                );
                return Err(StorageError::SchemeUnavailable { location: text.into(), reason });
            }
        };
        if !known {
            let reason = format!("`{}` needs a build with the feature `cloud` of air-core", url.scheme());
            return Err(StorageError::SchemeUnavailable { location: text.into(), reason });
        }
        // Credentials and endpoints come from the environment, under the names the stores' own tools use.
        let options = std::env::vars_os()
            .filter_map(|(key, value)| {
                Some((key.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
            })
            .chain((url.scheme() == "http").then(|| ("allow_http".to_owned(), "true".to_owned())));
        let (store, root) = object_store::parse_url_opts(url, options)
            .map_err(|source| StorageError::Failed { verb: "open", location: text.into(), source })?;
        let mut base = url.clone();
        base.set_path("/");
        Ok(Self { store: store.into(), base, root, local: None })
    }
}

fn bad(location: &str, reason: impl std::fmt::Display) -> StorageError {
    StorageError::BadLocation { location: location.into(), reason: reason.to_string() }
}

/// The path without `.` and `..`, which object stores do not have.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            component => clean.push(component),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_and_file_urls_are_one_place() {
        let here = std::env::current_dir().unwrap();
        for text in ["a/b c.csv", "./a/../a/b c.csv", &format!("file://{}/a/b%20c.csv", here.display())] {
            let location = Location::resolve(text).unwrap();
            assert_eq!(location.local.as_deref(), Some(here.join("a/b c.csv").as_path()), "{text}");
            assert_eq!(location.base.as_str(), "file:///");
            assert!(!location.is_remote());
        }
    }

    #[test]
    fn wrong_locations_say_what_to_do() {
        let error = |text: &str| Location::resolve(text).unwrap_err().to_string();
        assert_eq!(error(""), "`` is not a valid location: it is empty");
        assert_eq!(
            error("ftp://host/x"),
            "cannot open `ftp://host/x`: unknown scheme `ftp`; \
             expected a path, file, s3, gs, az, abfs, http or https"
        );
        assert_eq!(
            error("https://host/x?sig=1"),
            "`https://host/x?sig=1` is not a valid location: a `?` or `#` in a URL is not supported"
        );
        assert_eq!(
            error("file://host/x"),
            "`file://host/x` is not a valid location: write file:///absolute/path"
        );
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn a_cloud_url_names_the_feature_it_needs() {
        assert_eq!(
            Location::resolve("s3://bucket/x").unwrap_err().to_string(),
            "cannot open `s3://bucket/x`: `s3` needs a build with the feature `cloud` of air-core"
        );
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn a_cloud_url_is_a_bucket_and_a_place_in_it() {
        for (text, base, root) in [
            ("s3://bucket/a/b", "s3://bucket/", "a/b"),
            ("gs://bucket/a", "gs://bucket/", "a"),
            ("http://host:9000/a/b.csv", "http://host:9000/", "a/b.csv"),
        ] {
            let location = Location::resolve(text).unwrap();
            assert_eq!((location.base.as_str(), location.root.as_ref()), (base, root));
            assert!(location.is_remote());
        }
    }
}
