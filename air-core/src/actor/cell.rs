//! One life of a worker: an actix actor that takes from the worker's queue. Everything else about workers is ours.
//!
//! A panic is caught here, message by message, and never reaches actix (A6).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorState, ArbiterHandle};

use super::call::Ran;
use super::cx::Cx;
use super::exit::Exit;
use super::message::Worker;
use super::queue::Full;
use super::shared::{Envelope, Shared};
use crate::BoxError;
use crate::awake::{Awake, Patience};

/// Builds a life of a worker; called again for each.
pub(super) type Factory<W> = Arc<dyn Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync>;

/// Called once with the generation that ended and why.
pub(super) type Report = Box<dyn FnOnce(u64, Exit) + Send>;

/// How long a worker on a shared thread goes on before its neighbours get a turn.
const TURN: Duration = Duration::from_micros(200);
/// How many messages a worker with a thread of its own handles before its timers get a turn.
const BURST: usize = 256;

pub(super) struct Cell<W: Worker> {
    shared: Arc<Shared<W>>,
    factory: Factory<W>,
    generation: u64,
    worker: Option<W>,
    cx: Cx<W>,
    report: Option<Report>,
    /// The news as of which there was nothing to take, and for which groups.
    idle: Option<(usize, Full)>,
}

impl<W: Worker> Cell<W> {
    pub(super) fn launch(
        shared: Arc<Shared<W>>,
        factory: Factory<W>,
        generation: u64,
        arbiter: &ArbiterHandle,
        report: Report,
    ) {
        // Where the thread has ended, so has whoever would be told of it.
        arbiter.spawn_fn(move || {
            let cx = Cx::new(Arc::clone(&shared), generation);
            let cell =
                Self { shared, factory, generation, worker: None, cx, report: Some(report), idle: None };
            actix::spawn(Life {
                cell,
                context: Body { state: ActorState::Started, patience: Patience::NEW },
            });
        });
    }

    /// Builds the worker; an exit is why it could not be.
    fn build(&mut self) -> Option<Exit> {
        let built = catch_unwind(AssertUnwindSafe(|| {
            let mut worker = (self.factory)(&mut self.cx)?;
            worker.started(&mut self.cx)?;
            Ok(worker)
        }));
        self.shared.vitals.idle();
        match built {
            Ok(Ok(worker)) => {
                self.worker = Some(worker);
                self.cx.take_exit()
            }
            Ok(Err(error)) => Some(Exit::of(error, self.cx.devices())),
            Err(panic) => Some(Exit::panicked(&*panic)),
        }
    }

    /// Handles one message; an exit is why this was the last.
    fn run(&mut self, envelope: Envelope<W>) -> Option<Exit> {
        let worker = self.worker.as_mut()?;
        let shared = &self.shared;
        if shared.spec.stall.is_some() {
            shared.vitals.busy(shared.core.clock.now());
        }
        let began = shared.core.timeline.begin();
        let ran = catch_unwind(AssertUnwindSafe(|| envelope.run(worker, &mut self.cx)));
        shared.vitals.idle();
        if let Some(began) = began
            && !matches!(ran, Ok(Ran::Skipped | Ran::Dead(_) | Ran::Flying))
        {
            shared.core.timeline.end(began, "message", envelope.message_type(), &shared.spec.name);
        }
        match ran {
            Ok(ran) => {
                self.cx.book(ran, &*envelope);
                self.cx.take_exit()
            }
            Err(panic) => {
                let exit = Exit::panicked(&*panic);
                for held in shared.queue.let_go(self.generation) {
                    held.died(&exit);
                }
                envelope.died(&exit);
                Some(exit)
            }
        }
    }

    /// Lets the calls in progress go on, and books those that are over; an exit is why there will be no more.
    fn land(&mut self, task: &mut Context<'_>) -> Option<Exit> {
        while self.cx.flights.is_due() {
            let shared = &self.shared;
            if shared.spec.stall.is_some() {
                shared.vitals.busy(shared.core.clock.now());
            }
            let landed = self.cx.flights.poll_landed(task);
            shared.vitals.idle();
            let Poll::Ready(landed) = landed else { return None };
            shared.landed(&landed.envelope);
            if let Some(began) = landed.began {
                let message = landed.envelope.message_type();
                shared.core.timeline.end(began, "message", message, &shared.spec.name);
            }
            match landed.result {
                Ok(ran) => self.cx.book(ran, &*landed.envelope),
                Err(exit) => {
                    landed.envelope.died(&exit);
                    return Some(exit);
                }
            }
            if let Some(exit) = self.cx.take_exit() {
                return Some(exit);
            }
        }
        None
    }

