//! The thread a runtime's supervisors live on, and the verbs that reach them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle};
use tokio::sync::oneshot;

use super::cell::Factory;
use super::child::{WorkerChild, WorkerState};
use super::core::{Core, Counters, DeadLetter};
use super::cx::Cx;
use super::exit::Exit;
use super::group::{Group, Rank};
use super::mailbox::Mailbox;
use super::member::LeftBehind;
use super::message::Worker;
use super::order::{Adoption, Order};
use super::places::Places;
use super::shared::Shared;
use super::spec::{GroupSpec, Spec, SupervisorSpec};
use super::supervisor::SupervisorActor;
use crate::BoxError;
use crate::clock::Clock;
use crate::error::{CoreError, Result};
use crate::metrics::Metrics;
use crate::resource::{Lease, ResourceError, ResourcePool, Resources, Share};
use crate::runtime::RuntimeConfig;
use crate::state::Events;
use crate::trace::Timeline;
use parking_lot::Mutex;

/// Owns the system thread; dropping it ends every worker and joins every thread.
pub(crate) struct System {
    handle: SystemHandle,
    thread: Option<thread::JoinHandle<()>>,
    grace: Duration,
}

/// Reaches the system from anywhere, also from inside workers; does not keep it alive.
#[derive(Clone)]
pub(crate) struct SystemHandle {
    core: Arc<Core>,
    places: Arc<Places>,
    arbiter: ArbiterHandle,
    supervisors: Arc<Supervisors>,
}

/// The supervisors nobody supervises.
#[derive(Default)]
struct Supervisors(Mutex<Roster>);

#[derive(Default)]
struct Roster {
    closed: bool,
    next: u64,
    top: HashMap<u64, Addr<SupervisorActor>>,
}

impl System {
    pub(crate) fn start(config: RuntimeConfig) -> Result<Self> {
        let RuntimeConfig { clock, shutdown_grace: grace, .. } = config.clone();
        let core = Arc::new(Core::new(&config)?);
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("air-system".into())
            .spawn(move || {
                let runner = actix::System::new();
                let arbiter = actix::System::current().arbiter().clone();
                runner.block_on(async move {
                    actix::spawn(async move { clock.drive().await });
                });
                if ready.send(arbiter).is_ok()
                    && let Err(error) = runner.run()
                {
                    tracing::error!(%error, "the supervisors' thread ended badly");
                }
            })
            .map_err(|source| CoreError::Thread { source })?;
        let arbiter = is_ready
            .recv()
            .map_err(|_| CoreError::Thread { source: std::io::Error::other("it ended while starting") })?;
        let handle = SystemHandle {
            core,
            places: Arc::new(Places::new(config.shared_threads.max(1))),
            arbiter,
            supervisors: Arc::default(),
        };
        Ok(Self { handle, thread: Some(thread), grace })
    }

    pub(crate) fn handle(&self) -> &SystemHandle {
        &self.handle
    }

    /// Changes how long workers may take to end.
    pub(crate) fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.handle.core.resources.close();
        let top = {
            let mut roster = self.handle.supervisors.0.lock();
            roster.closed = true;
            std::mem::take(&mut roster.top)
        };
        let (places, core, grace) =
            (Arc::clone(&self.handle.places), Arc::clone(&self.handle.core), self.grace);
        self.handle.arbiter.spawn(async move {
            let abandoned = core.counters().abandoned;
            if tokio::time::timeout(grace, ended(top.values().map(shutdown))).await.is_err() {
                for supervisor in top.values() {
                    supervisor.do_send(Order::AbandonAll(grace));
                }
                // Nobody runs any more, and supervisors run nothing that could hold them up: each has ended when those under it say so.
                ended(top.values().map(shutdown)).await;
            }
            places.close(core.counters().abandoned > abandoned);
            actix::System::current().stop();
        });
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // An error is a panic of ours on that thread, which the panic hook has reported.
            let _ = thread.join();
        }
    }
}

fn shutdown(supervisor: &Addr<SupervisorActor>) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    supervisor.do_send(Order::Shutdown(done));
    is_done
}

/// A supervisor that has ended already drops the sender, which is an answer too.
async fn ended(ends: impl Iterator<Item = oneshot::Receiver<()>>) {
    futures::future::join_all(ends).await;
}

impl SystemHandle {
    /// Runs a closure where threads for workers can be made.
    pub(super) fn on_system_thread(&self, run: impl FnOnce(&Places) + Send + 'static) {
        let places = Arc::clone(&self.places);
        self.arbiter.spawn_fn(move || run(&places));
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.core.clock
    }

