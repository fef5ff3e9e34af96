//! Whom a supervisor supervises: the lives of one worker, or of one supervisor under it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::Addr;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::child::Child;
use super::core::Core;
use super::exit::Exit;
use super::order::Order;
use super::places::{Place, Places};
use super::restart::ChildId;
use super::supervisor::SupervisorActor;
use crate::clock::seconds;
use crate::device::Device;
use crate::resource::{Resources, Share};
use crate::state::EventKind;

pub(super) struct Member {
    kind: Kind,
    /// Its number in its supervisor.
    child: ChildId,
    generation: u64,
    running: bool,
    /// Stopped for a sibling's sake or with its supervisor, not by itself.
    swept: bool,
    /// Raised with every start scheduled or called off; a start that was scheduled under an older one is void.
    ticket: u64,
    place: Option<Place>,
    /// Watches over the present life; they end with it.
    watches: Vec<JoinHandle<()>>,
    /// What it holds of the machine, until it is closed and each of its lives has let go of it.
    lease: Option<Share>,
    /// The present life's stay.
    stay: Weak<Stay>,
}

/// One life on its thread, until it has let go of the worker. A life left behind may use what it was given long after the worker was closed.
pub(super) struct Stay {
    _lease: Option<Share>,
}

/// A life that did not return within its limit and still has not: its thread runs, and the worker's resources are given to nobody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftBehind {
    /// The worker's name.
    pub name: Arc<str>,
    /// Which life; the first is 1.
    pub generation: u64,
    /// When it was left behind, on the runtime's clock (serialised in seconds).
    #[serde(with = "seconds")]
    pub at: Duration,
    /// What the worker holds of the machine.
    pub resources: Resources,
    /// The GPUs among it.
    pub devices: Vec<Device>,
}

enum Kind {
    Worker(Arc<dyn Child>),
    Supervisor(Addr<SupervisorActor>, Arc<str>),
}

impl Member {
    pub(super) fn worker(child: ChildId, worker: Arc<dyn Child>, lease: Option<Share>, core: &Core) -> Self {
        core.list(Arc::clone(&worker));
        Self { lease, ..Self::new(child, Kind::Worker(worker)) }
    }

    pub(super) fn supervisor(child: ChildId, address: Addr<SupervisorActor>, name: Arc<str>) -> Self {
        Self::new(child, Kind::Supervisor(address, name))
    }

