//! How a request comes in: answered in place, queued, or refused; and how it is taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::Refused;
use super::context::{self, Terms};
use super::core::{Core, Job, Queue, Reply};
use super::courier;
use super::handle::{Cancel, Patience, Submitted, Ticket};
use crate::error::CallError;

/// A cheap model is cheap for a request of this size; a larger one could hold up the caller's other connections.
const LARGEST_INLINE: usize = 32;

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    /// Takes a request that is to be answered within this limit and the deployment's: answers it in place, queues it, or refuses it. A version
    /// that is closed gives it back.
    pub(crate) fn submit(self: &Arc<Self>, input: I, terms: &Terms) -> Result<Submitted<O>, I> {
        let limit = terms.limit.map_or(self.timeout, |limit| limit.min(self.timeout));
        let inherited = match context::inherit(&self.name, || self.now(), limit, terms.priority) {
            Ok(inherited) => inherited,
            Err(error) => return Ok(Submitted::Done(Err(error))),
        };
        let own = (limit, terms.priority, None);
        let (limit, priority, circle) =
            inherited.map_or(own, |theirs| (theirs.limit, theirs.priority, theirs.circle));
        if let Some(check) = &self.check
            && let Err(error) = check(&input)
        {
            return Ok(Submitted::Done(Err(error)));
        }
        if let Some(mirror) = self.mirror.get() {
            mirror.offer(&input);
        }
        let size = self.size.as_ref().map_or(1, |size| size(&input).max(1));
        let is_idle = self.inline.load(Ordering::Relaxed) && self.queued.load(Ordering::Relaxed) == 0;
        let input = if is_idle && size <= LARGEST_INLINE {
            match self.answer_inline(input, limit, priority, terms.fitted) {
                Ok(submitted) => return Ok(submitted),
                Err(input) => input,
            }
        } else {
            input
        };
        let (reply, receiver) = courier::channel();
        let now = self.now();
        let deadline = now.saturating_add(limit);
        let along = context::along(terms.model.as_ref());
        let mut job = Job {
            input: Some(input),
            since: now,
            foretold: None,
            deadline,
            size,
            again: false,
            priority,
            fitted: terms.fitted,
            along,
            traced: None,
            reply,
        };
        let delay = self.config.delay_of(priority);
        let mut queue = self.queue.lock();
        if let Some(wait) = self.wait(&queue, now, delay) {
            // Better told at once.
            let prudent = wait.saturating_add(queue.pace.reserve(limit));
            if prudent > limit {
                drop(queue);
                self.metrics.refused();
                let deployment = Arc::clone(&self.name);
                return Ok(Submitted::Done(Err(CallError::TooLate { deployment, wait: prudent, limit })));
            }
            // What may be overtaken is late for other reasons too.
            job.foretold = Some(wait).filter(|_| delay.is_zero());
        }
        match queue.batcher.push_behind(now, deadline, size, delay, job) {
            Ok(id) => {
                self.note_length(&queue);
                drop(queue);
                if self.steps() {
                    // The one that is woken might have no room beside what it works on.
                    self.work.notify_all();
                } else if self.is_async.load(Ordering::Relaxed) {
                    self.ring(terms.model.is_some());
                } else {
                    self.work.notify_one();
                }
                if self.slots.load().is_empty() {
                    // Nobody is there to take it: whoever looks after the deployment should know at once.
                    (self.poke)();
                }
                Ok(self.waiting(receiver, Some(id), limit, circle))
            }
            Err(Refused::Full(_)) => {
                let queued = queue.batcher.len();
                let retry_after = queue.drain.retry_after(now, queued);
                drop(queue);
                self.metrics.refused();
                let deployment = Arc::clone(&self.name);
                Ok(Submitted::Done(Err(CallError::Busy { deployment, queued, retry_after })))
            }
            Err(Refused::Closed(job)) => {
                drop(queue);
                let closed =
                    || Ok(Submitted::Done(Err(CallError::Closed { deployment: Arc::clone(&self.name) })));
                job.input.map_or_else(closed, Err)
            }
        }
    }

    pub(super) fn waiting(
        self: &Arc<Self>,
        receiver: oneshot::Receiver<Reply<O>>,
        id: Option<u64>,
        limit: Duration,
        circle: Option<Arc<str>>,
    ) -> Submitted<O> {
        let ticket = id.map_or_else(Ticket::none, |id| Ticket::new(Arc::clone(self) as _, id));
        Submitted::Waiting { receiver, ticket, patience: Patience { limit, circle } }
    }

    /// How long a request would wait for its answer, if that can be told.
    fn wait(&self, queue: &Queue<I, O>, now: Duration, delay: Duration) -> Option<Duration> {
        if queue.len() == 0 {
            return None;
        }
        let beside = if self.is_async.load(Ordering::Relaxed) { self.config.max_ongoing_requests } else { 1 };
        let batches = queue.again.len() + queue.batcher.batches_before(now.saturating_add(delay));
        queue.pace.wait(batches, self.slots.load().len() * beside)
    }

    /// Tells async replicas of a request; all of them, if it is one for some rather than for others.
    fn ring(&self, all: bool) {
        if all {
            self.bell.changed.notify_waiters();
        } else {
            self.bell.arrived.notify_one();
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Cancel for Core<I, O> {
    fn cancel(&self, id: u64) {
        let mut queue = self.queue.lock();
        let job = queue.batcher.cancel(id);
        self.note_length(&queue);
        drop(queue);
        if job.is_some() {
            self.metrics.cancelled();
        }
    }
}
