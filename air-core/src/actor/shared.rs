//! What all lives of one worker have in common; it outlives each of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::call::Run;
use super::core::Core;
use super::error::Reason;
use super::exit::{Exit, ExitRecord};
use super::message::Worker;
use super::queue::Queue;
use super::spec::Spec;
use crate::device::Device;
use parking_lot::Mutex;

pub(super) type Envelope<W> = Arc<dyn Run<W>>;

/// Ends kept of each worker.
const HISTORY: usize = 16;

pub(super) struct Shared<W: Worker> {
    pub(super) spec: Spec,
    pub(super) core: Arc<Core>,
    pub(super) queue: Queue<Envelope<W>, Exit>,
    /// What is being handled, so that it can be answered for a worker that never returns.
    pub(super) current: Mutex<Option<Envelope<W>>>,
    pub(super) vitals: Vitals,
    exits: Mutex<VecDeque<ExitRecord>>,
    /// The GPUs it was given before its first life.
    pub(super) devices: OnceLock<Vec<Device>>,
}

/// What is known of a worker without knowing its type.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// When the present message (or start) began, in nanoseconds of the clock plus one; 0 while idle.
    busy_since: AtomicU64,
    pub(super) generation: AtomicU64,
    pub(super) handled: AtomicU64,
}

impl Vitals {
    pub(super) fn busy(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(nanos + 1, Ordering::Relaxed);
    }

    pub(super) fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn busy_since(&self) -> Option<Duration> {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_nanos(since - 1)),
        }
    }
}

impl<W: Worker> Shared<W> {
    pub(super) fn new(spec: Spec, core: Arc<Core>) -> Self {
        Self {
            queue: Queue::new(spec.capacity),
            spec,
            core,
            current: Mutex::new(None),
            vitals: Vitals::default(),
            exits: Mutex::new(VecDeque::new()),
            devices: OnceLock::new(),
        }
    }

    pub(super) fn record(&self, generation: u64, exit: Exit) {
        let mut exits = self.exits.lock();
        if exits.len() == HISTORY {
            exits.pop_front();
        }
        exits.push_back(ExitRecord { at: self.core.clock.now(), generation, exit });
    }

    pub(super) fn exits(&self) -> Vec<ExitRecord> {
        self.exits.lock().iter().cloned().collect()
    }

    /// Answers whoever waits for the message in hand, if the worker never did.
    pub(super) fn abort_current(&self, exit: &Exit) {
        let current = self.current.lock().take();
        if let Some(envelope) = current {
            envelope.died(exit);
        }
    }

    /// Closes the mailbox; every waiting ask learns why, every waiting tell becomes a dead letter.
    pub(super) fn close(&self, exit: &Exit) {
        for envelope in self.queue.close(exit.clone()) {
            self.bury(&envelope, Reason::Closed(exit.clone()));
        }
    }

    /// An envelope that will not be handled: back to its sender, or to the dead letters.
    pub(super) fn bury(&self, envelope: &Envelope<W>, reason: Reason) {
        if !envelope.undelivered(reason.clone()) {
            self.core.dead_letter(&self.spec.name, envelope.message_type(), reason);
        }
    }
}