    pub(crate) fn counters(&self) -> Counters {
        self.core.counters()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    pub(crate) fn resources(&self) -> &ResourcePool {
        &self.core.resources
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.core.timeline
    }

    pub(crate) fn events(&self) -> &Events {
        &self.core.events
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.core.dead_letters()
    }

    pub(crate) fn ended(&self) -> Vec<WorkerState> {
        self.core.ended()
    }

    pub(crate) fn left_behind(&self) -> Vec<LeftBehind> {
        self.core.lives_left_behind()
    }

    pub(crate) fn workers(&self) -> Vec<WorkerState> {
        self.core.states()
    }

    pub(crate) fn spawn<W: Worker>(&self, spec: Spec, factory: Factory<W>) -> Result<Mailbox<W>> {
        self.validate(&spec, 1)?;
        Ok(self.supervisor(SupervisorSpec::solo(Arc::clone(&spec.name)))?.adopt(spec, factory))
    }

    pub(crate) fn get_or_start<W: Worker>(&self, spec: Spec, factory: Factory<W>) -> Result<Mailbox<W>> {
        self.validate(&spec, 1)?;
        if let Some(worker) = self.core.names.find(&spec.name)? {
            return Ok(Mailbox::new(worker));
        }
        let supervisor = self.supervisor(SupervisorSpec::solo(Arc::clone(&spec.name)))?;
        let claimed = supervisor.claim(spec, factory);
        if !matches!(claimed, Ok((_, true))) {
            // Someone else was faster: there is nothing to supervise.
            supervisor.address.do_send(Order::Close(Exit::Normal));
        }
        claimed.map(|(mailbox, _)| mailbox)
    }

    pub(crate) fn find<W: Worker>(&self, name: &str) -> Result<Option<Mailbox<W>>> {
        Ok(self.core.names.find(name)?.map(Mailbox::new))
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<Arc<str>> {
        self.core.names.within(prefix)
    }

    pub(crate) fn supervisor(&self, spec: SupervisorSpec) -> Result<Supervisor> {
        let mut roster = self.supervisors.0.lock();
        if roster.closed {
            return Err(CoreError::Stopped);
        }
        let number = roster.next;
        roster.next += 1;
        let supervisor = self.start(spec, Some((Arc::downgrade(&self.supervisors), number)));
        roster.top.insert(number, supervisor.address.clone());
        Ok(supervisor)
    }

    pub(crate) fn group<W: Worker>(
        &self,
        spec: GroupSpec,
        factory: impl Fn(Rank) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Group<W>> {
        if spec.size == 0 {
            let message = format!("group `{}`: a group needs at least one worker", spec.worker.name);
            return Err(CoreError::Config { message });
        }
        self.validate(&spec.worker, spec.size)?;
        let supervisor = self.supervisor(spec.supervisor)?;
        let factory = Arc::new(factory);
        let world = Arc::new(AtomicUsize::new(spec.size));
        let resources = spec.worker.resources.clone();
        let member = {
            let world = Arc::clone(&world);
            move |rank: usize| {
                let worker =
                    Spec { name: format!("{}/{rank}", spec.worker.name).into(), ..spec.worker.clone() };
                let (factory, world) = (Arc::clone(&factory), Arc::clone(&world));
                let build: Factory<W> = Arc::new(move |_: &mut Cx<W>| {
                    factory(Rank { rank, world: world.load(Ordering::Relaxed) })
                });
                (worker, build)
            }
        };
        let ranks = (0..spec.size).map(|rank| {
            let (worker, build) = member(rank);
            supervisor.ready(worker, build)
        });
        let (ranks, adoptions) = ranks.unzip();
        supervisor.enlist(adoptions, resources.as_ref());
        let add = move |rank| {
            let (worker, build) = member(rank);
            supervisor.system.validate(&worker, 1)?;
            Ok(supervisor.adopt(worker, build))
        };
        Ok(Group::new(ranks, world, Box::new(add)))
    }

    /// Refuses what cannot be run, and what so many of can never be given resources.
    fn validate(&self, spec: &Spec, workers: usize) -> Result<()> {
        spec.validate()?;
        if let Some(resources) = &spec.resources {
            self.core.resources.check_gang(resources, workers)?;
        }
        Ok(())
    }

    fn start(&self, spec: SupervisorSpec, top: Option<(std::sync::Weak<Supervisors>, u64)>) -> Supervisor {
        let name = Arc::clone(&spec.name);
        let (core, places) = (Arc::clone(&self.core), Arc::clone(&self.places));
        let on_end = OnEnd(top);
        let address = SupervisorActor::start_in_arbiter(&self.arbiter, move |_| {
            SupervisorActor::new(spec, core, places, on_end)
        });
        Supervisor { name, address, system: self.clone() }
    }
}

/// Strikes a supervisor off the roster when it is dropped.
pub(super) struct OnEnd(Option<(std::sync::Weak<Supervisors>, u64)>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        if let Some((supervisors, number)) = self.0.take()
            && let Some(supervisors) = supervisors.upgrade()
        {
            supervisors.0.lock().top.remove(&number);
        }
    }
}

/// Supervises the workers and supervisors started through it, as its [`SupervisorSpec`] says.
///
/// Dropping this value changes nothing: supervision goes on until the runtime ends.
#[derive(Clone)]
pub struct Supervisor {
    name: Arc<str>,
    address: Addr<SupervisorActor>,
    system: SystemHandle,
}

impl Supervisor {
    /// Starts a worker under this supervisor. The factory runs on the worker's thread, and again for each restart.
    pub fn spawn<W: Worker>(
        &self,
        spec: Spec,
        factory: impl Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Mailbox<W>> {
        self.system.validate(&spec, 1)?;
        Ok(self.adopt(spec, Arc::new(factory)))
    }

    /// Starts a supervisor under this one: when it gives up, this one restarts it with everything under it, or gives up too.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Result<Self> {
        if self.system.supervisors.0.lock().closed {
            return Err(CoreError::Stopped);
        }
        let child = self.system.start(spec, None);
        self.address.do_send(Order::AdoptSupervisor(child.address.clone(), Arc::clone(&child.name)));
        Ok(child)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// [`RuntimeHandle::get_or_start`](crate::RuntimeHandle::get_or_start), under this supervisor if it is to be started.
    pub fn get_or_start<W: Worker>(
        &self,
        spec: Spec,
        factory: impl Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync + 'static,
    ) -> Result<Mailbox<W>> {
        self.system.validate(&spec, 1)?;
        self.claim(spec, Arc::new(factory)).map(|(mailbox, _)| mailbox)
    }

    /// The worker of this name, started if nobody has it; says whether it was.
    fn claim<W: Worker>(&self, spec: Spec, factory: Factory<W>) -> Result<(Mailbox<W>, bool)> {
        let name = Arc::clone(&spec.name);
        let (shared, is_new) = self.system.core.names.claim(&name, || self.shared(spec))?;
        if is_new {
            let resources = shared.spec.resources.clone();
            self.enlist(vec![Self::adoption(Arc::clone(&shared), factory)], resources.as_ref());
        }
        Ok((Mailbox::new(shared), is_new))
    }

    fn adopt<W: Worker>(&self, spec: Spec, factory: Factory<W>) -> Mailbox<W> {
        let resources = spec.resources.clone();
        let (mailbox, adoption) = self.ready(spec, factory);
        self.enlist(vec![adoption], resources.as_ref());
        mailbox
    }

    /// A worker that is not under the supervisor yet.
    fn ready<W: Worker>(&self, spec: Spec, factory: Factory<W>) -> (Mailbox<W>, Adoption) {
        let shared = Arc::new(self.shared(spec));
        let adoption = Self::adoption(Arc::clone(&shared), factory);
        (Mailbox::new(shared), adoption)
    }

    fn adoption<W: Worker>(shared: Arc<Shared<W>>, factory: Factory<W>) -> Adoption {
        Adoption::new(Arc::new(WorkerChild { shared, factory }))
    }

    /// Puts workers under the supervisor once they have their resources: all of them at once, so that no two groups that have half of
    /// theirs wait for each other.
    fn enlist(&self, adoptions: Vec<Adoption>, resources: Option<&Resources>) {
        let (address, workers) = (self.address.clone(), adoptions.len());
        let Some(resources) = resources else {
            return adoptions.into_iter().for_each(|adoption| address.do_send(Order::Adopt(adoption)));
        };
        let granted = move |lease: Result<Lease, ResourceError>| {
            // Refused, as the runtime has ended: a dropped adoption closes its mailbox.
            let Ok(lease) = lease.map(Arc::new) else { return };
            for (bundle, adoption) in adoptions.into_iter().enumerate() {
                address.do_send(Order::Adopt(adoption.holding(Share::new(Arc::clone(&lease), bundle))));
            }
        };
        self.system.core.resources.when_free(Arc::clone(&self.name), resources, workers, granted);
    }

    fn shared<W: Worker>(&self, spec: Spec) -> Shared<W> {
        Shared::new(spec, Arc::clone(&self.system.core), self.address.downgrade())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("name", &self.name).finish_non_exhaustive()
    }
}
