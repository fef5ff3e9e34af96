//! [`Remote`]: a store whose requests run on the I/O threads, so that a busy computation does not starve its connections.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::session::AbortOnDrop;

/// Chunks of a download that may wait for their reader.
const CHUNKS_AHEAD: usize = 4;

/// The wait before a listing that broke off goes on; twice as long each time in a row, up to the other one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Remote {
    inner: Arc<dyn ObjectStore>,
    io: Handle,
    /// How often in a row a listing goes on after it broke off.
    tries: usize,
}

impl Remote {
    pub(super) fn new(inner: Box<dyn ObjectStore>, io: Handle, tries: usize) -> Self {
        Self { inner: inner.into(), io, tries }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let mut task = AbortOnDrop(self.io.spawn(work));
        async move { (&mut task.0).await.unwrap_or_else(|error| Err(Error::JoinError { source: error })) }
    }

    fn forward<T: Send + 'static>(
        &self,
        mut stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let task = AbortOnDrop(self.io.spawn(async move {
            while let Some(item) = stream.next().await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        }));
        let state = (receiver, task);
        futures::stream::unfold(state, |(mut receiver, task)| async move {
            receiver.recv().await.map(|item| (item, (receiver, task)))
        })
        .boxed()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (inner, location) = (self.inner.clone(), location.clone());
        self.run(async move { inner.put_opts(&location, payload, opts).await }).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (inner, location, io) = (self.inner.clone(), location.clone(), self.io.clone());
        let (begun, upload) = oneshot::channel();
        self.io.spawn(async move {
            let upload = inner.put_multipart_opts(&location, opts).await;
            // Who asked may have gone: then it is dropped here, and taken back.
            let _ = begun.send(upload.map(|upload| Upload { inner: Some(upload), io, ended: false }));
        });
        Ok(Box::new(upload.await.map_err(|_| cut_off())??))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, location) = (self.inner.clone(), location.clone());
        let mut result = self.run(async move { inner.get_opts(&location, options).await }).await?;
        if let GetResultPayload::Stream(stream) = result.payload {
            result.payload = GetResultPayload::Stream(self.forward(stream));
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (inner, location, ranges) = (self.inner.clone(), location.clone(), ranges.to_vec());
        self.run(async move { inner.get_ranges(&location, &ranges).await }).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.forward(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.forward(Listing::new(self.inner.clone(), prefix.cloned(), self.tries).stream())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        self.run(async move { inner.list_with_delimiter(prefix.as_ref()).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (inner, from, to) = (self.inner.clone(), from.clone(), to.clone());
        self.run(async move { inner.copy_opts(&from, &to, options).await }).await
    }
}

/// The names below a prefix, in their order. Where an answer broke off it goes on behind the last name: the clients of stores try requests
/// again, but not the reading of their answers.
struct Listing {
    store: Arc<dyn ObjectStore>,
    prefix: Option<Path>,
    answers: BoxStream<'static, Result<ObjectMeta>>,
    last: Option<Path>,
    tries: usize,
    tried: usize,
}

impl Listing {
    fn new(store: Arc<dyn ObjectStore>, prefix: Option<Path>, tries: usize) -> Self {
        let answers = store.list(prefix.as_ref());
        Self { store, prefix, answers, last: None, tries, tried: 0 }
    }

    fn stream(self) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::unfold(self, |mut listing| async move {
            let item = listing.next().await?;
            Some((item, listing))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<ObjectMeta>> {
        loop {
            match self.answers.next().await? {
                Ok(meta) => {
                    self.last = Some(meta.location.clone());
                    self.tried = 0;
                    return Some(Ok(meta));
                }
                Err(error) if self.tried < self.tries && broke_off(&error) => {
                    tokio::time::sleep((FIRST_WAIT * (1 << self.tried.min(16))).min(LONGEST_WAIT)).await;
                    self.tried += 1;
                    self.answers = match &self.last {
                        Some(last) => self.store.list_with_offset(self.prefix.as_ref(), last),
                        None => self.store.list(self.prefix.as_ref()),
                    };
                }
                error => return Some(error),
            }
        }
    }
}

/// Whether an answer was cut off, of which only the text tells.
fn broke_off(error: &Error) -> bool {
    matches!(error, Error::Generic { .. }) && error.to_string().contains("list response body")
}

/// An upload whose parts are sent on the I/O threads. One that is dropped before its end is taken back.
#[derive(Debug)]
struct Upload {
    inner: Option<Box<dyn MultipartUpload>>,
    io: Handle,
    ended: bool,
}

impl Upload {
    /// Runs one of the upload's own verbs on the I/O threads. An upload whose verb was cut off cannot be used again.
    async fn run<T: Send + 'static>(
        &mut self,
        verb: impl FnOnce(&mut Box<dyn MultipartUpload>) -> BoxFuture<'_, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut upload = self.inner.take().ok_or_else(cut_off)?;
        let task = self.io.spawn(async move {
            let result = verb(&mut upload).await;
            (upload, result)
        });
        let (upload, result) = task.await.map_err(|error| Error::JoinError { source: error })?;
        self.inner = Some(upload);
        result
    }
}

fn cut_off() -> Error {
    Error::NotImplemented {
        operation: "going on with an upload that was cut off".to_owned(),
        implementer: "air-data".to_owned(),
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        let Some(upload) = &mut self.inner else { return futures::future::ready(Err(cut_off())).boxed() };
        let part = upload.put_part(data);
        let io = self.io.clone();
        async move {
            let mut task = AbortOnDrop(io.spawn(part));
            (&mut task.0).await.unwrap_or_else(|error| Err(Error::JoinError { source: error }))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.run(|upload| upload.complete()).await;
        self.ended = result.is_ok();
        result
    }

    async fn abort(&mut self) -> Result<()> {
        self.ended = true;
        self.run(|upload| upload.abort()).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.inner.take().filter(|_| !self.ended) {
            // Its parts would lie in the store, unseen and paid for.
            self.io.spawn(async move { upload.abort().await });
        }
    }
}
