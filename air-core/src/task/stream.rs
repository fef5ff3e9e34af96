//! [`TaskStream`]: a task that sends results while it runs.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::mpsc;

use super::args::Args;
use super::node::{Plan, start};
use super::pool::Shared;
use crate::object::{Object, ObjectError, ObjectFuture};
use crate::{BoxError, block_on};

/// Where a streaming task sends its results. Its own clones may send too.
pub struct Out<T>(mpsc::Sender<T>);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("room", &self.0.capacity()).finish_non_exhaustive()
    }
}

/// The receiver of a streaming task's results is gone, so the task may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives what the task sends")]
pub struct Unheard;

impl<T> Out<T> {
    /// Sends one result; waits while there is no room, and other tasks go on meanwhile.
    ///
    /// # Errors
    /// [`Unheard`] once the stream was dropped. Returning it ends the task, as is right.
    pub fn send(&self, item: T) -> Result<(), Unheard> {
        match self.0.try_send(item) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unheard),
            Err(mpsc::error::TrySendError::Full(item)) => block_on(self.0.send(item)).map_err(|_| Unheard),
        }
    }
}

/// The results of a streaming task, in the order in which it sends them: an async stream, or a blocking loop (`for result in
/// stream`). If the task fails, its error comes last. Dropping the stream cancels the task.
pub struct TaskStream<T> {
    items: mpsc::Receiver<T>,
    task: Object<()>,
    end: Option<ObjectFuture<()>>,
    ended: bool,
}

impl<T> TaskStream<T> {
    /// Ends the task; what it has sent can still be received, then comes [`ObjectError::Cancelled`].
    pub fn cancel(&self) -> bool {
        self.task.cancel()
    }

    /// The next result; blocks the thread until it is there. `None` after the last.
    pub fn recv(&mut self) -> Option<Result<T, ObjectError>> {
        block_on(std::future::poll_fn(|cx| self.poll_item(cx)))
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, ObjectError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(item) = ready!(self.items.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(item)));
        }
        // Every sender is gone, so the task is about to end.
        let end = self.end.get_or_insert_with(|| (&self.task).into_future());
        let end = ready!(Pin::new(end).poll(cx));
        self.ended = true;
        Poll::Ready(end.err().map(Err))
    }
}

impl<T> Stream for TaskStream<T> {
    type Item = Result<T, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

/// Blocks the thread for each result.
impl<T> IntoIterator for TaskStream<T> {
    type Item = Result<T, ObjectError>;
    type IntoIter = Iter<T>;

    fn into_iter(self) -> Iter<T> {
        Iter(self)
    }
}

/// See [`TaskStream`].
#[derive(Debug)]
pub struct Iter<T>(TaskStream<T>);

impl<T> Iterator for Iter<T> {
    type Item = Result<T, ObjectError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv()
    }
}

impl<T> Drop for TaskStream<T> {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl<T> fmt::Debug for TaskStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStream").field("task", &self.task).finish_non_exhaustive()
    }
}

pub(super) fn start_stream<A: Args, T: Send + 'static>(
    shared: &Arc<Shared>,
    plan: Plan,
    args: A,
    capacity: usize,
    f: impl FnOnce(Out<T>, A::Given) -> Result<(), BoxError> + Send + 'static,
) -> TaskStream<T> {
    let (sender, items) = mpsc::channel(capacity.clamp(1, 1 << 20));
    let mut work = Some((f, Out(sender)));
    let task = start(shared, plan, args, move |given| match work.take() {
        Some((f, out)) => f(out, given),
        None => Err("the task has run already".into()),
    });
    TaskStream { items, task, end: None, ended: false }
}
