//! Wakes a poll in time: its own timeout is a whole number of milliseconds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mio::Waker;

/// A thread that sleeps in the poll's stead.
pub(super) struct Alarm {
    times: Option<SyncSender<Instant>>,
    set: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    pub fn new(waker: Waker) -> io::Result<Self> {
        let (times, asked) = sync_channel::<Instant>(1);
        let set = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&set);
        let sleeper = move || {
            while let Ok(at) = asked.recv() {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                seen.store(false, Ordering::Release);
                if let Err(error) = waker.wake() {
                    return tracing::error!(%error, "cannot wake the load generator");
                }
            }
        };
        let thread = thread::Builder::new().name("air-load-alarm".into()).spawn(sleeper)?;
        Ok(Alarm { times: Some(times), set, thread: Some(thread) })
    }

    /// Wakes the poll at that time; nothing where it is set already.
    pub fn set(&self, at: Instant) {
        if !self.set.swap(true, Ordering::AcqRel)
            && let Some(times) = &self.times
        {
            // There is room: the thread took the last time before it said that none is set.
            let _ = times.try_send(at);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.times = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