    /// Lets go of the worker and reports. `stopped` is called only on state that can be trusted.
    fn end(&mut self, exit: Exit) {
        let orderly = exit.is_orderly() && self.shared.queue.owned_by(self.generation);
        let worker = self.worker.take();
        drop(self.shared.queue.let_go(self.generation));
        self.shared.abort_flying(self.generation, &exit);
        let let_go = catch_unwind(AssertUnwindSafe(|| {
            self.cx.end();
            if let Some(mut worker) = worker
                && orderly
            {
                worker.stopped();
            }
        }));
        let exit = match let_go {
            Err(panic) if !exit.is_failure() => Exit::panicked(&*panic),
            _ => exit,
        };
        if let Some(report) = self.report.take() {
            report(self.generation, exit);
        }
    }
}

// Nothing pins the worker inside: it is moved, borrowed and dropped as any value.
impl<W: Worker> Unpin for Cell<W> {}

impl<W: Worker> Actor for Cell<W> {
    type Context = Body;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(exit) = self.build() {
            self.end(exit);
            ctx.stop();
        }
    }
}

/// The actor's context. actix's own has a mailbox and a list of futures, and looks through both with every message; a life needs
/// neither, as it has the worker's queue.
pub(super) struct Body {
    state: ActorState,
    patience: Patience,
}

impl ActorContext for Body {
    fn stop(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn terminate(&mut self) {
        self.stop();
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

/// The actor on its thread.
struct Life<W: Worker> {
    cell: Cell<W>,
    context: Body,
}

impl<W: Worker> Future for Life<W> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let Self { cell, context } = &mut *self;
        if context.state == ActorState::Started {
            context.state = ActorState::Running;
            cell.started(context);
        }
        if context.state.alive() {
            let turn = if cell.shared.spec.shared {
                cell.turn(task)
            } else {
                cell.work(&mut context.patience, task)
            };
            cell.end(ready!(turn));
            context.stop();
        }
        Poll::Ready(())
    }
}

impl<W: Worker> Cell<W> {
    /// Handles what is there, for a turn: others live on this thread too.
    fn turn(&mut self, task: &mut Context<'_>) -> Poll<Exit> {
        // Of the second message: most turns have one, and the clock costs as much as a small message.
        let mut began = None;
        let mut first = true;
        loop {
            if let Some(exit) = self.land(task) {
                return Poll::Ready(exit);
            }
            let (queue, full) = (&self.shared.queue, self.cx.flights.full());
            let looked = Some((queue.news(), full));
            if self.idle == looked {
                // Woken for a call in progress.
                return Poll::Pending;
            }
            let Poll::Ready(taken) = queue.poll_take(self.generation, full, task) else {
                self.idle = looked;
                return Poll::Pending;
            };
            self.idle = None;
            let Some(envelope) = taken else { return self.over() };
            if !std::mem::take(&mut first) {
                began.get_or_insert_with(Instant::now);
            }
            if let Some(exit) = self.run(envelope) {
                return Poll::Ready(exit);
            }
            if began.is_some_and(|began| began.elapsed() >= TURN) {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Handles what is there and, the thread being its own, waits awake for more before it lets the thread sleep.
    fn work(&mut self, patience: &mut Patience, task: &mut Context<'_>) -> Poll<Exit> {
        let _awake = Awake::enter();
        for _ in 0..BURST {
            if let Some(exit) = self.land(task) {
                return Poll::Ready(exit);
            }
            let (queue, full) = (&self.shared.queue, self.cx.flights.full());
            let news = queue.news();
            // Calls in progress go on while the thread sleeps, so with them it does so at once.
            let taken = match queue.take(self.generation, full) {
                Poll::Ready(Some(envelope)) => Some(envelope),
                _ if !self.cx.flights.is_empty() => ready!(queue.poll_take(self.generation, full, task)),
                Poll::Ready(None) => None,
                Poll::Pending if patience.wait(|| queue.news() != news) => continue,
                Poll::Pending => ready!(queue.poll_take(self.generation, full, task)),
            };
            let Some(envelope) = taken else { return self.over() };
            if let Some(exit) = self.run(envelope) {
                return Poll::Ready(exit);
            }
        }
        // The worker's timers live on this thread too.
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// There is nothing more to take: why, unless calls in progress may still finish.
    fn over(&self) -> Poll<Exit> {
        if !self.cx.flights.is_empty() && self.shared.queue.drained_by(self.generation) {
            return Poll::Pending;
        }
        Poll::Ready(self.shared.queue.why_stopped(self.generation).unwrap_or(Exit::Normal))
    }
}
