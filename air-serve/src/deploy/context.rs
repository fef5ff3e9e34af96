//! What goes along with a request, from the caller of one deployment to the next: how long it may take, its id, its priority, and which
//! deployments it has come through.
//!
//! It is found on the thread that a model is called on, so that no model has to hand it on. Where it lies costs a request that makes no calls
//! of its own next to nothing: a replica's thread points, once in its life, at the replica, whose requests in hand are asked when a call is made.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use air_core::device::Device;
use axum::http::HeaderValue;

use crate::error::CallError;
use crate::http::Trace;

/// More deployments that call each other are a recursion without an end.
const DEEPEST: usize = 32;

/// What a handle says of its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Its own limit of time.
    pub limit: Option<Duration>,
    /// From 1, which goes first; 0 says nothing.
    pub priority: u8,
    /// Which model of a multiplexed deployment.
    pub model: Option<Arc<str>>,
    /// The input was made for the signature of the version it is given to, and may be nothing to one with another.
    pub fitted: bool,
}

/// What goes along with a request beside its input and its times.
#[derive(Debug, Default)]
pub(crate) struct Along {
    pub id: Option<Arc<str>>,
    pub model: Option<Arc<str>>,
    /// The deployment that makes the call.
    pub from: Option<Arc<Hop>>,
    /// The span that those of this request are under.
    pub trace: Option<Trace>,
}

/// A deployment that a request has come through.
#[derive(Debug)]
pub(crate) struct Hop {
    pub deployment: Arc<str>,
    pub before: Option<Arc<Hop>>,
}

impl Hop {
    fn path(this: Option<&Arc<Hop>>) -> Vec<Arc<str>> {
        let hops = std::iter::successors(this, |hop| hop.before.as_ref());
        let mut path: Vec<_> = hops.map(|hop| Arc::clone(&hop.deployment)).collect();
        path.reverse();
        path
    }
}

/// On whose behalf code runs.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The deployment whose code it is.
    pub deployment: Arc<str>,
    /// When its request is due, on the deployment's clock; `MAX` if never.
    pub deadline: Duration,
    pub priority: u8,
    pub along: Option<Arc<Along>>,
    /// The span of the execution.
    pub trace: Option<Trace>,
}

/// A replica whose model may be making calls.
pub(crate) trait Executing: Send + Sync {
    /// On whose behalf; of a batch, of the one that is due last, has the first priority, and was asked first. Nobody's if it has nothing in hand.
    fn caller(&self) -> Option<Caller>;
    /// Whether every caller of what it has in hand has gone; otherwise the waker is told when one goes.
    fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What runs on this thread.
#[derive(Clone)]
pub(crate) enum Here {
    /// An HTTP request is looked at, of this id and trace.
    Request(HeaderValue, Option<Trace>),
    /// A replica's thread.
    Replica(Arc<dyn Executing>),
    /// A request of an async replica.
    Flight(Arc<Caller>),
}

/// An inline call under way on this thread.
#[derive(Clone, Copy)]
struct Inline {
    deadline: Duration,
    priority: u8,
    /// Where the name of its deployment lies.
    deployment: usize,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
    static INLINE: Cell<Option<Inline>> = const { Cell::new(None) };
    /// Whether calls made here are made on somebody's behalf.
    static NESTED: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    static DEVICES: RefCell<Vec<Device>> = const { RefCell::new(Vec::new()) };
}

/// Says which devices the replica has whose thread this is.
pub(crate) fn set_devices(devices: Vec<Device>) {
    DEVICES.set(devices);
}

/// The devices of the replica whose thread this is, of a deployment with `num_gpus`: for the factory of a model, and the model.
pub fn replica_devices() -> Vec<Device> {
    DEVICES.with_borrow(Clone::clone)
}

/// Looks at an HTTP request of this id and trace.
pub(crate) fn with_request<T>(id: &mut HeaderValue, trace: Option<Trace>, look: impl FnOnce() -> T) -> T {
    let own = std::mem::replace(id, HeaderValue::from_static(""));
    let before = HERE.replace(Some(Here::Request(own, trace)));
    let seen = look();
    if let Some(Here::Request(own, _)) = HERE.replace(before) {
        *id = own;
    }
    seen
}

/// Says that this thread is a replica's, for as long as the value lives.
pub(crate) fn enter_replica(replica: Arc<dyn Executing>) -> Restore {
    Restore(HERE.replace(Some(Here::Replica(replica))), NESTED.replace(true))
}

/// Puts back what was there before, also when something panics.
pub(crate) struct Restore(Option<Here>, bool);

impl Drop for Restore {
    fn drop(&mut self) {
        HERE.set(self.0.take());
        NESTED.set(self.1);
    }
}

/// Runs an inline call of a deployment.
pub(crate) fn inline<T>(
    deployment: &Arc<str>,
    deadline: Duration,
    priority: u8,
    call: impl FnOnce() -> T,
) -> T {
    let deployment = Arc::as_ptr(deployment).cast::<u8>() as usize;
    let before = INLINE.replace(Some(Inline { deadline, priority, deployment }));
    let nested = NESTED.replace(true);
    let done = call();
    NESTED.set(nested);
    INLINE.set(before);
    done
}

/// A future whose calls are made on somebody's behalf.
pub(crate) struct OnBehalf<F> {
    here: Option<Here>,
    nested: bool,
    future: F,
}

impl<F> OnBehalf<F> {
    /// Of a request of an async replica.
    pub(crate) fn of_flight(caller: Arc<Caller>, future: F) -> Self {
        OnBehalf { here: Some(Here::Flight(caller)), nested: true, future }
    }

