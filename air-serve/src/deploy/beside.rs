//! What async replicas do: they pull while they wait, so that many requests are under way on one thread.
//!
//! A request is a future on the replica's thread. It ends with its answer, its panic, its deadline, or its caller, whichever comes first, and none
//! of these is anything to the others.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, LocalBoxFuture, select};
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use super::context::{Caller, OnBehalf};
use super::core::{Core, End, Job, Queue};
use super::execute::{failed, panic_text};
use super::slot::{Slot, Work};
use crate::error::CallError;
use crate::model::Start;
use crate::multiplex::{Held, PATIENCE, takes};

/// What wakes async replicas.
#[derive(Default)]
pub(super) struct Bell {
    /// A request was queued: one that has room is to look.
    pub arrived: Notify,
    /// Something else has changed: all are to look.
    pub changed: Notify,
}

/// What an async replica is to do next.
enum Next<I, O> {
    Fly(Vec<Job<I, O>>),
    Reconfigure,
    /// It is to take nothing more and to finish what it has.
    Finish(End),
    /// At once.
    Stop(End),
    Wait,
    /// Or until then.
    WaitUntil(Duration),
}

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    /// Pulls and answers until the replica is to end.
    pub(crate) async fn pull_beside(self: &Arc<Self>, slot: &Arc<Slot<I, O>>, start: Start<I, O>) -> End {
        let mut flights = FuturesUnordered::new();
        let mut numbers = 0u64..;
        let mut end = None;
        loop {
            // Made before the queue is looked at, so that no change is missed in between.
            let (arrived, changed) = (self.bell.arrived.notified(), self.bell.changed.notified());
            let mut look_again = None;
            let room = self.config.max_ongoing_requests.saturating_sub(flights.len());
            match self.take_some(slot, room) {
                Next::Stop(now) => return now,
                _ if end.is_some() => {}
                Next::Finish(then) => end = Some(then),
                Next::Reconfigure => {
                    self.reconfigure(slot);
                    continue;
                }
                Next::Fly(jobs) => {
                    for (number, job) in numbers.by_ref().zip(jobs) {
                        slot.work().add(1);
                        flights.push(self.fly(slot, &start, number, job));
                    }
                    continue;
                }
                Next::Wait => {}
                Next::WaitUntil(at) => look_again = Some(at.saturating_sub(self.now())),
            }
            if flights.is_empty()
                && let Some(end) = end
            {
                return end;
            }
            let takes_more = end.is_none() && room > 0;
            tokio::select! {
                biased;
                Some(()) = flights.next(), if !flights.is_empty() => slot.work().take(1),
                () = arrived, if takes_more => {}
                () = changed => {}
                () = tokio::time::sleep(look_again.unwrap_or_default()), if look_again.is_some() => {}
            }
        }
    }

    fn take_some(&self, slot: &Slot<I, O>, room: usize) -> Next<I, O> {
        if slot.is_given_up() {
            return Next::Stop(End::Left);
        }
        if let Some(reason) = slot.lost() {
            return Next::Finish(End::Lost(reason));
        }
        if slot.configured.load(Ordering::Acquire) != self.user_config_number() {
            return Next::Reconfigure;
        }
        let replicas = self.slots.load().len().max(1);
        let mut queue = self.queue.lock();
        if slot.is_leaving() && !queue.closed {
            return Next::Finish(End::Left);
        }
        let now = self.now();
        let late = Self::expired(&mut queue, now);
        if let Some(held) = slot.held.get() {
            let (jobs, left) = self.take_held(&mut queue, slot, held, now, room);
            let closed = queue.closed;
            self.note_length(&queue);
            drop(queue);
            Self::too_late(late);
            return match left {
                _ if !jobs.is_empty() => Next::Fly(jobs),
                Some(at) if room > 0 => Next::WaitUntil(at),
                None if closed => Next::Finish(End::Left),
                _ => Next::Wait,
            };
        }
        // The others may have room too.
        let share = queue.len().div_ceil(replicas).min(room);
        let mut jobs: Vec<_> = Vec::with_capacity(share);
        while jobs.len() < share {
            match queue.again.pop_front().or_else(|| queue.batcher.pop()) {
                Some(job) => jobs.push(job),
                None => break,
            }
        }
        self.note_length(&queue);
        let (left, closed) = (queue.len(), queue.closed);
        drop(queue);
        Self::too_late(late);
        if left > 0 {
            self.bell.arrived.notify_one();
        }
        if !jobs.is_empty() {
            Next::Fly(jobs)
        } else if closed && left == 0 {
            Next::Finish(End::Left)
        } else {
            Next::Wait
        }
    }

    /// What a replica takes that holds these models; when it is to look again at what it left to others.
    fn take_held(
        &self,
        queue: &mut Queue<I, O>,
        slot: &Slot<I, O>,
        held: &Held,
        now: Duration,
        room: usize,
    ) -> (Vec<Job<I, O>>, Option<Duration>) {
        let here = held.ids();
        let slots = self.slots.load();
        let others = slots.iter().filter(|other| !std::ptr::eq(&raw const ***other, slot));
        let elsewhere: Vec<_> =
            others.filter_map(|other| other.held.get()).flat_map(|held| held.ids()).collect();
        let (jobs, left) = queue.batcher.take_wanted(room, |since, job| {
            let Some(id) = job.along.as_ref().and_then(|along| along.model.as_ref()) else { return true };
            let wanted = takes(here.contains(id), elsewhere.contains(id), now.saturating_sub(since));
            if wanted {
                held.expect(id);
            }
            wanted
        });
        (jobs, left.map(|since| since.saturating_add(PATIENCE)))
    }

    /// Sees a request through to its end. Meanwhile it lies where whoever gives up the replica finds it.
    fn fly(
        self: &Arc<Self>,
        slot: &Arc<Slot<I, O>>,
        start: &Start<I, O>,
        number: u64,
        mut job: Job<I, O>,
    ) -> LocalBoxFuture<'static, ()> {
        let (core, slot, start) = (Arc::clone(self), Arc::clone(slot), Arc::clone(start));
        let Some(input) = job.input.take().filter(|_| !job.reply.is_closed()) else {
            core.metrics.cancelled();
            return Box::pin(std::future::ready(()));
        };
        let (began, since, deadline) = (core.now(), job.since, job.deadline);
        core.metrics.waited(began.saturating_sub(since));
        job.trace(&core.name, &slot.name, 1, began);
        let caller = Arc::new(Caller {
            deployment: Arc::clone(&core.name),
            deadline,
            priority: job.priority,
            along: job.along.clone(),
            trace: job.traced.as_ref().map(|traced| traced.trace().clone()),
        });
        if !job.again {
            job.input = core.spare.as_ref().map(|spare| spare(&input));
        }
        // Before it is first looked at: another one may block the thread until then.
        slot.flying.lock().insert(number, job);
        Box::pin(async move {
            let work = Box::pin(async move { start(input).await });
            let work = OnBehalf::of_flight(caller, work);
            let work = Polled { core: &core, work: slot.work(), future: Some(work) };
            let ended = {
                // Looked at first, so that nothing more is done for a caller that has gone.
                let closed = poll_fn(|cx| {
                    let mut flying = slot.flying.lock();
                    flying.get_mut(&number).map_or(Poll::Ready(()), |job| job.reply.poll_closed(cx))
                });
                let first = tokio::time::timeout(deadline.saturating_sub(began), select(closed, work)).await;
                first.map(|first| match first {
                    Either::Left(_) => None,
                    Either::Right((outcome, _)) => Some(outcome),
                })
            };
            // Otherwise the replica was given up meanwhile.
            let Some(job) = slot.flying.lock().remove(&number) else { return };
            let took = core.now().saturating_sub(began);
            let answer = match ended {
                Ok(None) => return core.metrics.cancelled(),
                Ok(Some(Ok(Ok(answer)))) => Ok(answer),
                Ok(Some(Ok(Err(error)))) => Err(failed(&slot.name, &error)),
                Ok(Some(Err(panic))) => {
                    core.metrics.panicked();
                    let (replica, reason) = (Arc::clone(&slot.name), Arc::from(panic_text(&*panic)));
                    tracing::error!(%replica, %reason, "a request panicked; the others of its replica go on");
                    Err(CallError::Panicked { replica, reason })
                }
                Err(_) => Err(CallError::Timeout { limit: deadline.saturating_sub(since) }),
            };
            core.metrics.executed(1, took);
            match answer {
                Ok(answer) => drop(job.reply.send(Ok(answer))),
                Err(error) => job.fail(&error),
            }
            let mut queue = core.queue.lock();
            queue.drain.record(core.now(), 1);
            queue.pace.observe(took);
        })
    }
}

/// A model's future, watched while it runs and while it is let go of: one that does not return costs the replica its place. A panic is its outcome.
struct Polled<'a, I: Send + 'static, O: Send + 'static, F> {
    core: &'a Core<I, O>,
    work: &'a Work,
    /// Gone when it has ended.
    future: Option<F>,
}

impl<I: Send + 'static, O: Send + 'static, F> Polled<'_, I, O, F> {
    fn watched<T>(&self, run: impl FnOnce() -> T) -> std::thread::Result<T> {
        self.work.enter(self.core.now());
        let done = catch_unwind(AssertUnwindSafe(run));
        self.work.leave();
        done
    }
}

impl<I: Send + 'static, O: Send + 'static, F: Future + Unpin> Future for Polled<'_, I, O, F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut future) = self.future.take() else { return Poll::Pending };
        match self.watched(|| Pin::new(&mut future).poll(cx)) {
            Ok(Poll::Pending) => {
                self.future = Some(future);
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

impl<I: Send + 'static, O: Send + 'static, F> Drop for Polled<'_, I, O, F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && let Err(panic) = self.watched(|| drop(future))
        {
            tracing::error!(reason = panic_text(&*panic), "a request that was dropped panicked");
        }
    }
}
