//! The blocking faces of [`Storage`], and what runs them: no global runtime (A7).

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use bytes::Bytes;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Object, Storage, StorageError};
use crate::Result;

impl Storage {
    /// [`put`](Self::put) for callers that are not async.
    pub fn put_blocking(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        self.wait(self.put(name, bytes))
    }

    /// [`create`](Self::create) for callers that are not async.
    pub fn create_blocking(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        self.wait(self.create(name, bytes))
    }

    /// [`get`](Self::get) for callers that are not async.
    pub fn get_blocking(&self, name: &str, limit_bytes: u64) -> Result<Bytes> {
        self.wait(self.get(name, limit_bytes))
    }

    /// [`checksum`](Self::checksum) for callers that are not async.
    pub fn checksum_blocking(&self, name: &str) -> Result<(u64, u32)> {
        self.wait(self.checksum(name))
    }

    /// [`size_bytes`](Self::size_bytes) for callers that are not async.
    pub fn size_bytes_blocking(&self, name: &str) -> Result<Option<u64>> {
        self.wait(self.size_bytes(name))
    }

    /// [`exists`](Self::exists) for callers that are not async.
    pub fn exists_blocking(&self, name: &str) -> Result<bool> {
        self.wait(self.exists(name))
    }

    /// [`list`](Self::list) for callers that are not async.
    pub fn list_blocking(&self, below: &str) -> Result<Vec<Object>> {
        self.wait(self.list(below))
    }

    /// [`list_dirs`](Self::list_dirs) for callers that are not async.
    pub fn list_dirs_blocking(&self) -> Result<Vec<String>> {
        self.wait(self.list_dirs())
    }

    /// [`delete`](Self::delete) for callers that are not async.
    pub fn delete_blocking(&self, name: &str) -> Result<()> {
        self.wait(self.delete(name))
    }

    /// [`delete_dir`](Self::delete_dir) for callers that are not async.
    pub fn delete_dir_blocking(&self, name: &str) -> Result<()> {
        self.wait(self.delete_dir(name))
    }

    pub(super) fn wait<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let done = self.blocking.run(self.location.is_remote(), work);
        done.map_err(|source| StorageError::Io { verb: "reach", location: self.shown.to_string(), source })?
    }
}

/// Runs futures to their end on the calling thread.
///
/// The local store needs no runtime at all. The remote ones need a timer and sockets: for them a single-threaded
/// runtime is made at the first call and kept, so that connections are reused.
#[derive(Debug, Default)]
pub(super) struct Blocking {
    runtime: OnceLock<Runtime>,
}

impl Blocking {
    pub(super) fn run<F>(&self, remote: bool, future: F) -> io::Result<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        if !remote {
            return Ok(crate::actor::block_on(future));
        }
        let runtime = self.runtime()?;
        if Handle::try_current().is_err() {
            return Ok(runtime.block_on(future));
        }
        // A worker's thread is inside a runtime of its own, where another may not block: step out of it.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("air-storage".into())
                .spawn_scoped(scope, || runtime.block_on(future))?;
            thread.join().map_err(|_| io::Error::other("the store's client panicked"))
        })
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = Builder::new_current_thread().enable_all().build()?;
        if let Err(second) = self.runtime.set(made) {
            // Another thread was first.
            second.shutdown_background();
        }
        self.runtime.get().ok_or_else(|| io::Error::other("no runtime"))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Unlike a plain drop, this may happen inside of another runtime.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    async fn needs_a_timer() -> u32 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        7
    }

    #[test]
    fn a_remote_future_runs_outside_and_inside_of_a_runtime() {
        let blocking = Blocking::default();
        assert_eq!(blocking.run(true, needs_a_timer()).unwrap(), 7);
        let around = Builder::new_current_thread().build().unwrap();
        around.block_on(async {
            assert_eq!(blocking.run(true, needs_a_timer()).unwrap(), 7);
            assert_eq!(blocking.run(false, async { 8 }).unwrap(), 8);
            drop(blocking);
        });
    }
}
