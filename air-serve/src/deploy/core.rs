//! One running deployment: the queue, the slots that hold the replicas' models, and the execution of a batch.
//!
//! A slot's lock is held while its model runs. Replica threads lock their own slot; in inline mode callers lock whichever is free. So a model is
//! never called twice at a time, wherever it is called from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::batch::{Batcher, Next, Refused};
use super::config::{DeploymentConfig, Execution};
use super::drain::DrainRate;
use super::handle::{Submitted, Ticket};
use super::mode::Chooser;
use super::{AnyModel, Check, Erased, Factory};
use crate::error::{CallError, ServeError, chain};
use crate::metrics::{DeploymentMetrics, Metrics};

/// How long an inline caller waits for a slot before it queues instead: a few calls of a cheap model.
const SLOT_PATIENCE: Duration = Duration::from_micros(200);

/// The answer to one request.
pub(crate) type Reply<O> = Result<O, CallError>;

/// A request in the queue.
pub(crate) struct Job<I, O> {
    input: I,
    since: Duration,
    reply: oneshot::Sender<Reply<O>>,
}

struct Queue<I, O> {
    batcher: Batcher<Job<I, O>>,
    drain: DrainRate,
}

/// Where a replica keeps its model.
pub(crate) struct Slot<I, O> {
    pub name: Arc<str>,
    model: Mutex<Option<AnyModel<I, O>>>,
    /// Why the model is gone, from the panic until the replica has noticed.
    lost: Mutex<Option<Arc<str>>>,
    is_lost: AtomicBool,
}

/// Why a replica stopped pulling.
pub(crate) enum End {
    /// The deployment is closed and its queue empty.
    Closed,
    /// Its model panicked with this message and is gone.
    Lost(Arc<str>),
}

