//! Carries out what [`Supervision`](super::restart::Supervision) decides: starts lives, stops them, buries them.
//!
//! A supervisor is an actix actor on the system thread; it never runs user code, so nothing a worker does holds it up.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::child::Child;
use super::core::Core;
use super::exit::Exit;
use super::places::{Place, Places};
use super::restart::{Action, ChildId, Restart, Supervision};
use super::spec::SupervisorSpec;
use super::system::OnEnd;
use crate::seed::Seed;

pub(super) struct SupervisorActor {
    spec: SupervisorSpec,
    policy: Supervision,
    members: Vec<Member>,
    /// Who is told when this supervisor gives up.
    parent: Option<(Addr<SupervisorActor>, ChildId)>,
    core: Arc<Core>,
    places: Arc<Places>,
    /// The failure that began the present round, for the siblings' records.
    cause: Option<(Arc<str>, Arc<Exit>)>,
    phase: Phase,
    /// Told when a shutdown has been carried out.
    done: Vec<oneshot::Sender<()>>,
    /// Strikes it off the runtime's roster when it is dropped.
    _on_end: OnEnd,
}

enum Phase {
    Live,
    /// Everyone is being stopped; then this is the supervisor's own exit. `closing` tells that it will not come back.
    Halting {
        exit: Exit,
        closing: bool,
    },
    /// Everyone has stopped; a parent may start it again.
    Halted,
    Closed,
}

struct Member {
    kind: Kind,
    generation: u64,
    running: bool,
    /// Stopped for a sibling's sake or with its supervisor, not by itself.
    swept: bool,
    /// Raised with every start scheduled or called off; a start that was scheduled under an older one is void.
    ticket: u64,
    place: Option<Place>,
    /// Watches over the present life; they end with it.
    watches: Vec<JoinHandle<()>>,
    listed: Option<u64>,
}

enum Kind {
    Worker(Arc<dyn Child>),
    Supervisor(Addr<SupervisorActor>, Arc<str>),
}

/// What a supervisor is told.
pub(super) enum Order {
    /// Put a worker under the supervisor.
    Adopt(Adoption),
    /// Put a supervisor of this name under the supervisor.
    AdoptSupervisor(Addr<SupervisorActor>, Arc<str>),
    /// Someone was put over the supervisor, who knows it by this number.
    Parent(Addr<SupervisorActor>, ChildId),
    /// A life has ended.
    Exited {
        child: ChildId,
        generation: u64,
        exit: Exit,
    },
    /// A life has not returned within the limit.
    Overdue {
        child: ChildId,
        generation: u64,
        limit: Duration,
    },
    /// A back-off is over.
    StartDue {
        child: ChildId,
        ticket: u64,
    },
    /// Stop everyone; [`Order::Revive`] starts them again.
    Halt,
    Revive,
    /// End for good, with this as everyone's reason.
    Close(Exit),
    /// End for good because the runtime ends; the sender is told when all have.
    Shutdown(oneshot::Sender<()>),
    /// Leave behind whoever has not ended by now.
    AbandonAll(Duration),
}

impl actix::Message for Order {
    type Result = ();
}

/// A worker on its way to its supervisor. Dropped before it arrives (the runtime is gone), it closes the worker's mailbox.
pub(super) struct Adoption(Option<Arc<dyn Child>>);

impl Adoption {
    pub(super) fn new(child: Arc<dyn Child>) -> Self {
        Self(Some(child))
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            child.close(&Exit::Normal);
        }
    }
}

impl SupervisorActor {
    pub(super) fn new(spec: SupervisorSpec, core: Arc<Core>, places: Arc<Places>, on_end: OnEnd) -> Self {
        let rng = Seed::new(spec.seed).child("backoff", 0).rng();
        let policy = Supervision::new(spec.strategy, spec.intensity, spec.window, spec.backoff, rng);
        Self {
            spec,
            policy,
            members: Vec::new(),
            parent: None,
            core,
            places,
            cause: None,
            phase: Phase::Live,
            done: Vec::new(),
            _on_end: on_end,
        }
    }

    fn name_of(&self, child: ChildId) -> Arc<str> {
        match &self.members[child].kind {
            Kind::Worker(worker) => Arc::clone(&worker.spec().name),
            Kind::Supervisor(_, name) => Arc::clone(name),
        }
    }

    fn start(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        let address = ctx.address();
        let member = &mut self.members[child];
        member.generation += 1;
        member.ticket += 1;
        member.running = true;
        member.swept = false;
        let generation = member.generation;
        if generation > 1 {
            self.core.restarted();
        }
        let worker = match &member.kind {
            Kind::Supervisor(supervisor, _) => {
                if generation > 1 {
                    supervisor.do_send(Order::Revive);
                }
                return;
            }
            Kind::Worker(worker) => Arc::clone(worker),
        };
        let place = match self.places.take(worker.spec().shared) {
            Ok(place) => place,
            Err(error) => {
                let exit = Exit::failed(Box::new(error));
                address.do_send(Order::Exited { child, generation, exit });
                return;
            }
        };
        let report = {
            let address = address.clone();
            Box::new(move |generation, exit| address.do_send(Order::Exited { child, generation, exit }))
        };
        worker.launch(generation, &place.handle(), report);
        member.place = Some(place);
        if let Some(limit) = worker.spec().stall {
            let overdue = Order::Overdue { child, generation, limit };
            member.watches.push(actix::spawn(watch(worker, Arc::clone(&self.core), limit, address, overdue)));
        }
    }