    /// Of an HTTP request.
    pub(crate) fn of_request(id: HeaderValue, trace: Option<Trace>, future: F) -> Self {
        OnBehalf { here: Some(Here::Request(id, trace)), nested: false, future }
    }
}

impl<F: Future + Unpin> Future for OnBehalf<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let OnBehalf { here, nested, future } = &mut *self;
        let _swapped = Swapped::new(here, *nested);
        Pin::new(future).poll(cx)
    }
}

/// What lies here is exchanged, for as long as the value lives.
struct Swapped<'a> {
    here: &'a mut Option<Here>,
    nested: bool,
}

impl<'a> Swapped<'a> {
    fn new(here: &'a mut Option<Here>, nested: bool) -> Self {
        HERE.with_borrow_mut(|there| std::mem::swap(there, here));
        Swapped { here, nested: NESTED.replace(nested) }
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        NESTED.set(self.nested);
        HERE.with_borrow_mut(|there| std::mem::swap(there, self.here));
    }
}

/// What a call that is made here is subject to.
pub(crate) struct Inherited {
    /// What is left of its caller's time.
    pub limit: Duration,
    pub priority: u8,
    /// The way that leads from the deployment called to itself, if it does.
    pub circle: Option<Arc<str>>,
}

/// What a call of that deployment, made here and now, is subject to, if it is made on somebody's behalf.
pub(crate) fn inherit(
    to: &Arc<str>,
    now: impl FnOnce() -> Duration,
    limit: Duration,
    priority: u8,
) -> Result<Option<Inherited>, CallError> {
    if !NESTED.get() {
        return Ok(None);
    }
    let (caller, inline) = (caller(), INLINE.get());
    if caller.is_none() && inline.is_none() {
        return Ok(None);
    }
    let deadline = inline.map_or(Duration::MAX, |inline| inline.deadline);
    let deadline = caller.as_ref().map_or(deadline, |caller| caller.deadline.min(deadline));
    let theirs = inline.map(|inline| inline.priority).or(caller.as_ref().map(|caller| caller.priority));
    let mut path = caller.as_ref().map_or_else(Vec::new, path_of);
    if inline.is_some_and(|inline| inline.deployment == Arc::as_ptr(to).cast::<u8>() as usize) {
        path.push(Arc::clone(to));
    }
    if path.len() >= DEEPEST {
        let path = written(&path[..4.min(path.len())], to);
        return Err(CallError::TooDeep { depth: DEEPEST, path });
    }
    let at = path.iter().position(|deployment| deployment == to);
    let left = limit.min(deadline.saturating_sub(now()));
    Ok(Some(Inherited {
        // A call that may wait for its own caller ends a little before that one does, so that the reason can be told.
        limit: if at.is_some() { left / 10 * 9 } else { left },
        priority: if priority == 0 { theirs.unwrap_or(0) } else { priority },
        circle: at.map(|at| written(&path[at..], to)),
    }))
}

/// What goes along with a request that is queued here.
pub(crate) fn along(model: Option<&Arc<str>>) -> Option<Arc<Along>> {
    let Some(here) = here() else {
        return model.map(|model| Arc::new(Along { model: Some(Arc::clone(model)), ..Along::default() }));
    };
    let (id, trace) = match here {
        Here::Request(id, trace) => (id.to_str().ok().map(Arc::from), trace),
        _ => return nested(model),
    };
    Some(Arc::new(Along { id, model: model.cloned(), from: None, trace }))
}

