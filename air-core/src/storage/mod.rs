//! [`Storage`]: one way to reach every place a user can name.
//!
//! A location is a local path (`data/iris.csv`, relative ones too), a `file://` URL or, with the feature `cloud`, an
//! `s3://`, `gs://`, `az://`, `http://` or `https://` URL; the stores' credentials and endpoints come from the
//! environment (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
//!
//! ```
//! # fn main() -> Result<(), air_core::CoreError> {
//! use air_core::storage::Storage;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path().to_str().unwrap();
//! let storage = Storage::open(dir)?;
//! storage.put_blocking("run/notes.txt", "it works")?;
//! assert_eq!(storage.get_blocking("run/notes.txt", 1 << 20)?, "it works");
//!
//! // What a user may write where files are wanted: a file, a directory, a pattern.
//! let found = Storage::expand_blocking(&format!("{dir}/run/*.txt"))?;
//! assert_eq!(found.objects[0].name, "notes.txt");
//! # Ok(())
//! # }
//! ```
//!
//! Every verb is async and has a blocking face, which works on any thread, a worker's too. A [`put`](Storage::put)
//! is atomic: readers see the old content or the new, never a part. It is as durable as the store makes it: the
//! local one does not wait for the disk, so whoever must survive a power cut writes a checksum as well,
//! as checkpoints do.

mod blocking;
mod error;
mod expand;
mod location;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use url::Url;

pub use error::StorageError;
pub use expand::Files;

use crate::Result;
use blocking::Blocking;
use location::Location;

/// The most entries of one listing.
pub const MAX_LISTED: usize = 1_000_000;

/// A place where files are kept: a directory, or a prefix in a bucket. Cheap to clone.
///
/// The names of objects are relative to it, with `/` between their parts.
#[derive(Debug, Clone)]
pub struct Storage {
    location: Location,
    /// What the user wrote, for errors.
    shown: Arc<str>,
    blocking: Arc<Blocking>,
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, relative to the storage that listed it.
    pub name: String,
    /// Its place in the object store.
    pub path: ObjectPath,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

impl Storage {
    /// The storage at a path or URL. Nothing is read or created; a directory appears with its first file.
    pub fn open(location: &str) -> Result<Self> {
        let resolved = Location::resolve(location)?;
        let shown = if location == "/" { location } else { location.trim_end_matches('/') };
        Ok(Self { location: resolved, shown: shown.into(), blocking: Arc::default() })
    }

    /// The storage below this one. Both share their connections.
    pub fn join(&self, name: &str) -> Result<Self> {
        let mut below = self.clone();
        below.location.root = self.path(name)?;
        below.location.local = self.local_path(name);
        below.shown = self.show(name).into();
        Ok(below)
    }

