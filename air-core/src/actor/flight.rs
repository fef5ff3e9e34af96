//! Calls in progress: handlers that wait without holding the worker's thread.
//!
//! They are polled on that thread, between messages, so what they share with the worker needs no lock. A call in progress is cut short
//! when its sender goes away and at its sender's deadline, and one that outlasts the worker's stall limit ends the worker, as a blocking one would.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
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
    /// One of them. As a rule there are no others, and it is polled without what it takes to tell them apart.
    first: Option<Flight<W>>,
    /// What wakes the first, made with the first.
    bell: Option<Bell>,
    others: Option<FuturesUnordered<Flight<W>>>,
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
        Self {
            first: None,
            bell: None,
            others: None,
            groups: limits.map(|limit| (0, limit)).collect(),
            full: Full::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.as_ref().is_none_or(FuturesUnordered::is_empty)
    }

    /// Whether one of them may go on.
    pub(super) fn is_due(&self) -> bool {
        let first = self.first.is_some() && self.bell.as_ref().is_none_or(Bell::is_rung);
        first || self.others.as_ref().is_some_and(|others| !others.is_empty())
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
        if self.first.is_some() {
            return self.others.get_or_insert_default().push(Box::pin(flight));
        }
        self.first = Some(Box::pin(flight));
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// The next one that is over.
    pub(super) fn poll_landed(&mut self, task: &mut Context<'_>) -> Poll<Landed<W>> {
        let landed = match (self.poll_first(task), &mut self.others) {
            (Poll::Ready(landed), _) => landed,
            (Poll::Pending, Some(others)) if !others.is_empty() => match others.poll_next_unpin(task) {
                Poll::Ready(Some(landed)) => landed,
                _ => return Poll::Pending,
            },
            _ => return Poll::Pending,
        };
        self.count(landed.group, |flying| flying - 1);
        Poll::Ready(landed)
    }

    fn poll_first(&mut self, task: &mut Context<'_>) -> Poll<Landed<W>> {
        let Some(first) = &mut self.first else { return Poll::Pending };
        let bell = match &mut self.bell {
            Some(bell) if bell.is_for(task.waker()) => bell,
            other => other.insert(Bell::new(task.waker().clone())),
        };
        if !bell.rung() {
            return Poll::Pending;
        }
        let landed = ready!(first.as_mut().poll(&mut Context::from_waker(&bell.waker)));
        self.first = None;
        Poll::Ready(landed)
    }

    fn count(&mut self, group: usize, change: impl FnOnce(usize) -> usize) {
        let (flying, limit) = &mut self.groups[group];
        *flying = change(*flying);
        self.full.set(group, *flying >= *limit);
    }
}

/// A waker that remembers having been woken: the task it wakes has more to do than to look at one future.
struct Bell {
    waker: Waker,
    inner: Arc<Rung>,
}

struct Rung {
    rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// Rung from the start.
    fn new(task: Waker) -> Self {
        let inner = Arc::new(Rung { rung: AtomicBool::new(true), task });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    fn is_for(&self, task: &Waker) -> bool {
        self.inner.task.will_wake(task)
    }

    fn ring(&self) {
        self.inner.rung.store(true, Ordering::Relaxed);
    }

    fn is_rung(&self) -> bool {
        self.inner.rung.load(Ordering::Relaxed)
    }

    /// Whether it has been rung since the last look.
    fn rung(&self) -> bool {
        self.is_rung() && self.inner.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
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
        let mut told = None;
        let left = poll_fn(|task| letter.poll_left(&mut told, task.waker()));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bell_wakes_the_task_once_until_it_is_looked_at() {
        let woken = Arc::new(Woken::default());
        let bell = Bell::new(Waker::from(Arc::clone(&woken)));
        assert!(bell.rung(), "from the start");
        assert!(!bell.rung());
        bell.waker.wake_by_ref();
        bell.waker.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(bell.rung() && !bell.rung());
        bell.waker.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }
}
