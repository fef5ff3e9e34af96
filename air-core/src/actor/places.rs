//! The threads workers live on. Used on the system thread only, where arbiters can be made.

use std::io;

use actix::{Arbiter, ArbiterHandle};

use parking_lot::Mutex;

/// Where one life of a worker runs.
pub(super) enum Place {
    Own(Arbiter),
    Shared(ArbiterHandle),
}

impl Place {
    pub(super) fn handle(&self) -> ArbiterHandle {
        match self {
            Self::Own(arbiter) => arbiter.handle(),
            Self::Shared(handle) => handle.clone(),
        }
    }

    /// Ends the thread if it was the worker's own, whose life has ended.
    pub(super) fn leave(self) {
        if let Self::Own(arbiter) = self {
            arbiter.stop();
            // Only fails if the thread panicked, which the cell does not let happen.
            let _ = arbiter.join();
        }
    }

    /// Lets the thread go without waiting for it: the worker on it has not returned.
    pub(super) fn abandon(self) {
        if let Self::Own(arbiter) = self {
            arbiter.stop();
        }
    }
}

/// The pool for shared workers, made when first needed.
pub(super) struct Places {
    shared_threads: usize,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    arbiters: Vec<Arbiter>,
    next: usize,
}

impl Places {
    pub(super) fn new(shared_threads: usize) -> Self {
        Self { shared_threads, pool: Mutex::default() }
    }

    pub(super) fn take(&self, shared: bool) -> io::Result<Place> {
        if !shared {
            return Arbiter::try_new().map(Place::Own);
        }
        let mut pool = self.pool.lock();
        if pool.arbiters.len() < self.shared_threads {
            pool.arbiters.push(Arbiter::try_new()?);
        }
        pool.next = (pool.next + 1) % pool.arbiters.len();
        Ok(Place::Shared(pool.arbiters[pool.next].handle()))
    }

    /// Ends the pool's threads; `stuck` says that some worker on them has not returned.
    pub(super) fn close(&self, stuck: bool) {
        for arbiter in std::mem::take(&mut self.pool.lock().arbiters) {
            arbiter.stop();
            if !stuck {
                let _ = arbiter.join();
            }
        }
    }
}
