//! How a worker, a supervisor and a group are to be run.

use std::sync::Arc;
use std::time::Duration;

use super::queue::Full;
use super::restart::{Backoff, Restart, Strategy};
use crate::error::{CoreError, Result};
use crate::resource::Resources;

/// Most messages a mailbox may be asked to hold.
const MAX_CAPACITY: usize = 1 << 20;

/// How one worker is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Spec {
    /// What it is called in errors, logs and listings.
    pub name: Arc<str>,
    /// Messages that may wait, not counting the one being handled; as many urgent ones besides (default 64).
    pub capacity: usize,
    /// Asks that may be unanswered at any time, waiting for room included; one more is refused at once (default: no limit, asks wait for
    /// room).
    pub max_pending: Option<usize>,
    /// Calls of [`HandleAsync`](super::HandleAsync) that may be in progress, those of groups aside (default 1000).
    pub max_concurrency: usize,
    /// The same for those of each concurrency group (default: no groups).
    pub concurrency_groups: Vec<(Arc<str>, usize)>,
    /// Whether it shares a pool of threads with other light workers, whose handlers must not block (default: a thread of its own).
    pub shared: bool,
    /// How long one message, or the start, may take before the worker is abandoned and replaced (default: for ever).
    pub stall: Option<Duration>,
    /// When it is restarted (default: after a failure).
    pub restart: Restart,
    /// What it holds of the machine all its lives; it starts once this is granted (default: nothing).
    pub resources: Option<Resources>,
}

impl Spec {
    /// A worker of this name, with the defaults.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            capacity: 64,
            max_pending: None,
            max_concurrency: 1000,
            concurrency_groups: Vec::new(),
            shared: false,
            stall: None,
            restart: Restart::default(),
            resources: None,
        }
    }

    /// Sets how many messages may wait.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Refuses asks at once when so many are unanswered, with [`Reason::TooManyPending`](super::Reason::TooManyPending) and the message
    /// back, instead of letting them wait.
    pub fn max_pending(mut self, asks: usize) -> Self {
        self.max_pending = Some(asks);
        self
    }

    /// Sets how many async calls of no group may be in progress.
    pub fn max_concurrency(mut self, calls: usize) -> Self {
        self.max_concurrency = calls;
        self
    }

    /// Adds a concurrency group: up to `calls` async calls of the messages that name it may be in progress, and as many of them may wait
    /// as the capacity says, whatever the others do.
    pub fn concurrency_group(mut self, name: impl Into<Arc<str>>, calls: usize) -> Self {
        self.concurrency_groups.push((name.into(), calls));
        self
    }

    /// Runs it on the pool of threads for light workers.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Sets the stall limit.
    pub fn stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// Sets what it holds of the machine, from before its first start until it has ended for good. Its GPUs are
    /// [`Cx::devices`](super::Cx::devices).
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = Some(resources);
        self
    }

    /// Sets when it is restarted.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        let refuse =
            |what: &str| Err(CoreError::Config { message: format!("worker `{}`: {what}", self.name) });
        if self.capacity == 0 || self.capacity > MAX_CAPACITY {
            return refuse(&format!("capacity {} is not within 1..={MAX_CAPACITY}", self.capacity));
        }
        if self.max_pending == Some(0) {
            return refuse("a `max_pending` of zero would refuse every ask");
        }
        if self.concurrency_groups.len() >= Full::GROUPS {
            return refuse(&format!("more than {} concurrency groups", Full::GROUPS - 1));
        }
        let limits = self.concurrency_groups.iter().map(|(_, limit)| *limit);
        if limits.chain([self.max_concurrency]).any(|limit| limit == 0) {
            return refuse("a concurrency limit of zero would let no async call begin");
        }
        match self.stall {
            Some(_) if self.shared => refuse(
                "a shared worker cannot have a stall limit: abandoning it would abandon its neighbours on the thread",
            ),
            Some(limit) if limit.is_zero() => refuse("a stall limit of zero would abandon every message"),
            _ => Ok(()),
        }
    }
}

/// How a supervisor treats the workers under it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SupervisorSpec {
    /// What it is called.
    pub name: Arc<str>,
    /// Who shares a failed worker's fate.
    pub strategy: Strategy,
    /// Restarts allowed within the window; one more and it gives up.
    pub intensity: usize,
    /// The window of the intensity.
    pub window: Duration,
    /// The delay before a restart.
    pub backoff: Backoff,
    /// Seeds the back-off's jitter.
    pub seed: u64,
    /// How long a worker that is stopped for a sibling's sake may take over its current message before it is abandoned.
    pub stop_limit: Duration,
    /// Whether it was made for one worker, and ends with it.
    pub(super) solo: bool,
}

impl SupervisorSpec {
    /// One-for-one, at most 10 restarts in 60 seconds, default back-off.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::OneForOne,
            intensity: 10,
            window: Duration::from_mins(1),
            backoff: Backoff::default(),
            seed: 0,
            stop_limit: Duration::from_secs(30),
            solo: false,
        }
    }

    /// The supervisor of a worker spawned by itself.
    pub(super) fn solo(name: Arc<str>) -> Self {
        Self { solo: true, ..Self::new(name) }
    }

    /// Sets the strategy.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Allows `restarts` within `window`.
    pub fn intensity(mut self, restarts: usize, window: Duration) -> Self {
        self.intensity = restarts;
        self.window = window;
        self
    }

    /// Sets how long a sibling may take to stop.
    pub fn stop_limit(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    /// Sets the delays between restarts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// How a group of ranked workers is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupSpec {
    /// How many workers.
    pub size: usize,
    /// How they are supervised.
    pub supervisor: SupervisorSpec,
    /// How each is run; ranks are named `name/0`, `name/1` and so on.
    pub worker: Spec,
}

impl GroupSpec {
    /// `size` workers under a one-for-all supervisor.
    pub fn new(name: impl Into<Arc<str>>, size: usize) -> Self {
        let name = name.into();
        let supervisor = SupervisorSpec::new(Arc::clone(&name)).strategy(Strategy::OneForAll);
        Self { size, supervisor, worker: Spec::new(name) }
    }

    /// Changes how the group is supervised.
    pub fn supervisor(mut self, change: impl FnOnce(SupervisorSpec) -> SupervisorSpec) -> Self {
        self.supervisor = change(self.supervisor);
        self
    }

    /// Changes how each worker is run.
    pub fn worker(mut self, change: impl FnOnce(Spec) -> Spec) -> Self {
        self.worker = change(self.worker);
        self
    }
}
