//! A running experiment: the controller behind a lock, the clock, and the way to the writer.
//!
//! Slots call in; nobody sends messages back and forth. A report is judged in the caller's own thread, in about a microsecond,
//! where waking a controller's thread and being woken again would cost a hundred. Records leave in the order they were made: they are
//! handed to the writer before the lock is released.

use std::time::Duration;

use air_core::Clock;
use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use crate::TrialId;
use crate::controller::{Controller, Launch, Next, TrialState};
use crate::error::{Cause, Result};
use crate::schedule::StopReason;
use crate::space::Domain;
use crate::storage::writer::Journal;
use crate::values::Values;

pub(crate) struct Study {
    inner: Mutex<Inner>,
    /// Signalled when a slot that waits may find something to do.
    changed: Condvar,
    clock: Clock,
}

struct Inner {
    controller: Controller,
    journal: Option<Journal>,
}

impl Study {
    pub fn new(controller: Controller, journal: Option<Journal>, clock: Clock) -> Self {
        Self { inner: Mutex::new(Inner { controller, journal }), changed: Condvar::new(), clock }
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The next trial for a free slot; waits while there may be one later.
    pub fn next(&self) -> Option<Launch> {
        let mut inner = self.inner.lock();
        loop {
            let next = inner.controller.next(self.now());
            inner.hand_over();
            match next {
                Next::Run(launch) => return Some(launch),
                Next::Over => return None,
                Next::Wait => self.changed.wait(&mut inner),
            }
        }
    }

    pub fn report(&self, trial: TrialId, iteration: u64, values: Values) -> Option<StopReason> {
        let mut inner = self.inner.lock();
        let stop = inner.controller.report(self.now(), trial, iteration, values);
        inner.hand_over();
        if inner.controller.has_work() {
            self.changed.notify_all();
        }
        stop
    }

    /// The value of a parameter that a trial names.
    pub fn suggest(&self, trial: TrialId, path: &str, domain: &Domain) -> Result<Value> {
        let mut inner = self.inner.lock();
        let value = inner.controller.suggest(trial, path, domain);
        inner.hand_over();
        value
    }

    /// Waits until all that was reported so far is stored; returns whether it is, which it is not once the store has failed.
    pub fn wait_stored(&self) -> bool {
        let mark = self.inner.lock().journal.as_ref().map(Journal::mark);
        mark.is_some_and(|(stored, records)| stored.wait(records))
    }

    /// The trial saved a checkpoint, at this place within the experiment's folder, with so many iterations behind it.
    pub fn saved(&self, trial: TrialId, checkpoint: String, iteration: u64) {
        self.inner.lock().controller.saved(trial, checkpoint, iteration);
    }

    /// The trial has copied the checkpoint it starts from, if there was one, to this place within the experiment's folder.
    pub fn copied(&self, trial: TrialId, place: Option<String>) {
        self.inner.lock().controller.copied(trial, place);
    }

    /// Whether somebody still needs a checkpoint at or below this place.
    pub fn is_pinned(&self, place: &str) -> bool {
        self.inner.lock().controller.is_pinned(place)
    }

    pub fn must_stop(&self, trial: TrialId) -> Option<StopReason> {
        self.inner.lock().controller.must_stop(self.now(), trial)
    }

    pub fn ended(&self, trial: TrialId, result: Result<(), Cause>) {
        let mut inner = self.inner.lock();
        inner.controller.ended(self.now(), trial, result);
        inner.hand_over();
        self.changed.notify_all();
    }

    /// Ends the experiment: the writer's queue closes, and nothing is recorded any more. Returns the trials, and the parameters they named.
    pub fn close(&self) -> (Vec<TrialState>, Vec<(String, Domain)>) {
        let mut inner = self.inner.lock();
        inner.journal = None;
        let named = inner.controller.named();
        (inner.controller.take_trials(), named)
    }
}

impl Inner {
    fn hand_over(&mut self) {
        let records = self.controller.take_records();
        let Some(journal) = &mut self.journal else { return };
        if !records.into_iter().all(|record| journal.send(record)) {
            // The writer has failed; it says why when the experiment ends.
            self.controller.shut(StopReason::StoreFailed);
            self.journal = None;
        }
    }
}