/// The span that those of a call are under which is made here, in place.
pub(crate) fn trace() -> Option<Trace> {
    match here()? {
        Here::Request(_, trace) => trace,
        _ => caller()?.trace,
    }
}

/// Makes that the span which calls made here are under, for an HTTP request whose model is called in place.
pub(crate) fn set_trace(trace: Option<Trace>) {
    HERE.with_borrow_mut(|here| {
        if let Some(Here::Request(_, of_request)) = here {
            *of_request = trace;
        }
    });
}

/// Cloned, as what is asked next may be anybody's code.
fn here() -> Option<Here> {
    HERE.with_borrow(Clone::clone)
}

fn nested(model: Option<&Arc<str>>) -> Option<Arc<Along>> {
    let Some(Caller { deployment, along, trace, .. }) = caller() else {
        return model.map(|model| Arc::new(Along { model: Some(Arc::clone(model)), ..Along::default() }));
    };
    let before = along.as_ref().and_then(|along| along.from.clone());
    let id = along.as_ref().and_then(|along| along.id.clone());
    let from = Some(Arc::new(Hop { deployment, before }));
    Some(Arc::new(Along { id, model: model.cloned(), from, trace }))
}

fn caller() -> Option<Caller> {
    match here()? {
        Here::Request(..) => None,
        Here::Replica(replica) => replica.caller(),
        Here::Flight(caller) => Some(Caller::clone(&caller)),
    }
}

fn path_of(caller: &Caller) -> Vec<Arc<str>> {
    let mut path = Hop::path(caller.along.as_ref().and_then(|along| along.from.as_ref()));
    path.push(Arc::clone(&caller.deployment));
    path
}

fn written(path: &[Arc<str>], to: &str) -> Arc<str> {
    let mut text = String::new();
    for deployment in path {
        text.push_str(deployment);
        text.push_str(" → ");
    }
    text.push_str(to);
    text.into()
}

/// Which model of a multiplexed deployment the request asks for that this code runs for.
pub(crate) fn model_id() -> Option<Arc<str>> {
    caller()?.along?.model.clone()
}

/// Whether those have gone whom a call made on this thread is made for; otherwise the waker is told when they go.
pub(crate) fn poll_abandoned(cx: &mut Context<'_>) -> Poll<()> {
    if !NESTED.get() {
        return Poll::Pending;
    }
    match here() {
        Some(Here::Replica(replica)) => replica.poll_abandoned(cx),
        _ => Poll::Pending,
    }
}

/// The request that a model's code runs for; see [`RequestContext::current`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestContext {
    /// Its id: of an HTTP request its `x-request-id`.
    pub id: Option<Arc<str>>,
    /// Its priority, from 1, which goes first, if it has one.
    pub priority: Option<u8>,
    /// Which model of a [multiplexed](crate::Deployment::multiplexed) deployment it asks for.
    pub multiplexed_model_id: Option<Arc<str>>,
    /// The deployments it has come through, the one whose code this is last. A model called in place is not among them.
    pub deployments: Vec<Arc<str>>,
    /// The header `traceparent` for requests that the model makes itself, over HTTP say, so that they are in the same trace
    /// ([W3C](https://www.w3.org/TR/trace-context/)). Only where the request is traced, or its caller has decided that it is not.
    pub traceparent: Option<Arc<str>>,
}

impl RequestContext {
    /// The request that this code runs for, on the thread or in the future that a model was called in; of a batch, the first. Empty elsewhere,
    /// in tasks and threads of the model's own for one.
    ///
    /// Calls of [handles](crate::DeploymentHandle) bring it along by themselves.
    pub fn current() -> Self {
        if let Some(Here::Request(id, trace)) = here() {
            let priority = INLINE.get().map(|inline| inline.priority).filter(|priority| *priority > 0);
            let (id, traceparent) =
                (id.to_str().ok().map(Into::into), trace.map(|it| it.traceparent().into()));
            return RequestContext { id, priority, traceparent, ..Self::default() };
        }
        let Some(caller) = caller() else { return Self::default() };
        let along = caller.along.as_deref();
        RequestContext {
            id: along.and_then(|along| along.id.clone()),
            priority: Some(caller.priority).filter(|priority| *priority > 0),
            multiplexed_model_id: along.and_then(|along| along.model.clone()),
            deployments: path_of(&caller),
            traceparent: caller.trace.as_ref().map(|trace| trace.traceparent().into()),
        }
    }
}
