//! What callers hold, and a call under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::context::{self, Terms};
use super::core::Reply;
use super::switch::Switch;
use crate::error::CallError;

/// Calls a deployment from within the process: no socket, no encoding. Clones are cheap. It stays good through updates of the deployment.
///
/// There are handles of what runs ([`Server::handle`](crate::Server::handle)), and for models that call others: of a deployment that does not run yet
/// ([`Deployment::handle`](crate::Deployment::handle)), or of whichever has a name ([`named`](Self::named)). Calls made while a model answers a request
/// are made on behalf of it: none may take longer than is left of its time, they have its id and priority, and when its caller goes they are cancelled.
pub struct DeploymentHandle<I, O> {
    switch: Arc<Switch<I, O>>,
    terms: Terms,
}

impl<I, O> Clone for DeploymentHandle<I, O> {
    fn clone(&self) -> Self {
        DeploymentHandle { switch: Arc::clone(&self.switch), terms: self.terms.clone() }
    }
}

impl<I, O> std::fmt::Debug for DeploymentHandle<I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeploymentHandle")
            .field("deployment", &self.switch.name())
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl<I: Send + 'static, O: Send + 'static> DeploymentHandle<I, O> {
    pub(crate) fn new(switch: Arc<Switch<I, O>>) -> Self {
        DeploymentHandle { switch, terms: Terms::default() }
    }

    /// A handle of the deployment that will have this name and these types, for another one that [uses](crate::Deployment::uses) it. Until that one
    /// is deployed its calls are refused.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        DeploymentHandle::new(Arc::new(Switch::new(name.into())))
    }

    pub(crate) fn switch(&self) -> &Arc<Switch<I, O>> {
        &self.switch
    }

    /// The deployment's name.
    pub fn name(&self) -> &str {
        self.switch.name()
    }

    /// The same handle, whose calls are to be answered within `limit`, or the deployment's `request_timeout_s` if that is shorter. One that would
    /// wait longer is refused at once.
    pub fn within(&self, limit: Duration) -> Self {
        self.on(Terms { limit: Some(limit), ..self.terms.clone() })
    }

    /// The same handle, whose calls have this priority: 1 goes first. It counts where the deployment has
    /// [`priority_levels`](crate::DeploymentConfig::priority_levels); a priority below its last is its last. With 0 calls have that of the request they
    /// are made for, which is where a handle begins.
    pub fn priority(&self, priority: u8) -> Self {
        self.on(Terms { priority, ..self.terms.clone() })
    }

    /// The same handle, whose calls ask for that model of a [multiplexed](crate::Deployment::multiplexed) deployment; its id has at most 128 bytes.
    pub fn multiplexed(&self, model_id: impl Into<Arc<str>>) -> Self {
        self.on(Terms { model: Some(model_id.into()), ..self.terms.clone() })
    }

    fn on(&self, terms: Terms) -> Self {
        DeploymentHandle { switch: Arc::clone(&self.switch), terms }
    }

    /// Starts a call on other terms than the handle's.
    pub(crate) fn call_on(&self, input: I, terms: &Terms) -> Call<O> {
        Call::new(self.switch.submit(input, terms))
    }

    /// Starts a call. Awaiting it gives the answer; dropping it takes the request out of the queue, so that the model never sees it.
    ///
    /// Within a Tokio runtime the time limit is kept to a millisecond; elsewhere only while the request is queued.
    pub fn call(&self, input: I) -> Call<O> {
        Call::new(self.switch.submit(input, &self.terms))
    }

    /// Calls and waits for the answer on this thread, for at most the time limit. A model that waits for others most of the time is better an
    /// [async one](crate::each_async), which does not need a thread for each request.
    pub fn call_blocking(&self, input: I) -> Result<O, CallError> {
        match self.switch.submit(input, &self.terms) {
            Submitted::Done(reply) => reply,
            Submitted::Waiting { receiver, ticket, patience } => wait(receiver, ticket, &patience),
        }
    }
}

/// A deployment that can take a request out of its queue.
pub(crate) trait Cancel: Send + Sync {
    fn cancel(&self, id: u64);
}

/// A place in a queue; dropping it gives the place up.
pub(crate) struct Ticket {
    core: Option<Arc<dyn Cancel>>,
    id: u64,
}

impl Ticket {
    pub(crate) fn new(core: Arc<dyn Cancel>, id: u64) -> Self {
        Ticket { core: Some(core), id }
    }

