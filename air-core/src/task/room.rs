//! [`Room`]: how many tasks may be under way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

/// How many tasks have been started and not ended, and who waits for there to be fewer.
pub(super) struct Room {
    limit: usize,
    pending: AtomicUsize,
    waiting: AtomicUsize,
    closed: AtomicBool,
    lock: Mutex<()>,
    less: Condvar,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            pending: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            lock: Mutex::new(()),
            less: Condvar::new(),
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// One more, whatever the limit; whether it is within it.
    pub(super) fn add(&self) -> bool {
        self.pending.fetch_add(1, Ordering::SeqCst) < self.limit
    }

    /// One less.
    pub(super) fn remove(&self) {
        let left = self.pending.fetch_sub(1, Ordering::SeqCst) - 1;
        if self.waiting.load(Ordering::SeqCst) > 0 && left <= self.low() {
            drop(self.lock.lock());
            self.less.notify_all();
        }
    }

    /// Waits until there are clearly fewer than the limit.
    pub(super) fn wait(&self) {
        let mut lock = self.lock.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.pending.load(Ordering::SeqCst) > self.low() && !self.closed.load(Ordering::SeqCst) {
            self.less.wait(&mut lock);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.lock.lock());
        self.less.notify_all();
    }

    /// Waking a thread costs more than many tasks, so it goes on when there is room for many.
    fn low(&self) -> usize {
        (self.limit - self.limit / 4).min(self.limit - 1)
    }
}