    /// The object store behind it, for engines that read by themselves; with [`path`](Self::path) and
    /// [`base_url`](Self::base_url).
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.location.store)
    }

    /// The URL of the object store's root: `file:///`, `s3://bucket/`.
    pub fn base_url(&self) -> &Url {
        &self.location.base
    }

    /// Where an object is in the object store; an empty name is the storage itself.
    pub fn path(&self, name: &str) -> Result<ObjectPath> {
        if name.is_empty() {
            return Ok(self.location.root.clone());
        }
        let bad = |reason: String| StorageError::BadName {
            location: self.shown.to_string(),
            name: name.into(),
            reason,
        };
        if name.starts_with('/') {
            return Err(bad("it is absolute".into()).into());
        }
        let below = ObjectPath::parse(name).map_err(|error| bad(error.to_string()))?;
        Ok(self.location.root.parts().chain(below.parts()).collect())
    }

    /// The same place as a path, for storages in the local file system.
    pub fn local_path(&self, name: &str) -> Option<PathBuf> {
        let root = self.location.local.as_deref()?;
        Some(if name.is_empty() { root.to_owned() } else { root.join(name) })
    }

    /// Writes an object, at once and whole; what was there is replaced.
    pub async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.put_with(name, bytes.into(), PutMode::Overwrite).await
    }

    /// Writes an object that must not exist yet; of two who try, one gets [`StorageError::AlreadyExists`].
    pub async fn create(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.put_with(name, bytes.into(), PutMode::Create).await
    }

    async fn put_with(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<()> {
        let path = self.path(name)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.location.store.put_opts(&path, bytes.into(), options).await;
        put.map(drop).map_err(|error| self.failed("write", name, error))
    }

    /// Reads an object whole. One of more than `limit_bytes` is refused before it is read.
    pub async fn get(&self, name: &str, limit_bytes: u64) -> Result<Bytes> {
        let path = self.path(name)?;
        let too_large = || StorageError::TooLarge { location: self.show(name), limit_bytes };
        let failed = |error| self.failed("read", name, error);
        let found = self.location.store.get(&path).await.map_err(failed)?;
        if found.meta.size > limit_bytes {
            return Err(too_large().into());
        }
        if let GetResultPayload::File(..) = found.payload {
            return found.bytes().await.map_err(failed);
        }
        // A server may send more than it said.
        let mut bytes = BytesMut::with_capacity(found.meta.size as usize);
        let mut parts = found.into_stream();
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            if (bytes.len() + part.len()) as u64 > limit_bytes {
                return Err(too_large().into());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// The size and CRC-32C of an object, read in pieces.
    pub async fn checksum(&self, name: &str) -> Result<(u64, u32)> {
        let path = self.path(name)?;
        let failed = |error| self.failed("read", name, error);
        let mut parts = self.location.store.get(&path).await.map_err(failed)?.into_stream();
        let (mut size_bytes, mut crc) = (0, 0);
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            size_bytes += part.len() as u64;
            crc = crc32c::crc32c_append(crc, &part);
        }
        Ok((size_bytes, crc))
    }

    /// The size of an object, or `None` where there is none.
    pub async fn size_bytes(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name)?;
        match self.location.store.head(&path).await {
            Ok(_) if self.is_local_dir(name) => Ok(None),
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look at", name, error)),
        }
    }

    /// Whether there is an object of that name.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.size_bytes(name).await?.is_some())
    }

    /// All objects whose name begins with the directory `below` (empty for all), sorted by name. At most
    /// [`MAX_LISTED`].
    pub async fn list(&self, below: &str) -> Result<Vec<Object>> {
        let path = self.path(below)?;
        let mut found = self.location.store.list(Some(&path));
        let mut objects = Vec::new();
        while let Some(meta) = found.next().await {
            let meta = meta.map_err(|error| self.failed("list", below, error))?;
            if objects.len() == MAX_LISTED {
                return Err(StorageError::TooMany { location: self.show(below), limit: MAX_LISTED }.into());
            }
            objects.extend(self.object(meta));
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// The directories directly in this storage, sorted.
    pub async fn list_dirs(&self) -> Result<Vec<String>> {
        let listed = self.location.store.list_with_delimiter(Some(&self.location.root)).await;
        let listed = listed.map_err(|error| self.failed("list", "", error))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Removes an object; one that does not exist is removed already.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match self.location.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("delete", name, error)),
        }
    }

    /// Removes a directory with everything in it.
    pub async fn delete_dir(&self, name: &str) -> Result<()> {
        for object in self.list(name).await? {
            self.delete(&object.name).await?;
        }
        // Only a file system has directories that stay behind.
        if let Some(path) = self.local_path(name).filter(|path| path.is_dir()) {
            std::fs::remove_dir_all(&path).map_err(|source| StorageError::Io {
                verb: "delete",
                location: self.show(name),
                source,
            })?;
        }
        Ok(())
    }

    /// The object a listing shows, unless it is the storage itself.
    fn object(&self, meta: ObjectMeta) -> Option<Object> {
        let name: Vec<_> = meta.location.prefix_match(&self.location.root)?.collect();
        let name: Vec<_> = name.iter().map(AsRef::as_ref).collect();
        let name = Some(name.join("/")).filter(|name| !name.is_empty())?;
        Some(Object { name, path: meta.location, size_bytes: meta.size, modified: meta.last_modified.into() })
    }

    fn is_local_dir(&self, name: &str) -> bool {
        self.local_path(name).is_some_and(|path| path.is_dir())
    }

    fn failed(&self, verb: &'static str, name: &str, error: object_store::Error) -> crate::CoreError {
        let location = self.show(name);
        if verb == "read" && self.is_local_dir(name) {
            return StorageError::IsDirectory { location }.into();
        }
        StorageError::from_store(verb, location, error).into()
    }

    fn show(&self, name: &str) -> String {
        match name {
            "" => self.shown.to_string(),
            name => Path::new(&*self.shown).join(name).display().to_string(),
        }
    }
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.shown)
    }
}
