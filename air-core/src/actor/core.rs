//! What a runtime's workers share: the clock, the counts, the dead letters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::{Child, WorkerPhase, WorkerState};
use super::error::Reason;
use super::exit::Exit;
use super::member::{LeftBehind, Stay};
use super::names::Names;
use crate::clock::Clock;
use crate::error::Result;
use crate::metrics::{Counter, Metrics};
use crate::resource::ResourcePool;
use crate::runtime::RuntimeConfig;
use crate::state::{EventKind, Events};
use crate::trace::Timeline;
use parking_lot::Mutex;

/// Dead letters, and workers that have ended for good, kept for inspection; all are counted.
const KEPT: usize = 64;

pub(super) struct Core {
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) resources: ResourcePool,
    pub(super) timeline: Timeline,
    pub(super) events: Events,
    pub(super) names: Names,
    counts: Counts,
    letters: Mutex<VecDeque<DeadLetter>>,
    /// Every worker that has not ended for good, in the order they were made.
    workers: Mutex<BTreeMap<u64, Arc<dyn Child>>>,
    /// The last that have.
    ended: Mutex<VecDeque<WorkerState>>,
    /// Lives left behind whose stay is not over.
    left_behind: Mutex<Vec<(LeftBehind, Weak<Stay>)>>,
    next_worker: AtomicU64,
}

/// Counted in the runtime's metrics, so that a scrape shows them too.
struct Counts {
    restarts: Counter,
    abandoned: Counter,
    late_replies: Counter,
    cancelled: Counter,
    dead_letters: Counter,
}

impl Counts {
    fn new(metrics: &Metrics) -> Result<Self> {
        let counter = |name, help| metrics.counter(name, help, &[]);
        Ok(Self {
            restarts: counter("air_core_worker_restarts_total", "Workers started again after an end")?,
            abandoned: counter(
                "air_core_workers_abandoned_total",
                "Workers left behind because they did not return",
            )?,
            late_replies: counter(
                "air_core_late_replies_total",
                "Replies that came after their callers were answered",
            )?,
            cancelled: counter(
                "air_core_calls_cancelled_total",
                "Async calls cut short because whoever asked had gone away",
            )?,
            dead_letters: counter(
                "air_core_dead_letters_total",
                "Messages nobody handled and no sender took back",
            )?,
        })
    }
}

/// How often things went wrong since the runtime started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counters {
    /// Workers started again after an end.
    pub restarts: u64,
    /// Workers left behind with their thread because they did not return.
    pub abandoned: u64,
    /// Replies of abandoned workers that came after their callers had been answered.
    pub late_replies: u64,
    /// Calls of [`HandleAsync`](crate::HandleAsync) cut short because whoever asked had gone away.
    pub cancelled: u64,
    /// Messages nobody handled and no sender took back.
    pub dead_letters: u64,
}

/// A message nobody handled and no sender took back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// When it was given up, on the runtime's clock.
    pub at: Duration,
    /// The worker it was for.
    pub worker: Arc<str>,
    /// The type of the message.
    pub message_type: &'static str,
    /// Why it was not handled.
    pub reason: Reason,
}

impl Core {
    pub(super) fn new(config: &RuntimeConfig) -> Result<Self> {
        let (clock, metrics) = (config.clock.clone(), Metrics::new());
        Ok(Self {
            counts: Counts::new(&metrics)?,
            metrics,
            resources: ResourcePool::new(clock.clone(), config.resources.as_ref())?,
            timeline: Timeline::new(clock.clone(), config.timeline_spans),
            events: Events::new(),
            clock,
            names: Names::default(),
            letters: Mutex::new(VecDeque::new()),
            workers: Mutex::new(BTreeMap::new()),
            ended: Mutex::new(VecDeque::new()),
            left_behind: Mutex::default(),
            next_worker: AtomicU64::new(0),
        })
    }

    /// A number no other worker has.
    pub(super) fn next_number(&self) -> u64 {
        self.next_worker.fetch_add(1, Ordering::Relaxed)
    }

    /// Lists a worker until it is [`delist`](Self::delist)ed.
    pub(super) fn list(&self, worker: Arc<dyn Child>) {
        self.workers.lock().insert(worker.number(), worker);
    }

    /// Nothing but how it ended is kept of a worker that has ended for good.
    pub(super) fn delist(&self, number: u64, exit: &Exit) {
        let Some(worker) = self.workers.lock().remove(&number) else { return };
        let last =
            WorkerState { phase: WorkerPhase::Ended, last_exit: Some(exit.to_string()), ..worker.state() };
        keep(&mut self.ended.lock(), last);
    }

    pub(super) fn states(&self) -> Vec<WorkerState> {
        // Not under the lock: with ten thousand workers it takes a while, and supervisors need the list.
        let workers: Vec<_> = self.workers.lock().values().cloned().collect();
        workers.iter().map(|worker| worker.state()).collect()
    }

    /// The last workers that have ended for good, oldest first.
    pub(super) fn ended(&self) -> Vec<WorkerState> {
        self.ended.lock().iter().cloned().collect()
    }

    /// Lists a life until its stay is over.
    pub(super) fn left_behind(&self, life: LeftBehind, stay: Weak<Stay>) {
        let mut lives = self.left_behind.lock();
        lives.retain(|(_, stay)| stay.strong_count() > 0);
        lives.push((life, stay));
    }

    /// The lives left behind that have not returned yet, in the order in which they were.
    pub(super) fn lives_left_behind(&self) -> Vec<LeftBehind> {
        let lives = self.left_behind.lock();
        lives.iter().filter(|(_, stay)| stay.strong_count() > 0).map(|(life, _)| life.clone()).collect()
    }

    pub(super) fn dead_letter(&self, worker: &Arc<str>, message_type: &'static str, reason: Reason) {
        self.counts.dead_letters.inc();
        tracing::warn!(%worker, message = message_type, %reason, "dead letter");
        let letter = DeadLetter { at: self.clock.now(), worker: Arc::clone(worker), message_type, reason };
        keep(&mut self.letters.lock(), letter);
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.letters.lock().iter().cloned().collect()
    }

    /// Notes what supervision did.
    pub(super) fn note(&self, name: &Arc<str>, kind: EventKind) {
        self.events.push(self.clock.now(), name, kind);
    }

    pub(super) fn restarted(&self) {
        self.counts.restarts.inc();
    }

    pub(super) fn abandoned(&self) {
        self.counts.abandoned.inc();
    }

    pub(super) fn late_reply(&self) {
        self.counts.late_replies.inc();
    }

    pub(super) fn cancelled(&self) {
        self.counts.cancelled.inc();
    }

    pub(super) fn counters(&self) -> Counters {
        let read = Counter::get;
        Counters {
            restarts: read(&self.counts.restarts),
            abandoned: read(&self.counts.abandoned),
            late_replies: read(&self.counts.late_replies),
            cancelled: read(&self.counts.cancelled),
            dead_letters: read(&self.counts.dead_letters),
        }
    }
}

/// Adds one, in place of the oldest where there are many.
fn keep<T>(kept: &mut VecDeque<T>, one: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(one);
}