/// One running deployment, whatever its model's type.
pub(crate) struct Core<I, O> {
    pub name: Arc<str>,
    pub config: DeploymentConfig,
    pub metrics: DeploymentMetrics,
    pub slots: Vec<Slot<I, O>>,
    factory: Factory<I, O>,
    check: Option<Check<I>>,
    queue: Mutex<Queue<I, O>>,
    work: Condvar,
    /// Length of the queue, for a look without its lock.
    queued: AtomicUsize,
    inline: AtomicBool,
    chooser: Mutex<Chooser>,
    origin: Instant,
    timeout: Duration,
}

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    pub(crate) fn new(deployment: Erased<I, O>, metrics: &Metrics) -> Result<Arc<Self>, ServeError> {
        let Erased { name, config, factory, check } = deployment;
        config.validate()?;
        let metrics = metrics.deployment(&name)?;
        let slot = |index: usize| Slot {
            name: format!("{name}#{index}").into(),
            model: Mutex::new(None),
            lost: Mutex::new(None),
            is_lost: AtomicBool::new(false),
        };
        Ok(Arc::new(Core {
            metrics,
            slots: (0..config.num_replicas).map(slot).collect(),
            factory,
            check,
            queue: Mutex::new(Queue { batcher: Batcher::new(config.policy()), drain: DrainRate::new() }),
            work: Condvar::new(),
            queued: AtomicUsize::new(0),
            inline: AtomicBool::new(config.execution == Execution::Inline),
            chooser: Mutex::new(Chooser::new()),
            origin: Instant::now(),
            timeout: config.request_timeout(),
            config,
            name,
        }))
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Builds a replica's model and puts it into its slot; an error or a panic of the factory comes back as its message.
    pub(crate) fn build(&self, index: usize) -> Result<(), Arc<str>> {
        let built = catch_unwind(AssertUnwindSafe(|| (self.factory)()));
        let model = match built {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(payload) => return Err(format!("it panicked: {}", panic_text(&*payload)).into()),
        };
        let slot = &self.slots[index];
        *slot.model.lock() = Some(model);
        *slot.lost.lock() = None;
        slot.is_lost.store(false, Ordering::Release);
        Ok(())
    }

    /// Takes a request: answers it in place, queues it, or refuses it.
    pub(crate) fn submit(self: &Arc<Self>, input: I) -> Submitted<O> {
        if let Some(check) = &self.check
            && let Err(error) = check(&input)
        {
            return Submitted::Done(Err(error));
        }
        let input = if self.inline.load(Ordering::Relaxed) && self.queued.load(Ordering::Relaxed) == 0 {
            match self.answer_inline(input) {
                Ok(reply) => return Submitted::Done(reply),
                Err(input) => input,
            }
        } else {
            input
        };
        let (reply, receiver) = oneshot::channel();
        let now = self.now();
        let mut queue = self.queue.lock();
        let job = Job { input, since: now, reply };
        match queue.batcher.push(now, now.saturating_add(self.timeout), job) {
            Ok(id) => {
                self.note_length(&queue);
                drop(queue);
                self.work.notify_one();
                let core: Arc<dyn super::handle::Cancel> = Arc::clone(self) as _;
                Submitted::Waiting { receiver, ticket: Ticket::new(core, id), timeout: self.timeout }
            }
            Err(Refused::Full(_)) => {
                let queued = queue.batcher.len();
                let retry_after = queue.drain.retry_after(now, queued);
                drop(queue);
                self.metrics.refused();
                Submitted::Done(Err(CallError::Busy {
                    deployment: Arc::clone(&self.name),
                    queued,
                    retry_after,
                }))
            }
            Err(Refused::Closed(_)) => {
                Submitted::Done(Err(CallError::Closed { deployment: Arc::clone(&self.name) }))
            }
        }
    }

    /// Runs one request on the caller's thread, if a slot is free soon; gives the input back otherwise.
    fn answer_inline(&self, input: I) -> Result<Reply<O>, I> {
        thread_local! {
            static PREFERRED: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed)
            };
        }
        let first = PREFERRED.with(|preferred| *preferred) % self.slots.len();
        let in_turn = self.slots[first..].iter().chain(&self.slots[..first]);
        let mut free = in_turn.filter_map(|slot| slot.model.try_lock().map(|guard| (slot, guard)));
        let free = free.find(|(_, guard)| guard.is_some());
        let found = free.or_else(|| {
            let slot = &self.slots[first];
            slot.model.try_lock_for(SLOT_PATIENCE).filter(|guard| guard.is_some()).map(|guard| (slot, guard))
        });
        let Some((slot, guard)) = found else { return Err(input) };
        let mut replies = self.call(slot, guard, vec![input]);
        match replies.pop() {
            Some(reply) => Ok(reply),
            None => Ok(Err(CallError::WrongBatch { replica: Arc::clone(&slot.name), expected: 1, got: 0 })),
        }
    }

    /// Pulls and answers until the deployment is closed or the replica's model is lost.
    pub(crate) fn pull(&self, index: usize) -> End {
        let slot = &self.slots[index];
        loop {
            let (batch, late) = match self.take(slot) {
                Ok(taken) => taken,
                Err(end) => return end,
            };
            for job in late {
                let _ = job.reply.send(Err(CallError::Timeout { limit: self.timeout }));
            }
            if !batch.is_empty() {
                self.answer(slot, batch);
            }
        }
    }

    /// Waits for a batch; also returns the requests that ran out of time in the queue.
    #[allow(clippy::type_complexity)]
    fn take(&self, slot: &Slot<I, O>) -> Result<(Vec<Job<I, O>>, Vec<Job<I, O>>), End> {
        let mut queue = self.queue.lock();
        loop {
            if slot.is_lost.load(Ordering::Acquire) {
                let reason = slot.lost.lock().clone().unwrap_or_else(|| "unknown".into());
                return Err(End::Lost(reason));
            }
            let now = self.now();
            let late = queue.batcher.expire(now);
            let next = queue.batcher.next(now);
            self.note_length(&queue);
            match next {
                Next::Run(batch) => return Ok((batch, late)),
                _ if !late.is_empty() => return Ok((Vec::new(), late)),
                Next::Idle => self.work.wait(&mut queue),
                Next::WaitUntil(at) => {
                    self.work.wait_until(&mut queue, self.origin + at);
                }
                Next::Closed => return Err(End::Closed),
            }
        }
    }

    fn note_length(&self, queue: &MutexGuard<'_, Queue<I, O>>) {
        self.queued.store(queue.batcher.len(), Ordering::Relaxed);
        self.metrics.queued(queue.batcher.len());
    }

    /// Runs a batch on this replica's own thread.
    fn answer(&self, slot: &Slot<I, O>, batch: Vec<Job<I, O>>) {
        let now = self.now();
        let size = batch.len();
        let mut inputs = Vec::with_capacity(size);
        let mut waiting = Vec::with_capacity(size);
        for job in batch {
            self.metrics.waited(now.saturating_sub(job.since));
            inputs.push(job.input);
            waiting.push(job.reply);
        }
        let replies = self.call(slot, slot.model.lock(), inputs);
        for (reply, caller) in replies.into_iter().zip(waiting) {
            // A caller that went away while the model ran is no error.
            let _ = caller.send(reply);
        }
        self.queue.lock().drain.record(self.now(), size);
    }

    /// Calls the model; always returns as many replies as inputs.
    fn call(
        &self,
        slot: &Slot<I, O>,
        mut guard: MutexGuard<'_, Option<AnyModel<I, O>>>,
        inputs: Vec<I>,
    ) -> Vec<Reply<O>> {
        let size = inputs.len();
        let all = |error: CallError| (0..size).map(|_| Err(error.clone())).collect();
        let replica = || Arc::clone(&slot.name);
        let Some(model) = guard.as_mut() else {
            // An inline caller's panic took the model between this batch's dispatch and its start.
            let reason = slot.lost.lock().clone().unwrap_or_else(|| "its model is being replaced".into());
            return all(CallError::Panicked { replica: replica(), reason });
        };
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| model.predict(inputs)));
        let took = start.elapsed();
        self.metrics.executed(size, took);
        match outcome {
            Ok(Ok(answers)) if answers.len() == size => {
                if self.config.execution == Execution::Auto && !self.config.batches() {
                    let inline = self.chooser.lock().observe(took);
                    self.inline.store(inline, Ordering::Relaxed);
                }
                answers.into_iter().map(Ok).collect()
            }
            Ok(Ok(answers)) => {
                all(CallError::WrongBatch { replica: replica(), expected: size, got: answers.len() })
            }
            Ok(Err(error)) => all(CallError::Failed { replica: replica(), reason: chain(&error) }),
            Err(payload) => {
                let reason: Arc<str> = panic_text(&*payload).into();
                // What a panic left behind is not reused, and may panic again when it is dropped.
                let broken = guard.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                *slot.lost.lock() = Some(Arc::clone(&reason));
                slot.is_lost.store(true, Ordering::Release);
                drop(guard);
                self.metrics.panicked();
                tracing::error!(replica = %slot.name, %reason, "the model panicked; the replica is replaced");
                self.wake();
                all(CallError::Panicked { replica: replica(), reason })
            }
        }
    }

    /// Wakes every replica, so that each looks at what has changed. The lock orders this after their last look.
    fn wake(&self) {
        drop(self.queue.lock());
        self.work.notify_all();
    }

    /// Lets no request in any more; what waits is still answered.
    pub(crate) fn close(&self) {
        self.queue.lock().batcher.close();
        self.work.notify_all();
    }

    /// Whether some replica has a model, and so can answer.
    pub(crate) fn is_up(&self) -> bool {
        self.slots.iter().any(|slot| !slot.is_lost.load(Ordering::Acquire))
    }
}

impl<I: Send + 'static, O: Send + 'static> super::handle::Cancel for Core<I, O> {
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

/// What a panic's payload says.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
