//! Answers that come one item at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use air_core::BoxError;
use air_serve::{CallError, Deployment, Generate, Generator, Running};
use crossbeam_channel::{Receiver, Sender, unbounded};

mod grpc;
mod handle;
mod http;
mod socket;

/// What a step is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    Step,
    Panic,
    Fail,
    Hang,
}

/// Counts up from 0 to each input; each of its steps waits for the test.
pub struct Counter {
    steps: Sender<Vec<u32>>,
    go: Receiver<Do>,
    dropped: Arc<AtomicUsize>,
}

pub struct Count {
    of: u32,
    next: u32,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Generate for Counter {
    type In = u32;
    type Item = u32;
    type Sequence = Count;

    fn begin(&mut self, of: u32) -> Result<Count, BoxError> {
        if of == 13 {
            return Err("13 is not begun".into());
        }
        if of == 14 {
            return Err(Box::new(CallError::Invalid { expected: "less".into(), got: "14".into() }));
        }
        Ok(Count { of, next: 0, dropped: Arc::clone(&self.dropped) })
    }

    fn step(&mut self, running: &mut [Running<Count, u32>]) -> Result<(), BoxError> {
        // The test may be over.
        let _ = self.steps.send(running.iter().map(|one| one.sequence.of).collect());
        match self.go.recv() {
            Ok(Do::Panic) => panic!("told to panic"),
            Ok(Do::Fail) => return Err("told to fail".into()),
            Ok(Do::Hang) => drop(self.go.recv()),
            _ => {}
        }
        for one in running {
            if one.sequence.next == one.sequence.of {
                one.finish();
            } else {
                one.send(one.sequence.next);
                one.sequence.next += 1;
            }
        }
        Ok(())
    }
}

/// The test's side of a counter.
pub struct Steps {
    /// What each step that began works on.
    pub begun: Receiver<Vec<u32>>,
    pub go: Sender<Do>,
    /// Sequences that are gone.
    pub dropped: Arc<AtomicUsize>,
}

impl Steps {
    /// Lets the step that waits go on; returns what it works on.
    #[track_caller]
    pub fn step(&self, what: Do) -> Vec<u32> {
        let on = self.begun.recv_timeout(Duration::from_mins(1)).unwrap();
        self.go.send(what).unwrap();
        on
    }

    /// Lets all further steps go on.
    pub fn free(&self) {
        for _ in 0..10_000 {
            let _ = self.go.send(Do::Step);
        }
    }
}

pub fn counter() -> (Steps, Deployment<Generator<Counter>>) {
    let ((steps, steps_seen), (go, go_seen)) = (unbounded(), unbounded());
    let dropped = Arc::new(AtomicUsize::new(0));
    let test = Steps { begun: steps_seen, go, dropped: Arc::clone(&dropped) };
    let build =
        move || Ok(Counter { steps: steps.clone(), go: go_seen.clone(), dropped: Arc::clone(&dropped) });
    (test, Deployment::generate("model", build).with(|config| config.request_timeout_s = 10_000.0))
}
