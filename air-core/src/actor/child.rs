//! A worker as its supervisor sees it: without its type.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::ArbiterHandle;
use serde::Serialize;

use super::cell::{Cell, Factory, Report};
use super::exit::Exit;
use super::message::Worker;
use super::shared::{Shared, Vitals};
use super::spec::Spec;

pub(super) trait Child: Send + Sync {
    fn spec(&self) -> &Spec;
    fn vitals(&self) -> &Vitals;
    /// Starts a life on the arbiter's thread; its end is reported.
    fn launch(&self, generation: u64, arbiter: &ArbiterHandle, report: Report);
    /// Stops the present life after its current message.
    fn interrupt(&self);
    /// Whether the user asked for the worker's end.
    fn asked_to_end(&self) -> bool;
    /// Leaves the present life behind: it takes no more messages and its caller gets this exit.
    fn abandon(&self, exit: &Exit);
    fn record(&self, generation: u64, exit: Exit);
    fn close(&self, exit: &Exit);
    fn state(&self) -> WorkerState;
}

/// What a worker is doing now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerState {
    /// Its name.
    pub name: Arc<str>,
    /// Messages waiting.
    pub queued: usize,
    /// Messages handled by all its lives.
    pub handled: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last life ended, if one has.
    pub last_exit: Option<String>,
}

pub(super) struct WorkerChild<W: Worker> {
    pub(super) shared: Arc<Shared<W>>,
    pub(super) factory: Factory<W>,
}

impl<W: Worker> Child for WorkerChild<W> {
    fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    fn vitals(&self) -> &Vitals {
        &self.shared.vitals
    }

    fn launch(&self, generation: u64, arbiter: &ArbiterHandle, report: Report) {
        self.shared.vitals.generation.store(generation, Ordering::Relaxed);
        self.shared.vitals.busy(self.shared.core.clock.now());
        self.shared.queue.own(generation);
        Cell::launch(Arc::clone(&self.shared), Arc::clone(&self.factory), generation, arbiter, report);
    }

    fn interrupt(&self) {
        self.shared.queue.interrupt();
    }

    fn asked_to_end(&self) -> bool {
        self.shared.queue.finishing()
    }

    fn abandon(&self, exit: &Exit) {
        self.shared.queue.own(0);
        self.shared.abort_current(exit);
    }

    fn record(&self, generation: u64, exit: Exit) {
        self.shared.record(generation, exit);
    }

    fn close(&self, exit: &Exit) {
        self.shared.close(exit);
    }

    fn state(&self) -> WorkerState {
        let vitals = &self.shared.vitals;
        WorkerState {
            name: Arc::clone(&self.shared.spec.name),
            queued: self.shared.queue.len(),
            handled: vitals.handled.load(Ordering::Relaxed),
            restarts: vitals.generation.load(Ordering::Relaxed).saturating_sub(1),
            last_exit: self.shared.exits().last().map(|record| record.exit.to_string()),
        }
    }
}
