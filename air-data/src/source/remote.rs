//! [`Remote`]: a store whose requests run on the I/O threads, so that a busy computation does not starve its connections.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::session::AbortOnDrop;

/// Chunks of a download that may wait for their reader.
const CHUNKS_AHEAD: usize = 4;

#[derive(Debug)]
pub(super) struct Remote {
    inner: Arc<dyn ObjectStore>,
    io: Handle,
}

impl Remote {
    pub(super) fn new(inner: Box<dyn ObjectStore>, io: Handle) -> Self {
        Self { inner: inner.into(), io }
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
        let (inner, location) = (self.inner.clone(), location.clone());
        let upload = self.run(async move { inner.put_multipart_opts(&location, opts).await }).await?;
        Ok(Box::new(Upload { inner: Some(upload), io: self.io.clone() }))
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
        self.forward(self.inner.list(prefix))
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

/// An upload whose parts are sent on the I/O threads.
#[derive(Debug)]
struct Upload {
    inner: Option<Box<dyn MultipartUpload>>,
    io: Handle,
}

impl Upload {
    /// Runs one of the upload's own verbs on the I/O threads. An upload whose verb was cut off cannot be used again.
    async fn run<T: Send + 'static>(
        &mut self,
        verb: impl FnOnce(&mut Box<dyn MultipartUpload>) -> BoxFuture<'_, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut upload = self.inner.take().ok_or(Error::NotImplemented {
            operation: "going on with an upload that was cut off".to_owned(),
            implementer: "air-data".to_owned(),
        })?;
        let task = self.io.spawn(async move {
            let result = verb(&mut upload).await;
            (upload, result)
        });
        let (upload, result) = task.await.map_err(|error| Error::JoinError { source: error })?;
        self.inner = Some(upload);
        result
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        match &mut self.inner {
            Some(upload) => {
                let part = upload.put_part(data);
                let io = self.io.clone();
                async move { io.spawn(part).await }
                    .map_err(|error| Error::JoinError { source: error })
                    .and_then(futures::future::ready)
                    .boxed()
            }
            None => futures::future::ready(Err(Error::NotImplemented {
                operation: "going on with an upload that was cut off".to_owned(),
                implementer: "air-data".to_owned(),
            }))
            .boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.run(|upload| upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.run(|upload| upload.abort()).await
    }
}
