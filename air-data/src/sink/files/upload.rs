//! [`Upload`]: a file on its way, in parts; all of them are sent before it is completed, which only gives it its name.

use bytes::Bytes;
use object_store::{MultipartUpload, Result};
use tokio::task::JoinSet;

/// The smallest part that stores take, but for the last.
const PART_BYTES: usize = 5 << 20;

/// Stores take 10 000 parts of a file: after so many, parts are twice as large.
const PARTS_A_SIZE: usize = 2000;

/// Parts of one file that may be on their way to the store at once.
const PARTS_AT_ONCE: usize = 4;

/// A file that is written and not yet visible.
#[derive(Debug)]
pub(super) struct Upload {
    inner: Box<dyn MultipartUpload>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    parts: usize,
    sent: u64,
    under_way: JoinSet<Result<()>>,
}

impl Upload {
    pub(super) fn new(inner: Box<dyn MultipartUpload>) -> Self {
        Self { inner, waiting: Vec::new(), waiting_bytes: 0, parts: 0, sent: 0, under_way: JoinSet::new() }
    }

    /// Bytes that were given to the store.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent
    }

    /// Takes more of the file. It waits while too many parts are under way.
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = part_bytes(self.parts) - self.waiting_bytes;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.waiting_bytes += piece.len();
            self.waiting.push(piece);
            if self.waiting_bytes == part_bytes(self.parts) {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends what is left, and waits until the store has all.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.waiting_bytes > 0 {
            self.send().await?;
        }
        self.wait(0).await
    }

    /// Makes the file visible.
    pub(super) async fn complete(&mut self) -> Result<()> {
        self.inner.complete().await.map(drop)
    }

    /// Takes back what was sent.
    pub(super) async fn abort(mut self) -> Result<()> {
        self.under_way.shutdown().await;
        self.inner.abort().await
    }

    async fn send(&mut self) -> Result<()> {
        self.wait(PARTS_AT_ONCE - 1).await?;
        self.sent += self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        self.parts += 1;
        self.under_way.spawn(self.inner.put_part(std::mem::take(&mut self.waiting).into_iter().collect()));
        Ok(())
    }

    /// Until no more than `at_most` parts are under way.
    async fn wait(&mut self, at_most: usize) -> Result<()> {
        while self.under_way.len() > at_most {
            if let Some(part) = self.under_way.join_next().await {
                part.map_err(|source| object_store::Error::JoinError { source })??;
            }
        }
        Ok(())
    }
}

/// The size of the part after so many.
fn part_bytes(parts: usize) -> usize {
    PART_BYTES << (parts / PARTS_A_SIZE).min(5)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    #[test]
    fn ten_thousand_parts_hold_more_than_a_hundred_gibibytes() {
        let all: u64 = (0..10_000).map(|part| part_bytes(part) as u64).sum();
        assert!(all > 100 << 30, "{all}");
        assert!((0..10_000).all(|part| part_bytes(part) >= PART_BYTES));
    }

    #[test]
    fn all_parts_are_sent_before_the_file_is_there() {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(sent_then_there());
    }

    async fn sent_then_there() {
        let (store, path) = (InMemory::new(), Path::from("file"));
        let mut upload = Upload::new(store.put_multipart(&path).await.unwrap());
        let bytes: Bytes = (0..12 << 20_u32).map(|n| (n % 251) as u8).collect();
        for piece in bytes.chunks(1 << 20) {
            upload.write(bytes.slice_ref(piece)).await.unwrap();
        }
        assert_eq!(upload.sent_bytes(), 10 << 20);
        upload.flush().await.unwrap();
        assert_eq!(upload.sent_bytes(), 12 << 20);
        assert!(store.head(&path).await.is_err());
        upload.complete().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
    }
}
