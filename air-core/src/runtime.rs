//! The runtime: a value that owns every thread it makes (A7).

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::BoxError;
use crate::actor::{
    Counters, Cx, DeadLetter, Group, GroupSpec, Mailbox, Rank, Spec, Supervisor, SupervisorSpec, System,
    SystemHandle, Worker, WorkerState,
};
use crate::clock::Clock;
use crate::device;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::object::{ObjectConfig, Store};
use crate::resource::{Acquire, Placement, PlacementGroup, ResourcePool, ResourceState, Resources};
use crate::state::{self, Events, Services, State, StateConfig, StateServer};
use crate::task::{Pool, Shared, TaskConfig};
use crate::trace::{self, Timeline};

/// How a runtime is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// Threads of the pool that shared workers live on (default: one for each processor).
    pub shared_threads: usize,
    /// How long workers may take to end when the runtime is dropped; then they are left behind with their thread (default 5 s).
    pub shutdown_grace: Duration,
    /// The time its supervisors, deadlines and stall limits go by (default: the system's).
    pub clock: Clock,
    /// What requests for resources are granted out of (default: what the machine has, found out when first asked for).
    pub resources: Option<Resources>,
    /// The most spans the timeline keeps (default 65 536, about 6 MiB once it is full).
    pub timeline_spans: usize,
    /// The threads tasks run on.
    pub tasks: TaskConfig,
    /// The memory objects may have.
    pub objects: ObjectConfig,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        let shared_threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shutdown_grace = Duration::from_secs(5);
        Self {
            shared_threads,
            shutdown_grace,
            clock: Clock::system(),
            resources: None,
            timeline_spans: trace::DEFAULT_SPANS,
            tasks: TaskConfig::default(),
            objects: ObjectConfig::default(),
        }
    }
}

impl RuntimeConfig {
    /// Sets the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many threads shared workers live on.
    pub fn shared_threads(mut self, threads: usize) -> Self {
        self.shared_threads = threads;
        self
    }

    /// Sets what requests for resources are granted out of: GPUs are those of the lowest indices.
    pub fn resources(mut self, total: Resources) -> Self {
        self.resources = Some(total);
        self
    }

    /// Sets how many spans the timeline keeps.
    pub fn timeline_spans(mut self, spans: usize) -> Self {
        self.timeline_spans = spans;
        self
    }

    /// Sets how long workers may take to end when the runtime is dropped.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// Sets the threads tasks run on.
    pub fn tasks(mut self, tasks: TaskConfig) -> Self {
        self.tasks = tasks;
        self
    }

    /// Sets the memory objects may have.
    pub fn objects(mut self, objects: ObjectConfig) -> Self {
        self.objects = objects;
        self
    }
}

/// Runs workers. There may be several in a process; they share nothing.
///
/// Dropping it ends every worker after its current message and every task that has not begun, answers every waiting caller, and joins
/// every thread.
///
/// ```
/// use air_core::{BoxError, Cx, Handle, Message, Runtime, Spec, Worker};
///
/// struct Add(i64);
/// impl Message for Add {
///     type Reply = i64;
/// }
///
/// struct Counter(i64);
/// impl Worker for Counter {}
/// impl Handle<Add> for Counter {
///     fn handle(&mut self, Add(n): Add, _: &mut Cx<Self>) -> Result<i64, BoxError> {
///         self.0 += n;
///         Ok(self.0)
///     }
/// }
///
/// let runtime = Runtime::start()?;
/// let counter = runtime.spawn(Spec::new("counter"), |_| Ok(Counter(0)))?;
/// counter.tell_blocking(Add(2))?;
/// assert_eq!(counter.ask_blocking(Add(3))?, 5);
/// # Ok::<(), BoxError>(())
/// ```
pub struct Runtime {
    system: System,
    pool: Pool,
    handle: RuntimeHandle,
}

impl Runtime {
    /// Starts a runtime with the defaults.
    pub fn start() -> Result<Self> {
        Self::with(RuntimeConfig::default())
    }

    /// Starts a runtime.
    pub fn with(config: RuntimeConfig) -> Result<Self> {
        let (tasks, objects, grace) = (config.tasks.clone(), config.objects.clone(), config.shutdown_grace);
        let system = System::start(config)?;
        let known = system.handle();
        let (clock, resources, timeline) =
            (known.clock().clone(), known.resources().clone(), known.timeline().clone());
        let pool = Pool::new(tasks, clock, Store::new(objects), resources, timeline, grace);
        let handle = RuntimeHandle {
            system: system.handle().clone(),
            services: Arc::new(Services::new()),
            tasks: Arc::clone(pool.shared()),
        };
        Ok(Self { system, pool, handle })
    }

    /// Ends the runtime as dropping it does, with another [`shutdown_grace`](RuntimeConfig::shutdown_grace) than it was started with: what is left of
    /// a deadline, say.
    pub fn shutdown_within(mut self, grace: Duration) {
        self.system.set_grace(grace);
        self.pool.set_grace(grace);
    }

    /// A handle with the same verbs, for use inside workers. It does not keep the runtime alive.
    pub fn handle(&self) -> RuntimeHandle {
        self.handle.clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Whoever looks on goes first.
        self.handle.services.close();
        // Before workers and threads are waited for: they may wait for tasks that would never begin.
        self.pool.close();
    }
}

