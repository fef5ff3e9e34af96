//! Carries out what [`Supervision`](super::restart::Supervision) decides: starts lives, stops them, buries them.
//!
//! A supervisor is an actix actor on the system thread; it never runs user code, so nothing a worker does holds it up.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use super::core::Core;
use super::exit::Exit;
use super::member::Member;
use super::order::{Adoption, Order};
use super::places::Places;
use super::restart::{Action, ChildId, Restart, Supervision};
use super::spec::SupervisorSpec;
use super::system::OnEnd;
use crate::seed::Seed;
use crate::state::EventKind;

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

    fn start(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        self.members[child].start(&ctx.address(), &self.core, &self.places);
    }

    /// Stops one member after its current message.
    fn stop_member(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        let member = &mut self.members[child];
        if member.is_running() {
            return member.sweep(self.spec.stop_limit, ctx.address(), &self.core);
        }
        // It waits out a back-off: it has ended already, and starts with the others now.
        member.call_off();
        self.decide(child, &Exit::Normal, false, ctx);
    }

    /// A worker was killed: its mailbox is closed already, and its life ends when it sees that.
    fn killed(&mut self, number: u64, ctx: &mut Context<Self>) {
        let Some(child) = self.members.iter().position(|member| member.is_number(number)) else { return };
        let member = &mut self.members[child];
        if member.is_running() {
            return member.overdue_after(self.spec.stop_limit, ctx.address(), &self.core);
        }
        member.call_off();
        if matches!(self.phase, Phase::Live) {
            self.decide(child, &Exit::Killed, false, ctx);
            self.end_if_solo(ctx);
        }
    }

    /// A life has ended, by itself or left behind.
    fn ended(&mut self, child: ChildId, exit: Exit, ctx: &mut Context<Self>) {
        let member = &mut self.members[child];
        let (name, swept) = (member.name(), member.is_swept());
        let exit = match (&self.cause, swept) {
            (Some((name, cause)), true) if matches!(exit, Exit::Normal) => {
                Exit::Sibling { name: Arc::clone(name), cause: Arc::clone(cause) }
            }
            _ => exit,
        };
        member.ended(&exit);
        let (generation, failure) = (member.generation(), exit.is_failure());
        self.core.note(&name, EventKind::Exited { generation, failure, cause: exit.to_string() });
        if failure {
            tracing::warn!(supervisor = %self.spec.name, worker = %name, generation, %exit, "worker ended");
        }
        match &self.phase {
            Phase::Live => {}
            Phase::Halting { closing, .. } => {
                if !closing {
                    self.members[child].tell_watchers(&exit);
                }
                return self.halt_if_all_ended(ctx);
            }
            Phase::Halted | Phase::Closed => return,
        }
        if !swept {
            self.cause = Some((name, Arc::new(exit.clone())));
        }
        self.decide(child, &exit, true, ctx);
        self.end_if_solo(ctx);
    }

    fn end_if_solo(&mut self, ctx: &mut Context<Self>) {
        // A worker spawned by itself brought a supervisor of its own, which ends with it.
        let over = self.spec.solo && !self.members.iter().any(Member::is_listed);
        if over && matches!(self.phase, Phase::Live) {
            self.phase = Phase::Closed;
            ctx.stop();
        }
    }

    /// Asks the policy what follows from an end, and does it. `lived` tells the end of a life from one of a pause between two.
    fn decide(&mut self, child: ChildId, exit: &Exit, lived: bool, ctx: &mut Context<Self>) {
        let asked = self.members[child].asked_to_end();
        let actions = self.policy.on_exit(self.core.clock.now(), child, exit.is_failure(), asked);
        if lived && !actions.contains(&Action::Close(child)) {
            self.members[child].tell_watchers(exit);
        }
        for action in actions {
            match action {
                Action::Stop(child) => self.stop_member(child, ctx),
                Action::Start { child, after } if after.is_zero() => self.start(child, ctx),
                Action::Start { child, after } => {
                    self.members[child].start_after(after, ctx.address(), &self.core);
                }
                Action::Close(child) => self.members[child].close(exit, &self.core),
                Action::Escalate { restarts } => {
                    let (name, cause) = (self.members[child].name(), Arc::new(exit.clone()));
                    let exit = Exit::Escalated { name, restarts, cause };
                    tracing::error!(supervisor = %self.spec.name, %exit, "supervisor gives up");
                    self.core.note(&self.spec.name, EventKind::GaveUp { cause: exit.to_string() });
                    let closing = self.parent.is_none();
                    self.halt(exit, closing, ctx);
                }
            }
        }
    }

    fn halt(&mut self, exit: Exit, closing: bool, ctx: &mut Context<Self>) {
        self.phase = Phase::Halting { exit, closing };
        for child in 0..self.members.len() {
            if self.members[child].is_running() {
                self.stop_member(child, ctx);
            }
        }
        self.halt_if_all_ended(ctx);
    }

    fn halt_if_all_ended(&mut self, ctx: &mut Context<Self>) {
        if self.members.iter().any(Member::is_running) {
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
        for member in &mut self.members {
            member.close(exit, &self.core);
        }
        for done in self.done.drain(..) {
            // Nobody listens any more if the shutdown's grace is over.
            let _ = done.send(());
        }
    }

    fn adopt(&mut self, adoption: Adoption, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Live) {
            return;
        }
        let Some((worker, lease)) = adoption.arrived() else { return };
        let child = self.policy.add(worker.spec().restart);
        self.members.push(Member::worker(child, worker, lease, &self.core));
        self.start(child, ctx);
    }

    fn adopt_supervisor(&mut self, address: Addr<Self>, name: Arc<str>, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Live) {
            address.do_send(Order::Close(Exit::Normal));
            return;
        }
        let child = self.policy.add(Restart::Always);
        address.do_send(Order::Parent(ctx.address(), child));
        self.members.push(Member::supervisor(child, address, name));
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
        let Some(exit) = self.members[child].abandon(limit) else { return };
        tracing::error!(worker = %self.members[child].name(), "worker has not returned and is left behind with its thread");
        self.core.abandoned();
        let member = &self.members[child];
        self.core.note(&member.name(), EventKind::Abandoned { generation: member.generation() });
        self.ended(child, exit, ctx);
    }

    fn abandon_all(&mut self, limit: Duration, ctx: &mut Context<Self>) {
        for child in 0..self.members.len() {
            if self.members[child].is_running() {
                self.abandon(child, limit, ctx);
            }
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
                if self.members[child].is_present(generation) {
                    self.ended(child, exit, ctx);
                }
            }
            Order::Overdue { child, generation, limit } => {
                if self.members[child].is_present(generation) {
                    self.abandon(child, limit, ctx);
                }
            }
            Order::StartDue { child, ticket } => {
                if matches!(self.phase, Phase::Live) && self.members[child].is_due(ticket) {
                    self.start(child, ctx);
                }
            }
            Order::Kill(number) => self.killed(number, ctx),
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