    /// Stops one member after its current message.
    fn stop_member(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        let address = ctx.address();
        let member = &mut self.members[child];
        if !member.running {
            // It waits out a back-off: it has ended already, and starts with the others now.
            member.ticket += 1;
            return self.decide(child, &Exit::Normal, ctx);
        }
        member.swept = true;
        match &member.kind {
            Kind::Supervisor(supervisor, _) => supervisor.do_send(Order::Halt),
            Kind::Worker(worker) => {
                worker.interrupt();
                let (clock, limit) = (self.core.clock.clone(), self.spec.stop_limit);
                let overdue = Order::Overdue { child, generation: member.generation, limit };
                member.watches.push(actix::spawn(async move {
                    clock.sleep(limit).await;
                    address.do_send(overdue);
                }));
            }
        }
    }

    /// A life has ended, by itself or left behind.
    fn ended(&mut self, child: ChildId, exit: Exit, ctx: &mut Context<Self>) {
        let name = self.name_of(child);
        let member = &mut self.members[child];
        member.running = false;
        for watch in member.watches.drain(..) {
            watch.abort();
        }
        let exit = match (&self.cause, member.swept) {
            (Some((name, cause)), true) if !exit.is_failure() => {
                Exit::Sibling { name: Arc::clone(name), cause: Arc::clone(cause) }
            }
            _ => exit,
        };
        if let Kind::Worker(worker) = &member.kind {
            worker.record(member.generation, exit.clone());
        }
        if exit.is_failure() {
            tracing::warn!(supervisor = %self.spec.name, worker = %name, generation = member.generation, %exit, "worker ended");
        }
        match &self.phase {
            Phase::Live => {}
            Phase::Halting { .. } => return self.halt_if_all_ended(ctx),
            Phase::Halted | Phase::Closed => return,
        }
        if !member.swept {
            self.cause = Some((name, Arc::new(exit.clone())));
        }
        self.decide(child, &exit, ctx);
        // A worker spawned by itself brought a supervisor of its own, which ends with it.
        let over = self.spec.solo && self.members.iter().all(|member| member.listed.is_none());
        if over && matches!(self.phase, Phase::Live) {
            self.phase = Phase::Closed;
            ctx.stop();
        }
    }

    /// Asks the policy what follows from an end, and does it.
    fn decide(&mut self, child: ChildId, exit: &Exit, ctx: &mut Context<Self>) {
        let asked = match &self.members[child].kind {
            Kind::Worker(worker) => worker.asked_to_end(),
            Kind::Supervisor(..) => false,
        };
        for action in self.policy.on_exit(self.core.clock.now(), child, exit.is_failure(), asked) {
            match action {
                Action::Stop(child) => self.stop_member(child, ctx),
                Action::Start { child, after } if after.is_zero() => self.start(child, ctx),
                Action::Start { child, after } => {
                    let (address, pause) = (ctx.address(), self.core.clock.sleep(after));
                    let member = &mut self.members[child];
                    member.ticket += 1;
                    let due = Order::StartDue { child, ticket: member.ticket };
                    actix::spawn(async move {
                        pause.await;
                        address.do_send(due);
                    });
                }
                Action::Close(child) => self.close_member(child, exit),
                Action::Escalate { restarts } => {
                    let cause = Arc::new(exit.clone());
                    let exit = Exit::Escalated { name: self.name_of(child), restarts, cause };
                    tracing::error!(supervisor = %self.spec.name, %exit, "supervisor gives up");
                    let closing = self.parent.is_none();
                    self.halt(exit, closing, ctx);
                }
            }
        }
    }

    fn close_member(&mut self, child: ChildId, exit: &Exit) {
        let member = &mut self.members[child];
        if let Some(number) = member.listed.take() {
            self.core.delist(number);
        }
        match &member.kind {
            Kind::Worker(worker) => worker.close(exit),
            Kind::Supervisor(supervisor, _) => supervisor.do_send(Order::Close(exit.clone())),
        }
    }

    fn halt(&mut self, exit: Exit, closing: bool, ctx: &mut Context<Self>) {
        self.phase = Phase::Halting { exit, closing };
        for child in 0..self.members.len() {
            if self.members[child].running {
                self.stop_member(child, ctx);
            }
        }
        self.halt_if_all_ended(ctx);
    }