impl std::ops::Deref for Runtime {
    type Target = RuntimeHandle;

    fn deref(&self) -> &RuntimeHandle {
        &self.handle
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.system.handle().workers().len())
            .finish_non_exhaustive()
    }
}

/// A runtime's verbs; see [`Runtime::handle`]. Once the runtime is gone they return [`CoreError::Stopped`](crate::CoreError::Stopped).
#[derive(Clone)]
pub struct RuntimeHandle {
    system: SystemHandle,
    services: Arc<Services>,
    tasks: Arc<Shared>,
}

impl RuntimeHandle {
    /// Starts a worker under a supervisor of its own (at most 10 restarts a minute). The factory runs on the worker's thread, and again for
    /// each restart.
    ///
    /// Returns at once: messages wait until the worker has started. Should it never start, they come back with the reason.
    pub fn spawn<W: Worker>(
        &self,
        spec: Spec,
        factory: impl Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Mailbox<W>> {
        self.system.spawn(spec, Arc::new(factory))
    }

    /// The worker whose name is `spec.name`, started if there is none: of any number of callers at once, exactly one starts it, and all
    /// get the same worker.
    ///
    /// A name is one string; by convention what comes before its last `/` is its namespace (`trial-7/replay`). It is free again when
    /// the worker has ended for good, as [`Mailbox::ended`] says. Workers that were [`spawn`](Self::spawn)ed have no such name.
    ///
    /// # Errors
    /// [`CoreError::NameTaken`](crate::CoreError::NameTaken) if a worker of another type has the name. An existing worker is returned as
    /// it runs; `spec` and `factory` say only how a new one would.
    pub fn get_or_start<W: Worker>(
        &self,
        spec: Spec,
        factory: impl Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Mailbox<W>> {
        self.system.get_or_start(spec, Arc::new(factory))
    }

    /// The worker that [`get_or_start`](Self::get_or_start) gave this name, if it has not ended for good.
    ///
    /// # Errors
    /// [`CoreError::NameTaken`](crate::CoreError::NameTaken) if it is of another type.
    pub fn find<W: Worker>(&self, name: &str) -> Result<Option<Mailbox<W>>> {
        self.system.find(name)
    }

    /// The names in use that begin with `prefix`, in order: a namespace's with `"namespace/"`, all with `""`.
    pub fn names(&self, prefix: &str) -> Vec<Arc<str>> {
        self.system.names(prefix)
    }

    /// Starts a supervisor.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Result<Supervisor> {
        self.system.supervisor(spec)
    }

    /// Starts a group of ranked workers.
    pub fn group<W: Worker>(
        &self,
        spec: GroupSpec,
        factory: impl Fn(Rank) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Group<W>> {
        self.system.group(spec, factory)
    }

    pub(crate) fn system(&self) -> &SystemHandle {
        &self.system
    }

    pub(crate) fn tasks(&self) -> &Arc<Shared> {
        &self.tasks
    }

    /// The runtime's clock.
    pub fn clock(&self) -> &Clock {
        self.system.clock()
    }

    /// How often things went wrong so far.
    pub fn counters(&self) -> Counters {
        self.system.counters()
    }

    /// The runtime's metrics; what is registered here is scraped with the runtime's own.
    pub fn metrics(&self) -> &Metrics {
        self.system.metrics()
    }

    /// The last messages that nobody handled and no sender took back (at most 64).
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.system.dead_letters()
    }

    /// What there is to be had, what is free, who holds it and who waits for what.
    pub fn resources(&self) -> ResourceState {
        self.system.resources().state()
    }

    /// Asks for resources; the lease gives them back when it is dropped. A request that can never be granted is refused at once.
    pub fn acquire(&self, resources: Resources) -> Acquire {
        self.system.resources().acquire(resources)
    }

    /// Asks for several bundles of resources at once: all of them are granted together, or none is.
    pub fn place(&self, rule: Placement, bundles: &[Resources]) -> Acquire<PlacementGroup> {
        self.system.resources().place(rule, bundles)
    }

    /// The books that [`acquire`](Self::acquire) and [`place`](Self::place) write in, to hand on to others.
    pub fn resource_pool(&self) -> &ResourcePool {
        self.system.resources()
    }

    /// What was handled when; off until it is started.
    pub fn timeline(&self) -> &Timeline {
        self.system.timeline()
    }

    /// What the runtime does now: workers, tasks, objects, resources, devices, counters, what supervision did lately.
    pub fn state(&self) -> State {
        State {
            at: self.clock().now(),
            workers: self.workers(),
            ended: self.system.ended(),
            left_behind: self.system.left_behind(),
            tasks: self.task_stats(),
            objects: self.objects(),
            resources: self.resources(),
            devices: device::report(),
            counters: self.counters(),
            events: self.events().last(state::SHOWN),
        }
    }

    /// Serves the state on a port of this machine until the runtime ends; see [`state`].
    pub fn serve_state(&self, config: StateConfig) -> Result<StateServer> {
        self.services.serve_state(self.clone(), config)
    }

    pub(crate) fn events(&self) -> &Events {
        self.system.events()
    }

    /// What every worker is doing now, in order of start.
    pub fn workers(&self) -> Vec<WorkerState> {
        self.system.workers()
    }
}

impl fmt::Debug for RuntimeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeHandle").finish_non_exhaustive()
    }
}
