//! A model that waits to be let through, so that tests need no sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use air_core::BoxError;
use air_serve::{Deployment, Model};
use crossbeam_channel::{Receiver, Sender, unbounded};

/// The test's side.
pub struct Gate {
    /// The inputs of each batch, when the model starts on it.
    pub started: Receiver<Vec<i64>>,
    /// One item lets one batch through.
    pub open: Sender<()>,
    /// Inputs the model has seen.
    pub seen: Arc<AtomicUsize>,
    /// Models built.
    pub built: Arc<AtomicUsize>,
}

/// Gives back its inputs once it is let through. Negative inputs make it misbehave.
pub struct Gated {
    started: Sender<Vec<i64>>,
    open: Receiver<()>,
    seen: Arc<AtomicUsize>,
}

pub const PANIC: i64 = -1;
pub const FAIL: i64 = -2;
pub const ONE_TOO_FEW: i64 = -3;

impl Model for Gated {
    type In = i64;
    type Out = i64;

    fn predict(&mut self, mut batch: Vec<i64>) -> Result<Vec<i64>, BoxError> {
        self.seen.fetch_add(batch.len(), Ordering::SeqCst);
        // The test may have ended already.
        let _ = self.started.send(batch.clone());
        let _ = self.open.recv();
        assert!(!batch.contains(&PANIC), "told to panic");
        if batch.contains(&FAIL) {
            return Err("told to fail".into());
        }
        if batch.contains(&ONE_TOO_FEW) {
            batch.pop();
        }
        Ok(batch)
    }
}

/// A deployment of gated models, and the gate.
pub fn gated(name: &str) -> (Gate, Deployment<Gated>) {
    let (started, started_seen) = unbounded();
    let (open, open_seen) = unbounded();
    let (seen, built) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Gate { started: started_seen, open, seen: Arc::clone(&seen), built: Arc::clone(&built) };
    let deployment = Deployment::new(name, move || {
        built.fetch_add(1, Ordering::SeqCst);
        Ok(Gated { started: started.clone(), open: open_seen.clone(), seen: Arc::clone(&seen) })
    });
    (gate, deployment)
}