    /// For a request whose place cannot be given up.
    pub(crate) fn none() -> Self {
        Ticket { core: None, id: 0 }
    }

    /// The request was answered: there is no place to give up.
    fn done(&mut self) {
        self.core = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            core.cancel(self.id);
        }
    }
}

/// What became of a request.
pub(crate) enum Submitted<O> {
    Done(Reply<O>),
    Waiting { receiver: oneshot::Receiver<Reply<O>>, ticket: Ticket, patience: Patience },
}

/// How long a caller waits.
pub(crate) struct Patience {
    pub limit: Duration,
    /// The way that leads from the deployment to itself, if the call was made on it.
    pub circle: Option<Arc<str>>,
}

impl Patience {
    fn over(&self) -> CallError {
        let limit = self.limit;
        match &self.circle {
            Some(path) => CallError::Circular { path: Arc::clone(path), limit },
            None => CallError::Timeout { limit },
        }
    }

    /// The answer as its caller is to see it.
    fn reply<O>(&self, received: Result<Reply<O>, oneshot::error::RecvError>) -> Reply<O> {
        match received {
            Ok(Err(CallError::Timeout { .. })) if self.circle.is_some() => Err(self.over()),
            Ok(reply) => reply,
            Err(_) => Err(lost()),
        }
    }
}

/// A call under way; see [`DeploymentHandle::call`].
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<O> {
    state: State<O>,
}

enum State<O> {
    Done(Option<Reply<O>>),
    Waiting {
        receiver: oneshot::Receiver<Reply<O>>,
        ticket: Ticket,
        patience: Patience,
        timer: Option<Pin<Box<tokio::time::Sleep>>>,
    },
}

impl<O> Call<O> {
    pub(crate) fn new(submitted: Submitted<O>) -> Self {
        Call {
            state: match submitted {
                Submitted::Done(reply) => State::Done(Some(reply)),
                Submitted::Waiting { receiver, ticket, patience } => {
                    let timer = tokio::runtime::Handle::try_current()
                        .ok()
                        .map(|_| Box::pin(tokio::time::sleep(patience.limit)));
                    State::Waiting { receiver, ticket, patience, timer }
                }
            },
        }
    }

    /// The answer, if it was made in place.
    pub(crate) fn ready(&mut self) -> Option<Reply<O>> {
        match &mut self.state {
            State::Done(reply) => reply.take(),
            State::Waiting { .. } => None,
        }
    }
}

impl<O> Unpin for Call<O> {}

impl<O> Future for Call<O> {
    type Output = Result<O, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Done(reply) => match reply.take() {
                Some(reply) => Poll::Ready(reply),
                None => Poll::Pending, // polled again after it was ready
            },
            State::Waiting { receiver, ticket, patience, timer } => {
                let reply = match Pin::new(receiver).poll(cx) {
                    Poll::Ready(received) => patience.reply(received),
                    Poll::Pending => match timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
                        Some(Poll::Ready(())) => Err(patience.over()),
                        _ => return Poll::Pending,
                    },
                };
                if !matches!(reply, Err(CallError::Timeout { .. } | CallError::Circular { .. })) {
                    ticket.done();
                }
                // Dropping the state gives up the place in the queue of a call that ran out of time.
                self.state = State::Done(None);
                Poll::Ready(reply)
            }
        }
    }
}

/// A request that was neither answered nor refused: only a deployment that was torn down loses one.
fn lost() -> CallError {
    CallError::Closed { deployment: "its deployment".into() }
}

/// Wakes a thread.
pub(crate) struct Unpark(Thread);

impl Unpark {
    pub(crate) fn current() -> Self {
        Unpark(std::thread::current())
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<O>(mut receiver: oneshot::Receiver<Reply<O>>, mut ticket: Ticket, patience: &Patience) -> Reply<O> {
    let waker = Waker::from(Arc::new(Unpark::current()));
    let mut cx = Context::from_waker(&waker);
    let until = Instant::now() + patience.limit;
    loop {
        if let Poll::Ready(received) = Pin::new(&mut receiver).poll(&mut cx) {
            ticket.done();
            return patience.reply(received);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(patience.over());
        }
        if context::poll_abandoned(&mut cx).is_ready() {
            return Err(CallError::Cancelled);
        }
        std::thread::park_timeout(left);
    }
}