    fn new(child: ChildId, kind: Kind) -> Self {
        Self {
            kind,
            child,
            generation: 0,
            running: false,
            swept: false,
            ticket: 0,
            place: None,
            watches: Vec::new(),
            lease: None,
            stay: Weak::new(),
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        match &self.kind {
            Kind::Worker(worker) => Arc::clone(&worker.spec().name),
            Kind::Supervisor(_, name) => Arc::clone(name),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// Whether this life is the present one. A supervisor's lives are told apart by its parent alone.
    pub(super) fn is_present(&self, generation: u64) -> bool {
        self.running && (generation == self.generation || matches!(self.kind, Kind::Supervisor(..)))
    }

    pub(super) fn is_swept(&self) -> bool {
        self.swept
    }

    pub(super) fn asked_to_end(&self) -> bool {
        match &self.kind {
            Kind::Worker(worker) => worker.asked_to_end(),
            Kind::Supervisor(..) => false,
        }
    }

    /// Starts a fresh life.
    pub(super) fn start(&mut self, supervisor: &Addr<SupervisorActor>, core: &Arc<Core>, places: &Places) {
        self.generation += 1;
        self.ticket += 1;
        self.running = true;
        self.swept = false;
        let (child, generation) = (self.child, self.generation);
        if generation > 1 {
            core.restarted();
        }
        let worker = match &self.kind {
            Kind::Supervisor(supervisor, _) => {
                if generation > 1 {
                    supervisor.do_send(Order::Revive);
                }
                return;
            }
            Kind::Worker(worker) => worker,
        };
        let kind = if generation > 1 { EventKind::Restarted { generation } } else { EventKind::Started };
        core.note(&worker.spec().name, kind);
        let place = match places.take(worker.spec().shared) {
            Ok(place) => place,
            Err(error) => {
                let exit = Exit::failed(Box::new(error));
                supervisor.do_send(Order::Exited { child, generation, exit });
                return;
            }
        };
        let stay = Arc::new(Stay { _lease: self.lease.clone() });
        self.stay = Arc::downgrade(&stay);
        let report = {
            let supervisor = supervisor.clone();
            Box::new(move |generation, exit| {
                drop(stay);
                supervisor.do_send(Order::Exited { child, generation, exit });
            })
        };
        worker.launch(generation, &place.handle(), report);
        self.place = Some(place);
        if let Some(limit) = worker.spec().stall {
            let overdue = Order::Overdue { child, generation, limit };
            let watch = watch(Arc::clone(worker), Arc::clone(core), limit, supervisor.clone(), overdue);
            self.watches.push(actix::spawn(watch));
        }
    }

    /// Starts a fresh life after a pause, unless something else happens to the member meanwhile.
    pub(super) fn start_after(&mut self, pause: Duration, supervisor: Addr<SupervisorActor>, core: &Core) {
        self.ticket += 1;
        let due = Order::StartDue { child: self.child, ticket: self.ticket };
        let pause = core.clock.sleep(pause);
        actix::spawn(async move {
            pause.await;
            supervisor.do_send(due);
        });
    }

    pub(super) fn is_due(&self, ticket: u64) -> bool {
        self.ticket == ticket
    }

    /// Calls off a start that was scheduled.
    pub(super) fn call_off(&mut self) {
        self.ticket += 1;
    }

    /// Stops the present life after its current message; if that takes longer than the limit, it is overdue.
    pub(super) fn sweep(&mut self, limit: Duration, address: Addr<SupervisorActor>, core: &Core) {
        self.swept = true;
        match &self.kind {
            Kind::Supervisor(supervisor, _) => supervisor.do_send(Order::Halt),
            Kind::Worker(worker) => {
                worker.interrupt();
                self.overdue_after(limit, address, core);
            }
        }
    }

    /// Whether it is the worker of this number.
    pub(super) fn is_number(&self, number: u64) -> bool {
        matches!(&self.kind, Kind::Worker(worker) if worker.number() == number)
    }

    /// If the present life is not over within the limit, it is overdue.
    pub(super) fn overdue_after(&mut self, limit: Duration, address: Addr<SupervisorActor>, core: &Core) {
        let over = core.clock.sleep(limit);
        let overdue = Order::Overdue { child: self.child, generation: self.generation, limit };
        self.watches.push(actix::spawn(async move {
            over.await;
            address.do_send(overdue);
        }));
    }

    /// Tells who watches that a life has ended and another may follow.
    pub(super) fn tell_watchers(&self, exit: &Exit) {
        if let Kind::Worker(worker) = &self.kind {
            worker.tell_watchers(exit);
        }
    }

    /// Books the end of the present life.
    pub(super) fn ended(&mut self, exit: &Exit) {
        self.running = false;
        for watch in self.watches.drain(..) {
            watch.abort();
        }
        // A life left behind has taken its thread with it; any other has ended, and its thread ends with it.
        if let Some(place) = self.place.take() {
            place.leave();
        }
        if let Kind::Worker(worker) = &self.kind {
            worker.record(self.generation, exit.clone());
        }
    }

    /// Passes it on to those under a supervisor that they are to be left behind; supervisors run no user code. Says whether it is one.
    pub(super) fn abandon_all(&self, limit: Duration) -> bool {
        match &self.kind {
            Kind::Supervisor(supervisor, _) => {
                supervisor.do_send(Order::AbandonAll(limit));
                true
            }
            Kind::Worker(_) => false,
        }
    }

    /// Leaves a worker's present life behind with its thread.
    pub(super) fn abandon(&mut self, exit: &Exit, core: &Core) {
        match &self.kind {
            Kind::Supervisor(..) => {}
            Kind::Worker(worker) => {
                worker.abandon(exit);
                if let Some(place) = self.place.take() {
                    place.abandon();
                }
                let left = LeftBehind {
                    name: Arc::clone(&worker.spec().name),
                    generation: self.generation,
                    at: core.clock.now(),
                    resources: self.lease.as_ref().map_or_else(Resources::new, Share::resources),
                    devices: self.lease.as_ref().map_or_else(Vec::new, Share::devices),
                };
                core.left_behind(left, self.stay.clone());
            }
        }
    }

    /// Ends it for good: nobody can reach it any more.
    pub(super) fn close(&mut self, exit: &Exit, core: &Core) {
        self.lease = None;
        match &self.kind {
            Kind::Worker(worker) => {
                // One that was killed has been closed already.
                core.delist(worker.number(), &worker.closed().unwrap_or_else(|| exit.clone()));
                worker.close(exit);
            }
            Kind::Supervisor(supervisor, _) => supervisor.do_send(Order::Close(exit.clone())),
        }
    }
}

/// Watches that no message takes longer than the limit.
async fn watch(
    worker: Arc<dyn Child>,
    core: Arc<Core>,
    limit: Duration,
    supervisor: Addr<SupervisorActor>,
    overdue: Order,
) {
    loop {
        let began = worker.vitals().busy_since();
        let due = began.unwrap_or_else(|| core.clock.now()).saturating_add(limit);
        core.clock.sleep_until(due).await;
        if began.is_some() && worker.vitals().busy_since() == began {
            supervisor.do_send(overdue);
            return;
        }
    }
}
