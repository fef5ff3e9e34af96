//! One running version of a deployment: its queue, and the slots of the replicas that pull from it. `admit` has how requests come in, `execute` what the
//! replicas do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use air_core::Clock;
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::Value;

use super::autoscale::Load;
use super::batch::{Batcher, Next};
use super::beside::Bell;
use super::config::{DeploymentConfig, Execution};
use super::context::Along;
use super::courier;
use super::drain::DrainRate;
use super::mirror::Offer;
use super::mode::Chooser;
use super::pace::Pace;
use super::slot::Slot;
use super::{AsStream, Check, Erased, Factory, Size, Spare, WarmUp};
use crate::error::CallError;
use crate::http::Traced;
use crate::metrics::DeploymentMetrics;
use crate::v2::Reach;

/// The answer to one request.
pub(crate) type Reply<O> = Result<O, CallError>;

/// Wakes who looks after the deployment.
pub(crate) type Poke = Arc<dyn Fn() + Send + Sync>;

/// A request on its way to a model, or in a replica's hand.
pub(crate) struct Job<I, O> {
    /// Taken while a model works on it; then, if the deployment is idempotent, a copy for a second try.
    pub input: Option<I>,
    pub since: Duration,
    /// How long it was said that its answer would take, where that could be told.
    pub foretold: Option<Duration>,
    pub deadline: Duration,
    /// What it counts for in a batch.
    pub size: usize,
    /// It is on its second try.
    pub again: bool,
    /// 0 says nothing.
    pub priority: u8,
    /// Its input was made for the signature of the version that it waits in.
    pub fitted: bool,
    pub along: Option<Arc<Along>>,
    /// The span of its execution, while a model works on it.
    pub traced: Option<Traced>,
    pub reply: courier::Sender<O>,
}

impl<I, O> Job<I, O> {
    /// Its spans, if it is traced: that it has waited until now, and that a replica works on it, in a batch of so many.
    pub(super) fn trace(&mut self, deployment: &str, replica: &str, batch: usize, now: Duration) {
        let Some(trace) = self.along.as_ref().and_then(|along| along.trace.as_ref()) else { return };
        trace.waited(deployment, now.saturating_sub(self.since));
        self.traced = Some(trace.execute(deployment, replica, batch));
    }

    /// Tells its caller that it failed.
    pub(super) fn fail(mut self, error: &CallError) {
        if let Some(traced) = self.traced.take() {
            traced.fail(error);
        }
        let _ = self.reply.send(Err(error.clone()));
    }

    /// How much later than foretold an answer at that time is.
    pub(super) fn slip(&self, at: Duration) -> Duration {
        self.foretold
            .map_or(Duration::ZERO, |foretold| at.saturating_sub(self.since).saturating_sub(foretold))
    }
}

/// What waits.
pub(super) struct Queue<I, O> {
    pub batcher: Batcher<Job<I, O>>,
    /// Requests whose replica was lost. They go first, and each alone: one that makes the model panic takes no other with it a second time.
    pub again: VecDeque<Job<I, O>>,
    pub drain: DrainRate,
    pub pace: Pace,
    /// Nothing is let in any more.
    pub closed: bool,
    /// Nobody will look at it any more.
    pub over: bool,
}

impl<I, O> Queue<I, O> {
    pub(super) fn len(&self) -> usize {
        self.batcher.len() + self.again.len()
    }
}

/// What a replica is to do next.
pub(super) enum Taken<I, O> {
    Batch { batch: Vec<Job<I, O>>, late: Vec<Job<I, O>> },
    Reconfigure,
    End(End),
}

/// Why a replica stops pulling.
pub(crate) enum End {
    /// It was told to leave, or its version is closed and the queue empty.
    Left,
    /// Its model is gone for this reason.
    Lost(Arc<str>),
}