    fn halt_if_all_ended(&mut self, ctx: &mut Context<Self>) {
        if self.members.iter().any(|member| member.running) {
            return;
        }
        let Phase::Halting { exit, closing } = std::mem::replace(&mut self.phase, Phase::Halted) else {
            return;
        };
        if closing {
            self.close_all(&exit);
            ctx.stop();
        }
        if let Some((parent, child)) = &self.parent {
            // The parent tells lives apart by its own count, which it has not raised meanwhile.
            parent.do_send(Order::Exited { child: *child, generation: 0, exit });
        }
    }

    fn close_all(&mut self, exit: &Exit) {
        self.phase = Phase::Closed;
        for child in 0..self.members.len() {
            self.close_member(child, exit);
        }
        for done in self.done.drain(..) {
            // Nobody listens any more if the shutdown's grace is over.
            let _ = done.send(());
        }
    }

    fn adopt(&mut self, mut adoption: Adoption, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Live) {
            return;
        }
        let Some(worker) = adoption.0.take() else { return };
        let child = self.policy.add(worker.spec().restart);
        let listed = Some(self.core.list(Arc::clone(&worker)));
        self.members.push(Member::new(Kind::Worker(worker), listed));
        self.start(child, ctx);
    }

    fn adopt_supervisor(&mut self, address: Addr<Self>, name: Arc<str>, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Live) {
            address.do_send(Order::Close(Exit::Normal));
            return;
        }
        let child = self.policy.add(Restart::Always);
        address.do_send(Order::Parent(ctx.address(), child));
        self.members.push(Member::new(Kind::Supervisor(address, name), None));
        self.start(child, ctx);
    }

    fn revive(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Halted) {
            return;
        }
        self.phase = Phase::Live;
        self.policy.revive();
        for child in 0..self.members.len() {
            if self.policy.is_open(child) {
                self.start(child, ctx);
            }
        }
    }

    /// Ends for good, once everyone has.
    fn close(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        match &mut self.phase {
            Phase::Live => {
                self.cause = None;
                self.halt(exit, true, ctx);
            }
            Phase::Halting { closing, .. } => *closing = true,
            Phase::Halted | Phase::Closed => {
                self.close_all(&exit);
                ctx.stop();
            }
        }
    }

    /// Leaves a life behind with its thread.
    fn abandon(&mut self, child: ChildId, limit: Duration, ctx: &mut Context<Self>) {
        let member = &mut self.members[child];
        let Kind::Worker(worker) = &member.kind else { return };
        let exit = Exit::Stalled { limit };
        worker.abandon(&exit);
        if let Some(place) = member.place.take() {
            place.abandon();
        }
        self.core.abandoned();
        self.ended(child, exit, ctx);
    }

    fn abandon_all(&mut self, limit: Duration, ctx: &mut Context<Self>) {
        for child in 0..self.members.len() {
            if !self.members[child].running {
                continue;
            }
            if let Kind::Supervisor(supervisor, _) = &self.members[child].kind {
                supervisor.do_send(Order::AbandonAll(limit));
                continue;
            }
            tracing::error!(worker = %self.name_of(child), "worker has not returned and is left behind with its thread");
            self.abandon(child, limit, ctx);
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

impl Actor for SupervisorActor {
    type Context = Context<Self>;
}

impl Drop for SupervisorActor {
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Closed) {
            self.close_all(&Exit::Normal);
        }
    }
}

impl Handler<Order> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, order: Order, ctx: &mut Self::Context) {
        match order {
            Order::Adopt(adoption) => self.adopt(adoption, ctx),
            Order::AdoptSupervisor(address, name) => self.adopt_supervisor(address, name, ctx),
            Order::Parent(address, child) => self.parent = Some((address, child)),
            Order::Exited { child, generation, exit } => {
                let member = &mut self.members[child];
                let present = generation == member.generation || matches!(member.kind, Kind::Supervisor(..));
                if member.running && present {
                    if let Some(place) = member.place.take() {
                        place.leave();
                    }
                    self.ended(child, exit, ctx);
                }
            }
            Order::Overdue { child, generation, limit } => {
                let member = &self.members[child];
                if member.running && member.generation == generation {
                    self.abandon(child, limit, ctx);
                }
            }
            Order::StartDue { child, ticket } => {
                if matches!(self.phase, Phase::Live) && self.members[child].ticket == ticket {
                    self.start(child, ctx);
                }
            }
            Order::Halt => {
                if matches!(self.phase, Phase::Live) {
                    self.cause = None;
                    self.halt(Exit::Normal, false, ctx);
                }
            }
            Order::Revive => self.revive(ctx),
            Order::Close(exit) => self.close(exit, ctx),
            Order::Shutdown(done) => {
                self.done.push(done);
                self.close(Exit::Normal, ctx);
            }
            Order::AbandonAll(limit) => self.abandon_all(limit, ctx),
        }
    }
}

impl Member {
    fn new(kind: Kind, listed: Option<u64>) -> Self {
        Self {
            kind,
            generation: 0,
            running: false,
            swept: false,
            ticket: 0,
            place: None,
            watches: Vec::new(),
            listed,
        }
    }
}
