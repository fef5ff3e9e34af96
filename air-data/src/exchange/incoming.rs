//! A stream of a session, to be taken from any thread.

use std::future::Future;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::lane::{Sender, lane};
use crate::error::Result;
use crate::memory::{Account, Watch};
use crate::session::{AbortOnDrop, Session, blocking};

/// What a session makes, one item after the other, ahead of who takes it.
pub(crate) struct Incoming<T> {
    stream: BoxStream<'static, Result<T>>,
    watch: Arc<Watch>,
    session: Session,
}

impl<T: Send + 'static> Incoming<T> {
    /// A stream that others work ahead for: polling it only takes what they have made. `watch` is told of what waits.
    pub(crate) fn of(session: &Session, stream: BoxStream<'static, Result<T>>, watch: Arc<Watch>) -> Self {
        Self { stream, watch, session: session.clone() }
    }

    /// Starts a task that fills a lane of `bytes`; dropping this stops it.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        session: &Session,
        bytes: usize,
        fill: impl FnOnce(Sender<Result<T>>) -> F,
    ) -> Result<Self> {
        let watch: Arc<Watch> = Arc::default();
        let (sender, lane) = lane(Account::open(session.budget(), 0, bytes, Some(watch.clone())));
        let task = AbortOnDrop(session.compute()?.spawn(fill(sender)));
        let stream = futures::stream::unfold((lane, Some(task)), |(mut lane, mut task)| async move {
            if let Some(item) = lane.recv().await {
                return Some((item, (lane, task)));
            }
            // An end without an error may still be a panic.
            let error = (&mut task.take()?.0).await.err()?;
            Some((Err(DataFusionError::ExecutionJoin(Box::new(error)).into()), (lane, None)))
        });
        Ok(Self::of(session, stream.boxed(), watch))
    }

    /// The next item; `None` at the end, after which it must not be asked again.
    pub(crate) fn next_blocking(&mut self) -> Option<Result<T>> {
        let threads = match self.session.compute() {
            Ok(threads) => threads,
            Err(error) => return Some(Err(error)),
        };
        let stream = &mut self.stream;
        blocking(|| {
            // What the stream starts, it starts there.
            let _there = threads.enter();
            air_core::block_on(stream.next())
        })
    }

    /// Bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.watch.bytes().0
    }
}

impl<T> std::fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("queued", &self.watch.bytes().0).finish_non_exhaustive()
    }
}
