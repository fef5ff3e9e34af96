//! [`Local`]: the machine's own files, of which what lies in the page cache is copied out of it by whoever asks.
//!
//! `object_store` reads each range on a thread of its own, into memory that it clears first. What is in the page cache takes less time to copy than
//! to hand over: the memory that one thread has written and another frees comes back to neither soon, and a scan of Parquet took an eighth longer and
//! twice the memory for it. What has to come from a disk is left to those threads, so that decoding goes on meanwhile.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path as FilePath;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Files of this machine.
#[derive(Debug)]
pub(super) struct Local {
    inner: LocalFileSystem,
}

impl Local {
    pub(super) fn new() -> Self {
        Self { inner: LocalFileSystem::new() }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match cached(&self.inner.path_to_filesystem(location)?, ranges) {
            Some(bytes) => Ok(bytes),
            // It waits for the disk, or says what is wrong.
            None => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// The bytes of some ranges of a file, where they are in the page cache as far as a look at both ends of each tells.
fn cached(path: &FilePath, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let at_hand = |range: &Range<u64>| {
        range.start < range.end
            && range.end <= length
            && is_cached(&file, range.start)
            && is_cached(&file, range.end - 1)
    };
    if !ranges.iter().all(at_hand) {
        return None;
    }
    let read = ranges.iter().map(|range| {
        let wanted = range.end - range.start;
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).ok()?);
        file.seek(SeekFrom::Start(range.start)).ok()?;
        // Into room that nothing has been written to yet.
        let read = (&file).take(wanted).read_to_end(&mut bytes).ok()?;
        (read as u64 == wanted).then(|| bytes.into())
    });
    read.collect()
}

/// Whether a byte can be read without waiting for a disk.
#[cfg(target_os = "linux")]
fn is_cached(file: &File, at: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};

    let mut byte = [0];
    preadv2(file, &mut [std::io::IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[cfg(not(target_os = "linux"))]
fn is_cached(_: &File, _: u64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn ranges_are_read_as_they_are_asked_for_and_past_the_end_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(file.path(), &content).unwrap();
        let (store, path) = (Local::new(), Path::from_filesystem_path(file.path()).unwrap());
        let ranges = [300_000..400_000, 0..3, 399_999..400_000];
        let check = |read: &[Bytes]| {
            let expected = ranges.iter().map(|range| &content[range.start as usize..range.end as usize]);
            assert!(read.iter().map(|bytes| &bytes[..]).eq(expected));
        };
        check(&store.get_ranges(&path, &ranges).await.unwrap());
        // What has just been written is in the page cache, unless the file system does not tell.
        if let Some(read) = cached(file.path(), &ranges) {
            check(&read);
        }
        // As the store below says it.
        for beyond in [399_999..400_001, 400_000..400_001, 500_000..500_001] {
            let ranges = [0..10, beyond];
            let ours = store.get_ranges(&path, &ranges).await.unwrap_err();
            let theirs = store.inner.get_ranges(&path, &ranges).await.unwrap_err();
            assert_eq!(ours.to_string(), theirs.to_string());
        }
        drop(file);
        let missing = store.get_ranges(&path, &ranges).await.unwrap_err();
        assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing}");
    }
}
