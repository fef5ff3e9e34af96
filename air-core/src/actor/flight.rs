//! Calls in progress: handlers that wait without holding the worker's thread.
//!
//! They are polled on that thread, between messages, so what they share with the worker needs no lock. A call in progress is cut short
//! when its sender goes away and at its sender's deadline, and one that outlasts the worker's stall limit ends the worker, as a blocking one would.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, FutureExt, select};
use futures::stream::{FuturesUnordered, StreamExt};

use super::call::{Call, Ran};
use super::exit::Exit;
use super::message::{Message, Worker};
use super::queue::Full;
use super::shared::Envelope;
use super::spec::Spec;
use crate::BoxError;
use crate::clock::Clock;

/// The calls of one life that are in progress.
pub(super) struct Flights<W: Worker> {
    /// Made when first needed: most workers have none.
    flying: Option<FuturesUnordered<Flight<W>>>,
    /// For each group, how many there are and may be.
    groups: Vec<(usize, usize)>,
    full: Full,
}

type Flight<W> = Pin<Box<dyn Future<Output = Landed<W>>>>;

/// A call that is over. An exit is why the worker ends with it.
pub(super) struct Landed<W: Worker> {
    group: usize,
    pub(super) envelope: Envelope<W>,
    /// When it began, if spans are kept.
    pub(super) began: Option<Duration>,
    pub(super) result: Result<Ran, Exit>,
}

impl<W: Worker> Flights<W> {
    pub(super) fn new(spec: &Spec) -> Self {
        let limits =
            [spec.max_concurrency].into_iter().chain(spec.concurrency_groups.iter().map(|(_, limit)| *limit));
        Self { flying: None, groups: limits.map(|limit| (0, limit)).collect(), full: Full::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flying.as_ref().is_none_or(FuturesUnordered::is_empty)
    }

    /// The groups that have as many as they may.
    pub(super) fn full(&self) -> Full {
        self.full
    }

    pub(super) fn start(
        &mut self,
        group: usize,
        envelope: Envelope<W>,
        began: Option<Duration>,
        flight: impl Future<Output = Result<Ran, Exit>> + 'static,
    ) {
        self.count(group, |flying| flying + 1);
        let flight = async move { Landed { group, result: flight.await, began, envelope } };
        self.flying.get_or_insert_default().push(Box::pin(flight));
    }

    /// The next one that is over.
    pub(super) fn poll_landed(&mut self, task: &mut Context<'_>) -> Poll<Landed<W>> {
        let Some(flying) = self.flying.as_mut().filter(|flying| !flying.is_empty()) else {
            return Poll::Pending;
        };
        match flying.poll_next_unpin(task) {
            Poll::Ready(Some(landed)) => {
                self.count(landed.group, |flying| flying - 1);
                Poll::Ready(landed)
            }
            _ => Poll::Pending,
        }
    }

    fn count(&mut self, group: usize, change: impl FnOnce(usize) -> usize) {
        let (flying, limit) = &mut self.groups[group];
        *flying = change(*flying);
        self.full.set(group, *flying >= *limit);
    }
}

/// Sees a call through to its end.
pub(super) async fn fly<M: Message, How>(
    call: Arc<Call<M, How>>,
    work: impl Future<Output = Result<M::Reply, BoxError>>,
    clock: Clock,
    stall: Option<Duration>,
) -> Result<Ran, Exit> {
    let letter = call.letter();
    let stalled = stall.map(|limit| (clock.now().saturating_add(limit), Some(limit)));
    let expired = letter.asked_by().map(|at| (at, None));
    let limit = [stalled, expired].into_iter().flatten().min();
    // What it holds is dropped here, before the answer is sent.
    let over = {
        // Looked at first, so that nothing more is done for a sender that has gone away.
        let left = poll_fn(|task| letter.poll_left(task.waker()));
        let work = pin!(AssertUnwindSafe(work).catch_unwind());
        let wanted = select(left, work).map(|first| match first {
            Either::Left(_) => None,
            Either::Right((result, _)) => Some(result),
        });
        match limit {
            None => Ok(wanted.await),
            Some((at, stall)) => match select(wanted, pin!(clock.sleep_until(at))).await {
                Either::Left((result, _)) => Ok(result),
                Either::Right(_) => Err(stall),
            },
        }
    };
    match over {
        Ok(Some(Ok(result))) => Ok(letter.answer(result)),
        Ok(Some(Err(panic))) => Err(Exit::panicked(&*panic)),
        Ok(None) => Ok(letter.cut_short()),
        Err(Some(limit)) => Err(Exit::Stalled { limit }),
        Err(None) => Ok(letter.expire()),
    }
}