/// One running version of a deployment.
pub(crate) struct Core<I, O> {
    /// The deployment's name.
    pub name: Arc<str>,
    pub config: DeploymentConfig,
    pub metrics: Arc<DeploymentMetrics>,
    pub(super) factory: Factory<I, O>,
    pub(super) warm_up: Option<WarmUp<I>>,
    pub(super) spare: Option<Spare<I>>,
    /// If its answers are streams.
    pub(super) streams: Option<AsStream<O>>,
    /// Its models work on requests after they have answered them.
    pub(super) steps: AtomicBool,
    pub(super) size: Option<Size<I>>,
    pub(super) check: Option<Check<I>>,
    /// How protocol V2 reaches it.
    pub reach: Option<Reach<I, O>>,
    pub(super) mirror: OnceLock<Box<dyn Offer<I>>>,
    /// The user configuration and its number, which goes up with each change.
    user_config: Mutex<(u64, Option<Value>)>,
    user_config_number: AtomicU64,
    /// Those of the replicas that are ready.
    pub(super) slots: ArcSwap<Vec<Arc<Slot<I, O>>>>,
    pub(super) queue: Mutex<Queue<I, O>>,
    pub(super) work: Condvar,
    /// The same for async replicas, once there are any.
    pub(super) bell: Bell,
    pub(super) is_async: AtomicBool,
    /// Length of the queue, for a look without its lock.
    pub(super) queued: AtomicUsize,
    pub(super) inline: AtomicBool,
    pub(super) chooser: Mutex<Chooser>,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) poke: Poke,
}

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    /// A version without a replica; its configuration has been validated.
    pub(crate) fn new(
        deployment: Erased<I, O>,
        metrics: Arc<DeploymentMetrics>,
        clock: Clock,
        poke: Poke,
    ) -> Arc<Self> {
        let Erased { name, config, factory, check, warm_up, spare, size, streams, reach, .. } = deployment;
        let queue = Queue {
            batcher: Batcher::new(config.policy()),
            again: VecDeque::new(),
            drain: DrainRate::new(),
            pace: Pace::default(),
            closed: false,
            over: false,
        };
        Arc::new(Core {
            metrics,
            slots: ArcSwap::default(),
            factory,
            warm_up,
            spare,
            streams,
            steps: AtomicBool::new(streams.is_some()),
            size,
            check,
            reach,
            mirror: OnceLock::new(),
            user_config: Mutex::new((0, config.user_config.clone())),
            user_config_number: AtomicU64::new(0),
            queue: Mutex::new(queue),
            work: Condvar::new(),
            bell: Bell::default(),
            is_async: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            inline: AtomicBool::new(config.execution == Execution::Inline),
            chooser: Mutex::new(Chooser::new()),
            clock,
            timeout: config.request_timeout(),
            config,
            name,
            poke,
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Waits until there is something for this replica to do.
    pub(super) fn take(&self, slot: &Slot<I, O>) -> Taken<I, O> {
        let mut queue = self.queue.lock();
        loop {
            // What it still works on is brought to its end, whatever is to become of it.
            let runs = slot.ongoing().running() > 0;
            let lost = slot.lost();
            // Before its version is closed another replica takes what waits; afterwards nobody else might.
            let takes = lost.is_none() && (!slot.is_leaving() || queue.closed);
            match lost {
                Some(reason) if !runs => return Taken::End(End::Lost(reason)),
                _ if slot.is_given_up() || !(takes || runs) => return Taken::End(End::Left),
                _ => {}
            }
            if takes
                && slot.configured.load(Ordering::Acquire) != self.user_config_number.load(Ordering::Acquire)
            {
                return Taken::Reconfigure;
            }
            let now = self.now();
            let late = Self::expired(&mut queue, now);
            if runs {
                let batch = if takes { self.take_beside(&mut queue, slot) } else { Vec::new() };
                self.note_length(&queue);
                if batch.is_empty() && late.is_empty() && slot.ongoing().waits() {
                    self.work.wait(&mut queue);
                    continue;
                }
                return Taken::Batch { batch, late };
            }
            if let Some(job) = queue.again.pop_front() {
                self.note_length(&queue);
                return Taken::Batch { batch: vec![job], late };
            }
            let next = queue.batcher.next(now);
            self.note_length(&queue);
            match next {
                Next::Run(batch) => return Taken::Batch { batch, late },
                _ if !late.is_empty() => return Taken::Batch { batch: Vec::new(), late },
                Next::Idle => self.work.wait(&mut queue),
                Next::WaitUntil(at) => {
                    self.work.wait_for(&mut queue, at.saturating_sub(now));
                }
                Next::Closed => return Taken::End(End::Left),
            }
        }
    }

    /// What there is room for beside what a replica works on.
    fn take_beside(&self, queue: &mut Queue<I, O>, slot: &Slot<I, O>) -> Vec<Job<I, O>> {
        let occupied = slot.ongoing().occupied();
        let fits = |job: &Job<I, O>| occupied.saturating_add(job.size) <= self.config.max_batch_size;
        match queue.again.front() {
            Some(job) if fits(job) => queue.again.pop_front().into_iter().collect(),
            Some(_) => Vec::new(),
            None => queue.batcher.beside(occupied),
        }
    }

    /// Every replica is to look at what has changed.
    fn notify_all(&self) {
        self.work.notify_all();
        self.bell.changed.notify_waiters();
    }

    /// Takes out what has run out of time, or is about to.
    pub(super) fn expired(queue: &mut Queue<I, O>, now: Duration) -> Vec<Job<I, O>> {
        let mut late = queue.batcher.expire(now);
        if let Some(typical) = queue.pace.typical() {
            let by = now.saturating_add(typical);
            late.extend(queue.batcher.hopeless(by));
            for job in &late {
                queue.pace.slipped(job.slip(by));
            }
        }
        if queue.again.iter().any(|job| job.deadline <= now) {
            let (over, timely) = queue.again.drain(..).partition::<Vec<_>, _>(|job| job.deadline <= now);
            queue.again = timely.into();
            late.extend(over);
        }
        late
    }

    /// Answers what has run out of time, which the replicas do when there are any, and ends streams that stand still.
    pub(crate) fn expire(&self) {
        let mut queue = self.queue.lock();
        let late = Self::expired(&mut queue, self.now());
        self.note_length(&queue);
        drop(queue);
        Self::too_late(late);
        self.end_idle_streams();
    }

    pub(super) fn too_late(late: Vec<Job<I, O>>) {
        for job in late {
            let limit = job.deadline.saturating_sub(job.since);
            let _ = job.reply.send(Err(CallError::Timeout { limit }));
        }
    }

    pub(super) fn note_length(&self, queue: &MutexGuard<'_, Queue<I, O>>) {
        let before = self.queued.swap(queue.len(), Ordering::Relaxed);
        if before != queue.len() {
            self.metrics.queued(queue.len() as f64 - before as f64);
        }
    }

    /// Puts requests at the head of the queue that a lost replica had in hand.
    pub(super) fn try_again(&self, jobs: Vec<Job<I, O>>) {
        let mut queue = self.queue.lock();
        if queue.over {
            drop(queue);
            for job in jobs {
                let _ = job.reply.send(Err(CallError::Closed { deployment: Arc::clone(&self.name) }));
            }
            return;
        }
        queue.again.extend(jobs);
        self.note_length(&queue);
        drop(queue);
        self.notify_all();
    }

    /// Lets no request in any more in favour of another version, which must be the one that requests go to by now, and hands over what waits. What
    /// was made for another signature stays, to be answered here.
    pub(crate) fn hand_over(&self, to: &Self) {
        self.close();
        to.adopt(self.take_waiting(|job| !job.fitted || to.is_signed_as(self)));
    }

    /// Whether it takes and gives the same tensors.
    pub(crate) fn is_signed_as(&self, other: &Self) -> bool {
        self.reach.as_ref().map(Reach::signature) == other.reach.as_ref().map(Reach::signature)
    }

    /// Takes out all that waits and is wanted.
    fn take_waiting(&self, wanted: impl Fn(&Job<I, O>) -> bool) -> Vec<Job<I, O>> {
        let mut queue = self.queue.lock();
        let (mut jobs, stay): (Vec<_>, Vec<_>) = queue.again.drain(..).partition(|job| wanted(job));
        queue.again = stay.into();
        jobs.extend(queue.batcher.take_wanted(usize::MAX, |_, job| wanted(job)).0);
        self.note_length(&queue);
        drop(queue);
        // Replicas that wait for more, for company say, look again.
        self.notify_all();
        jobs
    }

    /// Takes out all that waits, for the last time: it will never have a replica again.
    pub(crate) fn take_last(&self) -> Vec<Job<I, O>> {
        self.queue.lock().over = true;
        self.take_waiting(|_| true)
    }

    /// Takes requests over from another version. They have been let in once, so they are not refused for want of room.
    pub(crate) fn adopt(&self, jobs: Vec<Job<I, O>>) {
        let mut queue = self.queue.lock();
        let now = self.now();
        for job in jobs {
            let unfit =
                self.check.as_ref().zip(job.input.as_ref()).and_then(|(check, input)| check(input).err());
            if let Some(error) = unfit {
                drop(job.reply.send(Err(error)));
            } else {
                let delay = self.config.delay_of(job.priority);
                queue.batcher.admit(now, job.deadline, job.size, delay, job);
            }
        }
        self.note_length(&queue);
        drop(queue);
        self.notify_all();
    }

    /// Changes something about a replica that may be waiting, and wakes it.
    pub(super) fn poke_replica(&self, change: impl FnOnce()) {
        let queue = self.queue.lock();
        change();
        drop(queue);
        self.work.notify_all();
    }

    /// Wakes every replica, so that each looks at what has changed. The lock orders this after their last look.
    pub(crate) fn wake(&self) {
        drop(self.queue.lock());
        self.notify_all();
    }

    /// Lets no request in any more; what waits is still answered.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.batcher.close();
        drop(queue);
        self.notify_all();
    }

    /// Requests that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whether some replica can answer.
    pub(crate) fn is_up(&self) -> bool {
        !self.slots.load().is_empty()
    }

    /// The user configuration and its number.
    pub(crate) fn user_config(&self) -> (u64, Option<Value>) {
        self.user_config.lock().clone()
    }

    pub(super) fn user_config_number(&self) -> u64 {
        self.user_config_number.load(Ordering::Acquire)
    }

    /// Changes the user configuration; every replica takes it before its next batch. Returns its number.
    pub(crate) fn set_user_config(&self, value: Option<Value>) -> u64 {
        let mut current = self.user_config.lock();
        *current = (current.0 + 1, value);
        self.user_config_number.store(current.0, Ordering::Release);
        let number = current.0;
        drop(current);
        self.wake();
        number
    }

    /// What it does now, and the time its replicas have been at work.
    pub(crate) fn load(&self) -> (Load, Duration) {
        let (slots, now) = (self.slots.load(), self.now());
        let executing: usize =
            slots.iter().map(|slot| slot.work().requests() + slot.ongoing().running()).sum();
        let ongoing = self.queued.load(Ordering::Relaxed) + executing;
        let worked = slots.iter().map(|slot| slot.work().total(now)).sum();
        (Load { ongoing, busy: 0.0, running: slots.len() }, worked)
    }

    pub(super) fn enlist(&self, slot: &Arc<Slot<I, O>>) {
        self.slots.rcu(|slots| {
            let mut slots = Vec::clone(slots);
            slots.push(Arc::clone(slot));
            slots
        });
    }

    pub(crate) fn delist(&self, slot: &Slot<I, O>) {
        self.slots.rcu(|slots| {
            slots.iter().filter(|other| !std::ptr::eq(&raw const ***other, slot)).cloned().collect::<Vec<_>>()
        });
    }
}
