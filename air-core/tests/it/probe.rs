//! The worker that tests of workers use, and what they do with it.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use air_core::{
    Backoff, BoxError, Cx, Handle, Mailbox, Message, Runtime, Supervisor, SupervisorSpec, Worker,
};

pub const SECOND: Duration = Duration::from_secs(1);

/// Counts, and does on request whatever can go wrong.
pub struct Probe {
    pub count: u64,
    pub stopped: Option<mpsc::Sender<u64>>,
}

impl Worker for Probe {
    fn stopped(&mut self) {
        if let Some(stopped) = &self.stopped {
            stopped.send(self.count).unwrap();
        }
    }
}

pub struct Add(pub u64);
impl Message for Add {
    type Reply = u64;
}
impl Handle<Add> for Probe {
    fn handle(&mut self, Add(n): Add, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        self.count += n;
        Ok(self.count)
    }
}

pub type Act = Box<dyn FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send>;

/// Runs a closure inside the worker.
pub struct Do(pub Act);
impl Message for Do {
    type Reply = ();
}
impl Handle<Do> for Probe {
    fn handle(&mut self, Do(run): Do, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        run(cx)
    }
}

pub fn act(run: impl FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send + 'static) -> Do {
    Do(Box::new(run))
}

pub fn boom(message: &'static str) -> Do {
    act(move |_| panic!("{message}"))
}

pub fn new_probe(_: &mut Cx<Probe>) -> Result<Probe, BoxError> {
    Ok(Probe { count: 0, stopped: None })
}

/// Holds the worker in its handler until told otherwise; returns once it is there.
pub fn hold(mailbox: &Mailbox<Probe>) -> mpsc::Sender<()> {
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
pub fn eager(runtime: &Runtime) -> Supervisor {
    runtime.supervisor(SupervisorSpec::new("eager").backoff(Backoff::NONE)).unwrap()
}

/// Waits for what nobody is told of, such as a counter. A minute is for ever: better a test that fails than one that hangs.
#[track_caller]
pub fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < 60 * SECOND, "still not so");
        std::thread::yield_now();
    }
}
