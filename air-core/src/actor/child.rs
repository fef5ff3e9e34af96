//! A worker as its supervisor sees it: without its type.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::ArbiterHandle;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, Factory, Report};
use super::exit::{Exit, ExitRecord};
use super::message::Worker;
use super::shared::{Shared, Vitals};
use super::spec::Spec;
use crate::clock::seconds;
use crate::device::Device;

pub(super) trait Child: Send + Sync {
    fn spec(&self) -> &Spec;
    fn vitals(&self) -> &Vitals;
    /// Says which GPUs it has; before its first life.
    fn give(&self, devices: Vec<Device>);
    /// The number it is listed under.
    fn number(&self) -> u64;
    /// Starts a life on the arbiter's thread; its end is reported.
    fn launch(&self, generation: u64, arbiter: &ArbiterHandle, report: Report);
    /// Stops the present life after its current message.
    fn interrupt(&self);
    /// Whether the user asked for the worker's end.
    fn asked_to_end(&self) -> bool;
    /// Leaves the present life behind: it takes no more messages and its caller gets this exit.
    fn abandon(&self, exit: &Exit);
    fn record(&self, generation: u64, exit: Exit);
    /// Tells who watches that a life has ended and another may follow.
    fn tell_watchers(&self, exit: &Exit);
    fn close(&self, exit: &Exit);
    /// Why there will be no further life, once that is so.
    fn closed(&self) -> Option<Exit>;
    fn state(&self) -> WorkerState;
}

/// What a worker is doing now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerState {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub phase: WorkerPhase,
    /// Messages waiting.
    pub queued: usize,
    /// Messages handled by all its lives.
    pub handled: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last life ended, if one has; why there will be no further life, where it has ended for good.
    pub last_exit: Option<String>,
    /// How its last lives ended, oldest first (at most 16).
    pub exits: Vec<ExitState>,
    /// The GPUs it was given.
    pub devices: Vec<Device>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerPhase {
    /// It waits for messages.
    Idle,
    /// It handles one.
    Busy,
    /// Its last life has ended, and the next has not begun.
    Restarting,
    /// It has ended for good.
    Ended,
}

/// How one life of a worker ended, as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExitState {
    /// When, on the runtime's clock (serialised in seconds).
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Which life; the first is 1.
    pub generation: u64,
    /// Why, with the chain of causes.
    pub cause: String,
}

impl From<ExitRecord> for ExitState {
    fn from(record: ExitRecord) -> Self {
        Self { at: record.at, generation: record.generation, cause: record.exit.to_string() }
    }
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

    fn give(&self, devices: Vec<Device>) {
        // Given once: a worker is put under a supervisor once.
        let _ = self.shared.devices.set(devices);
    }

    fn number(&self) -> u64 {
        self.shared.number
    }

    fn launch(&self, generation: u64, arbiter: &ArbiterHandle, report: Report) {
        self.shared.vitals.generation.store(generation, Ordering::Relaxed);
        self.shared.vitals.busy(self.shared.core.clock.now());
        self.shared.queue.own(generation);
        Cell::launch(Arc::clone(&self.shared), Arc::clone(&self.factory), generation, arbiter, report);
    }

    fn interrupt(&self) {
        self.shared.queue.interrupt(Exit::Normal);
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

    fn tell_watchers(&self, exit: &Exit) {
        self.shared.tell_watchers(exit, false);
    }

    fn close(&self, exit: &Exit) {
        self.shared.close(exit);
    }

    fn closed(&self) -> Option<Exit> {
        self.shared.queue.closed()
    }

    fn state(&self) -> WorkerState {
        let vitals = &self.shared.vitals;
        let generation = vitals.generation.load(Ordering::Relaxed);
        let exits: Vec<ExitState> = self.shared.exits().into_iter().map(ExitState::from).collect();
        let phase = if exits.last().is_some_and(|exit| exit.generation == generation) {
            WorkerPhase::Restarting
        } else if self.shared.is_busy() {
            WorkerPhase::Busy
        } else {
            WorkerPhase::Idle
        };
        WorkerState {
            name: Arc::clone(&self.shared.spec.name),
            phase,
            queued: self.shared.queue.len(),
            handled: vitals.handled.load(Ordering::Relaxed),
            restarts: generation.saturating_sub(1),
            last_exit: exits.last().map(|exit| exit.cause.clone()),
            exits,
            devices: self.shared.devices.get().cloned().unwrap_or_default(),
        }
    }
}
