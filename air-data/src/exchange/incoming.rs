//! A stream under way on the session's threads, to be taken from any thread.

use std::future::Future;

use datafusion::common::DataFusionError;

use super::lane::{Receiver, Sender, lane};
use crate::error::Result;
use crate::memory::Account;
use crate::session::{AbortOnDrop, Session, blocking};

/// What a task of the session makes, one item after the other, ahead of who takes it.
pub(crate) struct Incoming<T> {
    lane: Receiver<Result<T>>,
    task: Option<AbortOnDrop<()>>,
    /// Its threads do the work.
    _session: Session,
}

impl<T: Send + 'static> Incoming<T> {
    /// Starts a task that fills a lane of `bytes`; dropping this stops it.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        session: &Session,
        bytes: usize,
        fill: impl FnOnce(Sender<Result<T>>) -> F,
    ) -> Result<Self> {
        let (sender, lane) = lane(Account::open(session.budget(), 0, bytes, None));
        let task = session.compute()?.spawn(fill(sender));
        Ok(Self { lane, task: Some(AbortOnDrop(task)), _session: session.clone() })
    }

    /// The next item; `None` at the end.
    pub(crate) fn next_blocking(&mut self) -> Option<Result<T>> {
        if let Some(item) = blocking(|| air_core::block_on(self.lane.recv())) {
            return Some(item);
        }
        let mut task = self.task.take()?;
        // An end without an error may still be a panic.
        let ended = blocking(|| air_core::block_on(&mut task.0));
        ended.err().map(|error| Err(DataFusionError::ExecutionJoin(Box::new(error)).into()))
    }

    /// Bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lane.usage().1
    }
}

impl<T> std::fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("queued", &self.lane.usage()).finish_non_exhaustive()
    }
}
