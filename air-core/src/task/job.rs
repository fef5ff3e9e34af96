//! [`Job`]: what a pool runs.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Which of the tasks that could run is run first. One start in 64 goes the other way round, so that nothing waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// In order of start, by and large.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// Whether a job has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    Done,
    /// It will be pushed again.
    Again,
}

/// One entry of the queues.
pub(super) trait Job: Send + Sync {
    /// Runs it, unless that has been done elsewhere.
    fn run(self: Arc<Self>) -> Ran;

    /// It has waited for a clock and may run from now on.
    fn due(&self) {}

    /// Ends it without running it: the runtime has ended.
    fn stop(self: Arc<Self>);

    fn priority(&self) -> Priority {
        Priority::Normal
    }
}

pub(super) type JobRef = Arc<dyn Job>;

/// A closure to be run as soon as possible, by the runtime itself.
pub(super) struct Errand(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Errand {
    pub(super) fn new(run: Box<dyn FnOnce() + Send>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(run))))
    }
}

impl Job for Errand {
    fn run(self: Arc<Self>) -> Ran {
        let run = self.0.lock().take();
        if let Some(run) = run {
            run();
        }
        Ran::Done
    }

    fn stop(self: Arc<Self>) {
        let run = self.0.lock().take();
        drop(run);
    }

    fn priority(&self) -> Priority {
        Priority::High
    }
}
