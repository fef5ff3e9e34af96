//! Requests that a model works on after it has answered them, its answers being streams: which those are, and taking all of them one step
//! further.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use air_core::BoxError;
use parking_lot::Mutex;

use super::AnyModel;
use super::core::{Core, Job};
use super::slot::Slot;
use crate::error::{CallError, chain};
use crate::http::Traced;
use crate::stream::{Host, Limits, Stream, Watch};

/// What a replica's model still works on. Written by whoever holds the model.
#[derive(Default)]
pub(crate) struct Ongoing {
    running: AtomicUsize,
    /// What those count for in a batch.
    occupied: AtomicUsize,
    /// None of them could go on in the last step.
    blocked: AtomicBool,
    /// One of them may go on since then. Set with the lock of the queue held.
    poked: AtomicBool,
    streams: Mutex<Vec<Admitted>>,
}

/// A stream that a replica's model writes to.
struct Admitted {
    stream: Arc<dyn Stream>,
    size: usize,
    watch: Watch,
    /// Ends with it.
    traced: Option<Traced>,
}

impl Ongoing {
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// What those that run count for in a batch.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Whether a step would change nothing.
    pub(crate) fn waits(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) && !self.poked.load(Ordering::Relaxed)
    }

    /// Takes in what the model says.
    pub(super) fn note(&self, running: usize, blocked: bool) {
        self.running.store(running, Ordering::Relaxed);
        self.blocked.store(blocked, Ordering::Relaxed);
        let mut streams = self.streams.lock();
        if streams.len() > running {
            streams.retain(|admitted| !admitted.stream.is_over());
        }
        let size = streams.iter().map(|admitted| admitted.size).sum();
        self.occupied.store(running.max(size), Ordering::Relaxed);
    }

    /// Ends all streams.
    pub(super) fn fail(&self, error: &CallError) {
        let streams = std::mem::take(&mut *self.streams.lock());
        for Admitted { stream, traced, .. } in streams {
            stream.fail(error.clone());
            if let Some(traced) = traced {
                traced.fail(error);
            }
        }
    }

    /// Ends the streams that have stood still for too long.
    fn end_idle(&self, now: Duration) {
        let look = |admitted: &mut Admitted| {
            let overdue = admitted.watch.look(now, admitted.stream.progress())?;
            Some((Arc::clone(&admitted.stream), overdue))
        };
        let overdue: Vec<_> = self.streams.lock().iter_mut().filter_map(look).collect();
        for (stream, overdue) in overdue {
            stream.fail(overdue.into());
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    /// Whether its models work on requests after they have answered them.
    pub(super) fn steps(&self) -> bool {
        self.steps.load(Ordering::Relaxed)
    }

    /// Takes in that a model does, or does not.
    pub(super) fn note_running(&self, slot: &Slot<I, O>, running: usize, blocked: bool) {
        if running > 0 && !self.steps() {
            self.steps.store(true, Ordering::Relaxed);
            self.inline.store(false, Ordering::Relaxed);
        }
        slot.ongoing().note(running, blocked);
    }

    /// Takes in an answer that is a stream, before anybody else has it.
    pub(super) fn admit(self: &Arc<Self>, slot: &Arc<Slot<I, O>>, job: &mut Job<I, O>, answer: &O) {
        let Some(stream) = self.streams.map(|stream| stream(answer)) else { return };
        let limits =
            Limits { since: job.since, first_by: job.deadline, idle: self.config.stream_idle_timeout() };
        let tie = Tie { core: Arc::clone(self), slot: Arc::clone(slot), since: job.since };
        stream.attach(Arc::new(tie), self.config.stream_buffer_items);
        let traced = job.traced.take();
        let admitted = Admitted { stream, size: job.size, watch: Watch::new(limits), traced };
        slot.ongoing().streams.lock().push(admitted);
    }

    /// Takes all that run one step further.
    pub(super) fn step(&self, slot: &Slot<I, O>) {
        let mut guard = slot.model.lock();
        let Some(model) = guard.as_mut() else { return slot.ongoing().note(0, false) };
        // Whoever makes room from here on is heard.
        slot.ongoing().poked.store(false, Ordering::SeqCst);
        let (running, start) = (model.running(), self.now());
        slot.work().begin(start, 0);
        let stepped = catch_unwind(AssertUnwindSafe(|| (model.step(), model.running(), model.is_blocked())));
        let end = self.now();
        slot.work().end_step();
        match stepped {
            Ok((done, running_now, blocked)) => {
                if !blocked {
                    self.metrics.stepped(running, end.saturating_sub(start));
                }
                if let Err(error) = done {
                    let replica = Arc::clone(&slot.name);
                    slot.ongoing().fail(&CallError::Failed { replica, reason: chain(&error) });
                }
                self.note_running(slot, running_now, blocked);
            }
            Err(payload) => {
                let (reason, error) = self.panicked(slot, &*payload);
                self.lose_model(slot, guard, reason, &error);
            }
        }
    }

    /// Ends the streams that have stood still for too long.
    pub(super) fn end_idle_streams(&self) {
        let (slots, now) = (self.slots.load(), self.now());
        slots.iter().for_each(|slot| slot.ongoing().end_idle(now));
    }

    /// Tries a fresh model; its streams are read to their end.
    pub(super) fn warm_up(
        &self,
        slot: &Slot<I, O>,
        model: &mut AnyModel<I, O>,
        inputs: Vec<I>,
    ) -> Result<(), BoxError> {
        let said = |error: BoxError| BoxError::from(format!("warm-up: {}", chain(&error)));
        let size = inputs.len();
        if size == 0 {
            return Ok(());
        }
        let answers = model.predict(inputs).map_err(said)?;
        if answers.len() != size {
            let count = answers.len();
            return Err(format!("warm-up: it gave {count} answers to a batch of {size}").into());
        }
        let streams: Vec<Arc<dyn Stream>> =
            self.streams.map(|stream| answers.iter().map(stream).collect()).unwrap_or_default();
        for stream in &streams {
            stream.discard();
        }
        while model.running() > 0 && !slot.is_given_up() {
            model.step().map_err(said)?;
        }
        match streams.iter().find_map(|stream| stream.failure()) {
            Some(error) => Err(said(error.into())),
            None => Ok(()),
        }
    }
}

/// What ties a stream to its replica.
struct Tie<I, O> {
    core: Arc<Core<I, O>>,
    slot: Arc<Slot<I, O>>,
    since: Duration,
}

impl<I: Send + 'static, O: Send + 'static> Tie<I, O> {
    fn took(&self) -> Duration {
        self.core.now().saturating_sub(self.since)
    }
}

impl<I: Send + 'static, O: Send + 'static> Host for Tie<I, O> {
    fn replica(&self) -> Arc<str> {
        Arc::clone(&self.slot.name)
    }

    fn poke(&self) {
        self.core.poke_replica(|| self.slot.ongoing().poked.store(true, Ordering::SeqCst));
    }

    fn first(&self) {
        self.core.metrics.first_item(self.took());
    }

    fn over(&self, items: u64) {
        self.core.metrics.streamed(items, self.took());
    }
}
