//! One life of a worker: an actix actor that takes from the worker's queue. Everything else about workers is ours.
//!
//! A panic is caught here, message by message, and never reaches actix (A6).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ArbiterHandle, AsyncContext};

use super::awake::{Awake, Patience};
use super::call::Ran;
use super::cx::Cx;
use super::exit::Exit;
use super::message::Worker;
use super::shared::{Envelope, Shared};
use crate::BoxError;

/// Builds a life of a worker; called again for each.
pub(super) type Factory<W> = Arc<dyn Fn(&mut Cx<W>) -> Result<W, BoxError> + Send + Sync>;

/// Called once with the generation that ended and why.
pub(super) type Report = Box<dyn FnOnce(u64, Exit) + Send>;

/// How long a worker on a shared thread goes on before its neighbours get a turn.
const TURN: Duration = Duration::from_micros(200);

pub(super) struct Cell<W: Worker> {
    shared: Arc<Shared<W>>,
    factory: Factory<W>,
    generation: u64,
    worker: Option<W>,
    cx: Cx<W>,
    report: Option<Report>,
}

impl<W: Worker> Cell<W> {
    pub(super) fn launch(
        shared: Arc<Shared<W>>,
        factory: Factory<W>,
        generation: u64,
        arbiter: &ArbiterHandle,
        report: Report,
    ) {
        Self::start_in_arbiter(arbiter, move |_| {
            let cx = Cx::new(Arc::clone(&shared), generation);
            Self { shared, factory, generation, worker: None, cx, report: Some(report) }
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
            Ok(Err(error)) => Some(Exit::failed(error)),
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
        *shared.current.lock() = Some(Arc::clone(&envelope));
        let began = shared.core.timeline.begin();
        let ran = catch_unwind(AssertUnwindSafe(|| envelope.run(worker, &mut self.cx)));
        shared.vitals.idle();
        if let Some(began) = began
            && !matches!(ran, Ok(Ran::Skipped | Ran::Dead(_)))
        {
            shared.core.timeline.end(began, "message", envelope.message_type(), &shared.spec.name);
        }
        let exit = match ran {
            Ok(ran) => {
                shared.vitals.handled.fetch_add(1, Ordering::Relaxed);
                match ran {
                    Ran::Done | Ran::Skipped => None,
                    Ran::Late => {
                        shared.core.late_reply();
                        None
                    }
                    Ran::Dead(reason) => {
                        shared.bury(&envelope, reason);
                        None
                    }
                    Ran::Unheard(error) => Some(Exit::failed(error)),
                }
            }
            Err(panic) => {
                let exit = Exit::panicked(&*panic);
                envelope.died(&exit);
                Some(exit)
            }
        };
        // An abandoned life must not take away what its successor holds.
        let mut current = shared.current.lock();
        if current.as_ref().is_some_and(|held| std::ptr::addr_eq(Arc::as_ptr(held), Arc::as_ptr(&envelope))) {
            current.take();
        }
        drop(current);
        exit.or_else(|| self.cx.take_exit())
    }

    /// Lets go of the worker and reports. `stopped` is called only on state that can be trusted.
    fn end(&mut self, exit: Exit) {
        let orderly =
            matches!(exit, Exit::Normal | Exit::Failed(_)) && self.shared.queue.owned_by(self.generation);
        let worker = self.worker.take();
        let let_go = catch_unwind(AssertUnwindSafe(|| {
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
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.build() {
            None => {
                ctx.spawn(Pump { patience: Patience::NEW });
            }
            Some(exit) => {
                self.end(exit);
                ctx.stop();
            }
        }
    }
}

/// Moves messages from the queue to the worker.
struct Pump {
    patience: Patience,
}

impl<W: Worker> ActorFuture<Cell<W>> for Pump {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        cell: &mut Cell<W>,
        ctx: &mut actix::Context<Cell<W>>,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        if cell.shared.spec.shared { cell.turn(task) } else { cell.work(&mut self.patience, task) }.map(
            |exit| {
                cell.end(exit);
                ctx.stop();
            },
        )
    }
}

impl<W: Worker> Cell<W> {
    /// Handles what is there, for a turn: others live on this thread too.
    fn turn(&mut self, task: &mut Context<'_>) -> Poll<Exit> {
        let began = Instant::now();
        loop {
            let Some(envelope) = ready!(self.shared.queue.poll_take(self.generation, task)) else {
                return Poll::Ready(Exit::Normal);
            };
            if let Some(exit) = self.run(envelope) {
                return Poll::Ready(exit);
            }
            if began.elapsed() >= TURN {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Handles what is there and, the thread being its own, waits awake for more before it lets the thread sleep.
    fn work(&mut self, patience: &mut Patience, task: &mut Context<'_>) -> Poll<Exit> {
        let _awake = Awake::enter();
        loop {
            let news = self.shared.queue.news();
            let taken = match self.shared.queue.take(self.generation) {
                Poll::Pending if patience.wait(|| self.shared.queue.news() != news) => continue,
                Poll::Pending => ready!(self.shared.queue.poll_take(self.generation, task)),
                Poll::Ready(taken) => taken,
            };
            let Some(envelope) = taken else { return Poll::Ready(Exit::Normal) };
            if let Some(exit) = self.run(envelope) {
                return Poll::Ready(exit);
            }
        }
    }
}
