//! The bytes of a file: [`FileBytes`] to ask for, [`Window`] to go through from the beginning to the end.

use std::ops::Range;
use std::sync::Arc;

use air_core::BoxError;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Compression, Spoilt};

/// Bytes asked for at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// Of a file that is only looked into.
const LOOK_CHUNK_BYTES: u64 = 256 << 10;

/// Chunks under way at once.
const AHEAD: usize = 2;

/// A file of a store.
#[derive(Debug, Clone)]
pub(crate) struct FileBytes {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    /// Whether the store unpacks it, so that nobody knows its size and it can only be gone through.
    packed: bool,
}

impl FileBytes {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, meta: ObjectMeta) -> Self {
        Self { store, meta, packed: false }
    }

    /// Of a store that unpacks what is compressed so.
    pub(crate) fn unpacked(store: Arc<dyn ObjectStore>, meta: ObjectMeta, compression: Compression) -> Self {
        let packed = compression.of(meta.location.as_ref()).is_some();
        Self { store, meta, packed }
    }

    /// In the store.
    pub(crate) fn size(&self) -> u64 {
        self.meta.size
    }

    /// The first bytes, or as many as there are.
    pub(crate) async fn start(&self, bytes: u64) -> Result<Bytes, BoxError> {
        self.range(0..if self.packed { bytes } else { bytes.min(self.size()) }).await
    }

    pub(crate) async fn whole(&self) -> Result<Bytes, BoxError> {
        self.range(0..self.size()).await
    }

    /// These bytes, which the file must have.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes, BoxError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if self.packed {
            return self.store.get_range(&self.meta.location, range).await.map_err(Spoilt::or);
        }
        // As several, which a store of local files copies out of the page cache right here.
        let mut bytes = self.store.get_ranges(&self.meta.location, &[range]).await?;
        bytes.pop().ok_or_else(|| "the store gave no bytes for a range".into())
    }

    /// All bytes, in chunks that are read ahead. A store's own stream of a local file comes in pieces of 8 KiB, each a task of its own.
    pub(crate) fn chunks(&self) -> BoxStream<'static, Result<Bytes, BoxError>> {
        self.chunks_from(0, CHUNK_BYTES, AHEAD)
    }

    /// All bytes from here on, as [`chunks`](Self::chunks).
    pub(super) fn chunks_after(&self, from: u64) -> BoxStream<'static, Result<Bytes, BoxError>> {
        self.chunks_from(from, CHUNK_BYTES, AHEAD)
    }

    fn chunks_from(&self, from: u64, each: u64, ahead: usize) -> BoxStream<'static, Result<Bytes, BoxError>> {
        if self.packed {
            let (store, location) = (self.store.clone(), self.meta.location.clone());
            let options = GetOptions { range: Some(GetRange::Offset(from)), ..GetOptions::default() };
            let opened = async move { Ok(store.get_opts(&location, options).await?.into_stream()) };
            return opened.try_flatten_stream().map_err(Spoilt::or).boxed();
        }
        let (file, size) = (self.clone(), self.size());
        let count = size.saturating_sub(from).div_ceil(each);
        let chunks = futures::stream::iter(0..count).map(move |index| {
            let (file, start) = (file.clone(), from + index * each);
            async move { file.range(start..(start + each).min(size)).await }
        });
        chunks.buffered(ahead).boxed()
    }

    /// All bytes, in chunks for a look at the beginning.
    pub(crate) fn looked(&self) -> BoxStream<'static, Result<Bytes, BoxError>> {
        self.chunks_from(0, LOOK_CHUNK_BYTES, 1)
    }

    pub(crate) fn window(self) -> Window {
        Window::new(self, CHUNK_BYTES, AHEAD)
    }

    /// For a look at the beginning.
    pub(crate) fn peephole(self) -> Window {
        Window::new(self, LOOK_CHUNK_BYTES, 1)
    }
}

/// Goes through the bytes of a file. What lies in one chunk is not copied.
pub(crate) struct Window {
    file: FileBytes,
    each: u64,
    ahead: usize,
    chunks: BoxStream<'static, Result<Bytes, BoxError>>,
    chunk: Bytes,
    /// Where in the file the next byte is.
    at: u64,
}

