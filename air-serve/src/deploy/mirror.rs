//! Shadow traffic: a share of a deployment's requests goes to another one as well, whose answers nobody sees.
//!
//! A copy is told to a worker of the mirror's own, whose mailbox is bounded; when that is full, or the worker is busy with as many as it may be, the
//! copy is dropped, and counted. So all that the main path ever does is to copy an input and to put it down.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use air_core::{BoxError, CoreError, Cx, HandleAsync, Mailbox, Message, RuntimeHandle, Spec, Worker};
use bytes::Bytes;
use futures::future::BoxFuture;

use super::Spare;
use super::dependency::Line as _;
use super::handle::DeploymentHandle;
use super::rollout::takes_turn;
use crate::ensemble::JsonLine;
use crate::error::{CallError, ServeError};
use crate::metrics::{Metrics, MirrorMetrics};

/// Copies that wait, and that are under way.
const MOST: usize = 64;

type CallIt<I> = Arc<dyn Fn(I) -> BoxFuture<'static, Result<(), CallError>> + Send + Sync>;

/// Where copies are to go.
pub(crate) struct MirrorTo<I> {
    to: Arc<str>,
    share: f64,
    copy: Spare<I>,
    call: CallIt<I>,
}

impl<I: Clone + Send + 'static> MirrorTo<I> {
    pub(super) fn new<O: Send + 'static>(to: &DeploymentHandle<I, O>, share: f64) -> Self {
        let (name, handle) = (to.name().into(), to.clone());
        let call = move |input| -> BoxFuture<'static, _> {
            let call = handle.call(input);
            Box::pin(async move { call.await.map(drop) })
        };
        MirrorTo { to: name, share, copy: I::clone, call: Arc::new(call) }
    }
}

impl MirrorTo<Bytes> {
    /// By bodies of requests, which a line leads to as JSON.
    pub(crate) fn by_json(to: &Arc<JsonLine>, share: f64) -> Self {
        let line = Arc::clone(to);
        let call = move |body: Bytes| -> BoxFuture<'static, _> {
            let body: &[u8] = if body.is_empty() { b"null" } else { &body };
            match serde_json::from_slice(body) {
                Ok(value) => {
                    let call = line.call(value);
                    Box::pin(async move { call.await.map(drop) })
                }
                Err(error) => Box::pin(std::future::ready(Err(CallError::Invalid {
                    expected: "JSON".into(),
                    got: error.to_string(),
                }))),
            }
        };
        MirrorTo { to: Arc::clone(to.name()), share, copy: Bytes::clone, call: Arc::new(call) }
    }
}

impl<I: Send + 'static> MirrorTo<I> {
    pub(super) fn validate(&self, deployment: &Arc<str>) -> Result<(), ServeError> {
        if self.share > 0.0 && self.share <= 1.0 {
            return Ok(());
        }
        let reason =
            format!("the share that is mirrored is {}, it must be above 0 and at most 1", self.share);
        Err(ServeError::Refused { deployment: Arc::clone(deployment), reason })
    }

    pub(crate) fn start(
        self,
        from: &str,
        runtime: &RuntimeHandle,
        metrics: &Metrics,
    ) -> Result<Box<dyn Offer<I>>, CoreError> {
        let metrics = Arc::new(metrics.mirror(from, &self.to)?);
        let (call, counted) = (self.call, Arc::clone(&metrics));
        let build = move |_: &mut Cx<Shadow<I>>| -> Result<Shadow<I>, BoxError> {
            Ok(Shadow { call: Arc::clone(&call), metrics: Arc::clone(&counted) })
        };
        let spec = Spec::new(format!("serve/{from}/mirror")).capacity(MOST).max_concurrency(MOST);
        let shadow = runtime.spawn(spec, build)?;
        Ok(Box::new(Mirror { share: self.share, copy: self.copy, turn: AtomicU64::new(0), shadow, metrics }))
    }
}

/// What requests are offered to.
pub(crate) trait Offer<I>: Send + Sync {
    /// Copies a request, if it is its turn.
    fn offer(&self, input: &I);
}

/// What copies a share of the requests.
struct Mirror<I: Send + 'static> {
    share: f64,
    copy: Spare<I>,
    turn: AtomicU64,
    shadow: Mailbox<Shadow<I>>,
    metrics: Arc<MirrorMetrics>,
}

impl<I: Send + 'static> Offer<I> for Mirror<I> {
    fn offer(&self, input: &I) {
        if !takes_turn(self.turn.fetch_add(1, Ordering::Relaxed), self.share) {
            return;
        }
        let copied = catch_unwind(AssertUnwindSafe(|| (self.copy)(input)));
        let told = copied.is_ok_and(|copy| self.shadow.try_tell(Copied(copy)).is_ok());
        if !told {
            self.metrics.dropped.inc();
        }
    }
}

impl<I: Send + 'static> Drop for Mirror<I> {
    fn drop(&mut self) {
        self.shadow.stop();
    }
}

/// The worker that calls the other deployment.
struct Shadow<I> {
    call: CallIt<I>,
    metrics: Arc<MirrorMetrics>,
}

struct Copied<I>(I);

impl<I: Send + 'static> Message for Copied<I> {
    type Reply = ();
}

impl<I: Send + 'static> Worker for Shadow<I> {}

impl<I: Send + 'static> HandleAsync<Copied<I>> for Shadow<I> {
    fn handle_async(
        &mut self,
        Copied(input): Copied<I>,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + 'static {
        let (call, metrics) = (Arc::clone(&self.call), Arc::clone(&self.metrics));
        async move {
            let start = Instant::now();
            let answer = call(input).await;
            metrics.seconds.observe_duration(start.elapsed());
            match answer {
                Ok(()) => metrics.ok.inc(),
                Err(error) => {
                    metrics.failed.inc();
                    tracing::debug!(%error, "a mirrored request failed");
                }
            }
            Ok(())
        }
    }
}
