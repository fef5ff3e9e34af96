//! Carries out what [`Supervision`](super::restart::Supervision) decides: starts lives, stops them, buries them.
//!
//! A supervisor is an actix actor on the system thread; it never runs user code, so nothing a worker does holds it up.

use std::collections::BTreeMap;
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
    /// Those that may have further lives; one that is closed is forgotten.
    members: BTreeMap<ChildId, Member>,
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
            members: BTreeMap::new(),
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
        if let Some(member) = self.members.get_mut(&child) {
            member.start(&ctx.address(), &self.core, &self.places);
        }
    }

    /// Stops one member after its current message.
    fn stop_member(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&child) else { return };
        if member.is_running() {
            return member.sweep(self.spec.stop_limit, ctx.address(), &self.core);
        }
        // It waits out a back-off: it has ended already, and starts with the others now.
        member.call_off();
        self.decide(child, &Exit::Normal, false, ctx);
    }

    /// A worker was killed: its mailbox is closed already, and its life ends when it sees that; or is left behind, if it is known that it will not.
    fn killed(&mut self, number: u64, returns: bool, ctx: &mut Context<Self>) {
        let is_it = |(_, member): &(&ChildId, &mut Member)| member.is_number(number);
        let Some((&child, member)) = self.members.iter_mut().find(is_it) else { return };
        match (member.is_running(), returns) {
            (true, true) => return member.overdue_after(self.spec.stop_limit, ctx.address(), &self.core),
            (true, false) => return self.abandon(child, Exit::Killed, ctx),
            _ => {}
        }
        member.call_off();
        if matches!(self.phase, Phase::Live) {
            self.decide(child, &Exit::Killed, false, ctx);
            self.end_if_solo(ctx);
        }
    }

    /// A life has ended, by itself or left behind.
    fn ended(&mut self, child: ChildId, exit: Exit, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&child) else { return };
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
                    member.tell_watchers(&exit);
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
        if self.spec.solo && self.members.is_empty() && matches!(self.phase, Phase::Live) {
            self.phase = Phase::Closed;
            ctx.stop();
        }
    }

    /// Asks the policy what follows from an end, and does it. `lived` tells the end of a life from one of a pause between two.
    fn decide(&mut self, child: ChildId, exit: &Exit, lived: bool, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get(&child) else { return };
        let actions =
            self.policy.on_exit(self.core.clock.now(), child, exit.is_failure(), member.asked_to_end());
        if lived && !actions.contains(&Action::Close(child)) {
            member.tell_watchers(exit);
        }
        let name = member.name();
        for action in actions {
            match action {
                Action::Stop(child) => self.stop_member(child, ctx),
                Action::Start { child, after } if after.is_zero() => self.start(child, ctx),
                Action::Start { child, after } => {
                    if let Some(member) = self.members.get_mut(&child) {
                        member.start_after(after, ctx.address(), &self.core);
                    }
                }
                Action::Close(child) => {
                    if let Some(mut member) = self.members.remove(&child) {
                        member.close(exit, &self.core);
                    }
                }
                Action::Escalate { restarts } => {
                    let (name, cause) = (Arc::clone(&name), Arc::new(exit.clone()));
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
        for child in self.running() {
            self.stop_member(child, ctx);
        }
        self.halt_if_all_ended(ctx);
    }

    fn halt_if_all_ended(&mut self, ctx: &mut Context<Self>) {
        if self.members.values().any(Member::is_running) {
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
        for mut member in std::mem::take(&mut self.members).into_values() {
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
        self.members.insert(child, Member::worker(child, worker, lease, &self.core));
        self.start(child, ctx);
    }

    fn adopt_supervisor(&mut self, address: Addr<Self>, name: Arc<str>, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Live) {
            address.do_send(Order::Close(Exit::Normal));
            return;
        }
        let child = self.policy.add(Restart::Always);
        address.do_send(Order::Parent(ctx.address(), child));
        self.members.insert(child, Member::supervisor(child, address, name));
        self.start(child, ctx);
    }

    fn revive(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Halted) {
            return;
        }
        self.phase = Phase::Live;
        self.policy.revive();
        for member in self.members.values_mut() {
            member.start(&ctx.address(), &self.core, &self.places);
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
    fn abandon(&mut self, child: ChildId, exit: Exit, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&child) else { return };
        member.abandon(&exit, &self.core);
        tracing::error!(worker = %member.name(), "worker has not returned and is left behind with its thread");
        self.core.abandoned();
        self.core.note(&member.name(), EventKind::Abandoned { generation: member.generation() });
        self.ended(child, exit, ctx);
    }

    /// A life has not returned within the limit.
    fn overdue(&mut self, child: ChildId, limit: Duration, ctx: &mut Context<Self>) {
        if !self.members.get(&child).is_none_or(|member| member.abandon_all(limit)) {
            self.abandon(child, Exit::Stalled { limit }, ctx);
        }
    }

    fn abandon_all(&mut self, limit: Duration, ctx: &mut Context<Self>) {
        for child in self.running() {
            self.overdue(child, limit, ctx);
        }
    }

    fn running(&self) -> Vec<ChildId> {
        self.members.iter().filter(|(_, member)| member.is_running()).map(|(&child, _)| child).collect()
    }

    fn is_present(&self, child: ChildId, generation: u64) -> bool {
        self.members.get(&child).is_some_and(|member| member.is_present(generation))
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
                if self.is_present(child, generation) {
                    self.ended(child, exit, ctx);
                }
            }
            Order::Overdue { child, generation, limit } => {
                if self.is_present(child, generation) {
                    self.overdue(child, limit, ctx);
                }
            }
            Order::StartDue { child, ticket } => {
                let is_due = self.members.get(&child).is_some_and(|member| member.is_due(ticket));
                if is_due && matches!(self.phase, Phase::Live) {
                    self.start(child, ctx);
                }
            }
            Order::Kill(number) => self.killed(number, true, ctx),
            Order::Abandon(number) => self.killed(number, false, ctx),
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
