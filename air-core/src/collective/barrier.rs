//! [`Barrier`]: where the ranks of a group meet, and where they learn that one of them is lost.
//!
//! A rank that arrives early spins for a moment (a meeting of running threads takes under a microsecond, waking
//! a parked one tens of them), then parks. [`Barrier::fail`] ends the group for ever: everyone who waits, or
//! comes later, is told at once. The loom model in `tests/it/collective_loom.rs` explores every interleaving.

use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, PoisonError, spin_loop};

/// The lowest bit of `Barrier::published`: the group has failed. The other bits count meetings.
const FAILED: u64 = 1;
const MEETING: u64 = 2;

/// A barrier for a fixed number of threads that can fail with a cause `C`.
#[derive(Debug)]
pub struct Barrier<C> {
    world: usize,
    spins: u32,
    state: Mutex<State<C>>,
    wake: Condvar,
    /// A copy of the state that can be watched without the lock: `meetings * MEETING | failed`.
    published: AtomicU64,
}

#[derive(Debug)]
struct State<C> {
    arrived: usize,
    asleep: usize,
    published: u64,
    cause: Option<C>,
}

impl<C: Clone> Barrier<C> {
    /// A barrier for `world` threads, each of which looks `spins` times before it parks.
    pub fn new(world: usize, spins: u32) -> Self {
        let state = State { arrived: 0, asleep: 0, published: 0, cause: None };
        Self { world, spins, state: Mutex::new(state), wake: Condvar::new(), published: AtomicU64::new(0) }
    }

    /// Waits until all ranks have arrived. The error is the cause with which the barrier failed; a meeting that
    /// was complete before the failure still succeeds.
    pub fn wait(&self) -> Result<(), C> {
        let mut state = self.lock();
        if let Some(cause) = &state.cause {
            return Err(cause.clone());
        }
        state.arrived += 1;
        if state.arrived == self.world {
            state.arrived = 0;
            self.publish(state, |published| published + MEETING);
            return Ok(());
        }
        let before = state.published;
        drop(state);

        for _ in 0..self.spins {
            // Acquire: what the others wrote before they arrived is visible when this returns.
            let now = self.published.load(Ordering::Acquire);
            if now != before {
                return if now >> 1 == before >> 1 { Err(self.cause_of_failure()) } else { Ok(()) };
            }
            spin_loop();
        }

        let mut state = self.lock();
        while state.published == before {
            state.asleep += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        match &state.cause {
            Some(cause) if state.published >> 1 == before >> 1 => Err(cause.clone()),
            _ => Ok(()),
        }
    }

    /// Ends the group: every wait from now on, and every wait now pending, returns the cause. The first cause
    /// stays; returns whether it was this one.
    pub fn fail(&self, cause: C) -> bool {
        let mut state = self.lock();
        if state.cause.is_some() {
            return false;
        }
        state.cause = Some(cause);
        self.publish(state, |published| published | FAILED);
        true
    }

    /// The cause of the failure, if there is one.
    pub fn cause(&self) -> Option<C> {
        self.lock().cause.clone()
    }

    fn publish(&self, mut state: MutexGuard<'_, State<C>>, change: impl FnOnce(u64) -> u64) {
        state.published = change(state.published);
        self.published.store(state.published, Ordering::Release);
        let asleep = state.asleep > 0;
        drop(state);
        if asleep {
            self.wake.notify_all();
        }
    }

    fn cause_of_failure(&self) -> C {
        let state = self.lock();
        match &state.cause {
            Some(cause) => cause.clone(),
            // The failed bit is set only after the cause, under the same lock.
            None => unreachable!("failed without a cause"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
