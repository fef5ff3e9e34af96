//! The one thread that writes: many records to a commit, and only what is committed is told to anyone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use air_core::channel::{Limit, Receiver, Sender, Weigh, bounded};
use parking_lot::{Condvar, Mutex};

use super::Store;
use crate::controller::Record;
use crate::error::{Result, TuneError};
use crate::log::{Callback, Event};
use crate::result::TrialResult;
use crate::space::{Assignment, Domain};
use crate::values::Values;

/// Most records that wait to be written, and most in one commit.
const QUEUE: usize = 1024;
/// Most bytes that wait to be written.
const QUEUE_BYTES: usize = 16 << 20;

/// Hands records to the writing thread; waits while the queue is full.
pub(crate) struct Journal {
    sender: Sender<Record>,
    sent: u64,
    stored: Arc<Stored>,
}

/// How far the writing thread is.
#[derive(Default)]
pub(crate) struct Stored {
    reached: Mutex<Reached>,
    changed: Condvar,
}

#[derive(Default)]
struct Reached {
    records: u64,
    over: bool,
}

impl Stored {
    fn advance(&self, records: usize) {
        self.reached.lock().records += records as u64;
        self.changed.notify_all();
    }

    /// Waits until so many records are stored; not so, if they never will be.
    pub fn wait(&self, records: u64) -> bool {
        let mut reached = self.reached.lock();
        self.changed.wait_while(&mut reached, |reached| reached.records < records && !reached.over);
        reached.records >= records
    }
}

/// Says that nothing more is stored, however the thread ends.
struct Over(Arc<Stored>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.reached.lock().over = true;
        self.0.changed.notify_all();
    }
}

/// The writing thread.
pub(crate) struct Writer {
    thread: JoinHandle<Result<()>>,
}

/// What the writing thread works with.
pub(crate) struct Sink {
    pub store: Option<Store>,
    pub callbacks: Vec<Box<dyn Callback>>,
    pub dir: Option<PathBuf>,
}

impl Writer {
    pub fn start(sink: Sink) -> Result<(Journal, Self)> {
        let (sender, receiver) = bounded(Limit { items: QUEUE, bytes: QUEUE_BYTES });
        let stored = Arc::<Stored>::default();
        let over = Over(Arc::clone(&stored));
        let thread = std::thread::Builder::new()
            .name("air-tune-writer".into())
            .spawn(move || sink.run(&receiver, &over.0))
            .map_err(TuneError::io("thread air-tune-writer"))?;
        Ok((Journal { sender, sent: 0, stored }, Self { thread }))
    }

    /// Waits until everything handed over is stored. Every [`Journal`] must be gone.
    pub fn finish(self) -> Result<()> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Journal {
    /// Whether the record will be stored; not, once the store has failed.
    pub fn send(&mut self, record: Record) -> bool {
        self.sent += 1;
        self.sender.send(record).is_ok()
    }

    /// Where to wait for what has been sent so far, and how much that is.
    pub fn mark(&self) -> (Arc<Stored>, u64) {
        (Arc::clone(&self.stored), self.sent)
    }
}

impl Sink {
    fn run(mut self, records: &Receiver<Record>, stored: &Stored) -> Result<()> {
        let mut batch = Vec::with_capacity(QUEUE);
        while let Ok(first) = records.recv() {
            batch.push(first);
            batch.extend(std::iter::from_fn(|| records.try_recv().ok()).take(QUEUE - 1));
            if let Some(store) = &mut self.store {
                store.apply(&batch)?;
            }
            stored.advance(batch.len());
            let dir = self.dir.as_deref();
            let events: Vec<Event> = batch.drain(..).filter_map(|record| event(record, dir)).collect();
            self.tell(&events);
        }
        for callback in &mut self.callbacks {
            callback.finish();
        }
        Ok(())
    }

    /// A callback that fails is told nothing more; the experiment goes on.
    fn tell(&mut self, events: &[Event]) {
        self.callbacks.retain_mut(|callback| match callback.on_events(events) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{} stops: {}", callback.name(), crate::error::chain(error.as_ref()));
                false
            }
        });
    }
}

impl Weigh for Record {
    fn weight_bytes(&self) -> usize {
        let named = |values: &Values| values.iter().map(|(name, _)| name.len() + 40).sum::<usize>();
        let listed = |domain: &Domain| match domain {
            Domain::Grid { values } | Domain::Choice { values } => 40 * values.len(),
            _ => 0,
        };
        let placed = |point: &Assignment| point.iter().map(|(path, _)| path.len() + 80).sum::<usize>();
        size_of::<Record>()
            + match self {
                Record::Started { assignment, .. } | Record::Changed { assignment, .. } => placed(assignment),
                Record::Reported { values, .. } => named(values),
                Record::Suggested { path, domain, .. } => path.len() + listed(domain),
                Record::Requeued { .. }
                | Record::Paused { .. }
                | Record::Idle { .. }
                | Record::Exhausted { .. } => 0,
                Record::Ended { assignment, last, .. } => placed(assignment) + named(last),
            }
    }
}

fn event(record: Record, dir: Option<&Path>) -> Option<Event> {
    Some(match record {
        Record::Started { trial, attempt, assignment, .. } => {
            Event::Started { trial, attempt, config: assignment.to_config() }
        }
        Record::Reported { trial, iteration, value, values, seconds, .. } => {
            Event::Reported { trial, iteration, value, values, seconds }
        }
        Record::Requeued { trial, cause } => Event::Requeued { trial, cause },
        Record::Paused { trial } => Event::Paused { trial },
        Record::Changed { trial, iteration, origin, assignment, .. } => {
            Event::Changed { trial, iteration, donor: origin.donor, config: assignment.to_config() }
        }
        // The whole configuration comes with the trial's end.
        Record::Idle { .. } | Record::Exhausted { .. } | Record::Suggested { .. } => return None,
        Record::Ended { trial, end, attempts, assignment, last, .. } => {
            Event::Ended(TrialResult::new(trial, &assignment, end, attempts, last, dir))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_when_it_is_stored_or_never_will_be() {
        let stored = Arc::<Stored>::default();
        assert!(stored.wait(0));
        let waits = Arc::clone(&stored);
        let waiter = std::thread::spawn(move || waits.wait(3));
        stored.advance(2);
        stored.advance(1);
        assert!(waiter.join().is_ok_and(|told| told));
        let waits = Arc::clone(&stored);
        let waiter = std::thread::spawn(move || waits.wait(4));
        drop(Over(Arc::clone(&stored)));
        assert!(waiter.join().is_ok_and(|told| !told));
        assert!(stored.wait(3), "what was stored stays so");
    }
}
