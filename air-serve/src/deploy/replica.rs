//! Replicas: workers that build a model and pull from their deployment's queue; replaced when their model is lost.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::{Core, End};
use crate::error::ServeError;
use crate::model::Model;

/// Delay before the first replacement in a row, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The replicas of one deployment.
pub(crate) struct Replicas {
    threads: Vec<JoinHandle<()>>,
}

/// Collects how the first start of each replica went.
pub(crate) struct Started {
    state: Mutex<(usize, Option<Arc<str>>)>,
    changed: Condvar,
}

impl Started {
    fn new(replicas: usize) -> Arc<Self> {
        Arc::new(Started { state: Mutex::new((replicas, None)), changed: Condvar::new() })
    }

    fn note(&self, built: Result<(), Arc<str>>) {
        let mut state = self.state.lock();
        match built {
            Ok(()) => state.0 = state.0.saturating_sub(1),
            Err(reason) => state.1 = Some(reason),
        }
        self.changed.notify_all();
    }

    fn wait(&self) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        loop {
            match &*state {
                (_, Some(reason)) => return Err(Arc::clone(reason)),
                (0, None) => return Ok(()),
                _ => self.changed.wait(&mut state),
            }
        }
    }
}

impl Replicas {
    /// Starts every replica and waits until each has its model; the first that cannot build it fails the deployment.
    pub(crate) fn start<M: Model>(core: &Arc<Core<M>>) -> Result<Self, ServeError> {
        let started = Started::new(core.slots.len());
        let mut replicas = Replicas { threads: Vec::new() };
        for index in 0..core.slots.len() {
            let (core, started) = (Arc::clone(core), Arc::clone(&started));
            let thread = thread::Builder::new().name(core.slots[index].name.to_string());
            let spawned = thread.spawn(move || run(&core, index, &started));
            replicas
                .threads
                .push(spawned.map_err(|source| ServeError::Io { what: "cannot start a thread", source })?);
        }
        if let Err(reason) = started.wait() {
            core.close();
            replicas.join();
            return Err(ServeError::Model { deployment: Arc::clone(&core.name), reason });
        }
        Ok(replicas)
    }

    /// Waits for the replicas of a deployment that was closed.
    pub(crate) fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run<M: Model>(core: &Core<M>, index: usize, started: &Started) {
    let mut delay = FIRST_DELAY;
    let mut first = true;
    while !core.is_closed() {
        let built = core.build(index);
        let ok = built.is_ok();
        if let Err(reason) = &built {
            tracing::error!(replica = %core.slots[index].name, %reason, "the model could not be built");
        }
        if std::mem::take(&mut first) {
            started.note(built);
        }
        if ok {
            match core.pull(index) {
                End::Closed => return,
                End::Lost(_) => {}
            }
        }
        core.pause(delay);
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}
