//! Workers and supervision; here is the worker that all these tests use.
#![allow(clippy::unwrap_used)]

mod concurrent;
mod group;
mod mailbox;
mod messages;
mod names;
mod runtime;
mod supervision;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use air_core::{
    AskError, Backoff, BoxError, Clock, Cx, Exit, GroupSpec, Handle, Mailbox, Message, Reason, Restart,
    Runtime, RuntimeConfig, Spec, Strategy, SupervisorSpec, Worker, WorkerPhase,
};

const SECOND: Duration = Duration::from_secs(1);

/// Counts, and does on request whatever can go wrong.
struct Probe {
    count: u64,
    stopped: Option<mpsc::Sender<u64>>,
}

impl Worker for Probe {
    fn stopped(&mut self) {
        if let Some(stopped) = &self.stopped {
            stopped.send(self.count).unwrap();
        }
    }
}

struct Add(u64);
impl Message for Add {
    type Reply = u64;
}
impl Handle<Add> for Probe {
    fn handle(&mut self, Add(n): Add, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        self.count += n;
        Ok(self.count)
    }
}

type Act = Box<dyn FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send>;

/// Runs a closure inside the worker.
struct Do(Act);
impl Message for Do {
    type Reply = ();
}
impl Handle<Do> for Probe {
    fn handle(&mut self, Do(run): Do, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        run(cx)
    }
}

fn act(run: impl FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send + 'static) -> Do {
    Do(Box::new(run))
}

fn boom(message: &'static str) -> Do {
    act(move |_| panic!("{message}"))
}

fn new_probe(_: &mut Cx<Probe>) -> Result<Probe, BoxError> {
    Ok(Probe { count: 0, stopped: None })
}

/// Holds the worker in its handler until told otherwise; returns once it is there.
fn hold(mailbox: &Mailbox<Probe>) -> mpsc::Sender<()> {
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let held = act(move |_| {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    });
    mailbox.tell_blocking(held).unwrap();
    is_in.recv().unwrap();
    release
}

/// A runtime whose restarts are immediate.
fn eager(runtime: &Runtime) -> air_core::Supervisor {
    runtime.supervisor(SupervisorSpec::new("eager").backoff(Backoff::NONE)).unwrap()
}

/// Waits for what nobody is told of, such as a counter.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}
