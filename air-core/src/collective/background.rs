//! [`Pending`]: a call under way in the background, and the thread that makes it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use tokio::sync::oneshot;

use super::error::CollectiveError;
use super::handle::{Aborter, Collective};

/// Calls that wait for their turn.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Collective) + Send>;

/// The background of a rank, which has a thread from the first call on.
pub(super) enum Background {
    /// Not needed so far: the handle the thread will have.
    Idle(Box<Collective>),
    Running {
        queue: Sender<Job>,
        thread: JoinHandle<()>,
    },
    /// This is the background, or it has ended.
    None,
}

/// The result of a call in the background. Dropping it does not take the call back.
///
/// Await it, or [`wait`](Self::wait).
#[must_use = "the values come back through this"]
pub struct Pending<R> {
    result: oneshot::Receiver<Result<R, CollectiveError>>,
    rank: usize,
}

impl<R> Pending<R> {
    pub(super) fn ready(rank: usize, result: Result<R, CollectiveError>) -> Self {
        let (reply, receiver) = oneshot::channel();
        let _ = reply.send(result);
        Self { result: receiver, rank }
    }

    /// Waits for the result.
    pub fn wait(self) -> Result<R, CollectiveError> {
        crate::block_on(self)
    }
}

impl<R> Future for Pending<R> {
    type Output = Result<R, CollectiveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let rank = self.rank;
        // Only a background that could not be had answers nothing.
        let never = move |_| Err(CollectiveError::Lost { rank, reason: "its background has ended".into() });
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or_else(never))
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl Background {
    pub(super) fn new(handle: Option<Box<Collective>>) -> Self {
        handle.map_or(Self::None, Self::Idle)
    }

    pub(super) fn start<R: Send + 'static>(
        &mut self,
        rank: usize,
        aborter: Aborter,
        call: impl FnOnce(&mut Collective) -> Result<R, CollectiveError> + Send + 'static,
    ) -> Pending<R> {
        let (reply, result) = oneshot::channel();
        let on_panic = aborter.clone();
        let job = move |collective: &mut Collective| {
            let result = match collective.failure() {
                Some(cause) => Err(cause),
                None => catch_unwind(AssertUnwindSafe(|| call(collective))).unwrap_or_else(|panic| {
                    let reason = format!("its call in the background panicked: {}", text(panic.as_ref()));
                    on_panic.abort(rank, reason.clone());
                    Err(collective.failure().unwrap_or(CollectiveError::Lost { rank, reason }))
                }),
            };
            // Whoever dropped the other end does not want to know.
            let _ = reply.send(result);
        };
        if let Err(error) = self.wake(rank) {
            aborter.abort(rank, format!("it cannot start a thread: {error}"));
        }
        if let Self::Running { queue, .. } = self {
            // The thread takes jobs until the queue is dropped.
            let _ = queue.send(Box::new(job));
        }
        Pending { result, rank }
    }

    /// Whether calls are made by who starts them, one after another as they would be here.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Starts the thread, if it is not there yet.
    fn wake(&mut self, rank: usize) -> std::io::Result<()> {
        if matches!(self, Self::Running { .. }) {
            return Ok(());
        }
        let Self::Idle(mut handle) = std::mem::replace(self, Self::None) else {
            return Ok(());
        };
        let (queue, jobs) = bounded::<Job>(QUEUE);
        let run = move || jobs.into_iter().for_each(|job| job(&mut handle));
        let thread = thread::Builder::new().name(format!("air-collective-{rank}")).spawn(run)?;
        *self = Self::Running { queue, thread };
        Ok(())
    }

    /// Waits for the thread to end; what waits for its turn is answered.
    pub(super) fn join(&mut self) {
        if let Self::Running { queue, thread } = std::mem::replace(self, Self::None) {
            drop(queue);
            // Jobs catch what panics in them.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Running { .. } => "Running",
            Self::None => "None",
        })
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