impl Window {
    fn new(file: FileBytes, each: u64, ahead: usize) -> Self {
        let chunks = file.chunks_from(0, each, ahead);
        Self { file, each, ahead, chunks, chunk: Bytes::new(), at: 0 }
    }

    /// Where in the file the next byte is.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes until the end of the file.
    pub(crate) fn left(&self) -> u64 {
        self.file.size() - self.at
    }

    /// The next bytes, which must be no more than are [`left`](Self::left).
    pub(crate) async fn take(&mut self, bytes: usize) -> Result<Bytes, BoxError> {
        if self.chunk.len() < bytes {
            return self.gather(bytes).await;
        }
        self.at += bytes as u64;
        Ok(self.chunk.split_to(bytes))
    }

    async fn gather(&mut self, bytes: usize) -> Result<Bytes, BoxError> {
        // No more than the file has: a length that is a lie takes no memory.
        if bytes as u64 > self.left() {
            return Err(format!("the file ends after {} of {bytes} bytes", self.left()).into());
        }
        let mut gathered = BytesMut::with_capacity(bytes);
        while gathered.len() < bytes {
            if self.chunk.is_empty() {
                self.chunk = self.next_chunk().await?;
            }
            let piece = self.chunk.split_to(self.chunk.len().min(bytes - gathered.len()));
            self.at += piece.len() as u64;
            if gathered.is_empty() && piece.len() == bytes {
                return Ok(piece);
            }
            gathered.extend_from_slice(&piece);
        }
        Ok(gathered.freeze())
    }

    async fn next_chunk(&mut self) -> Result<Bytes, BoxError> {
        match self.chunks.try_next().await? {
            Some(chunk) if !chunk.is_empty() => Ok(chunk),
            _ => Err(format!("the file has become shorter than {} bytes", self.file.size()).into()),
        }
    }

    /// Passes over bytes, which must be no more than are left; those that are far are not read.
    pub(crate) async fn skip(&mut self, bytes: u64) -> Result<(), BoxError> {
        if bytes > self.left() {
            return Err(format!("the file ends after {} of {bytes} bytes", self.left()).into());
        }
        let here = bytes.min(self.chunk.len() as u64);
        let _ = self.chunk.split_to(here as usize);
        self.at += here;
        let mut beyond = bytes - here;
        if beyond > self.each * self.ahead as u64 {
            self.at += beyond;
            self.chunks = self.file.chunks_from(self.at, self.each, self.ahead);
            return Ok(());
        }
        while beyond > 0 {
            self.chunk = self.next_chunk().await?;
            let here = beyond.min(self.chunk.len() as u64);
            let _ = self.chunk.split_to(here as usize);
            self.at += here;
            beyond -= here;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    /// A file in memory.
    pub(crate) fn file(content: &[u8]) -> FileBytes {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("file");
        futures::executor::block_on(store.put(&path, Bytes::copy_from_slice(content).into())).unwrap();
        let meta = futures::executor::block_on(store.head(&path)).unwrap();
        FileBytes::new(store, meta)
    }

    #[test]
    fn bytes_come_in_any_pieces_and_none_is_skipped_twice() {
        let content: Vec<u8> = (0..100_000_u32).map(|x| (x / 3) as u8).collect();
        for (each, ahead) in [(1, 1), (7, 2), (1000, 3), (200_000, 1)] {
            let mut window = Window::new(file(&content[..5000]), each, ahead);
            let mut at = 0;
            for (step, take) in
                [(3, true), (40, false), (1, true), (0, true), (2900, true), (1900, false), (156, true)]
            {
                if take {
                    let taken = futures::executor::block_on(window.take(step)).unwrap();
                    assert_eq!(taken, content[at..at + step], "{step} bytes at {at} in chunks of {each}");
                } else {
                    futures::executor::block_on(window.skip(step as u64)).unwrap();
                }
                at += step;
                assert_eq!((window.at(), window.left()), (at as u64, 5000 - at as u64));
            }
            let error = futures::executor::block_on(window.take(1)).unwrap_err().to_string();
            assert_eq!(error, "the file ends after 0 of 1 bytes");
        }
    }
}
