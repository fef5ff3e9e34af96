//! [`Meeting`]: how the ranks of a group wait for each other, and learn that one of them is lost.
//!
//! Each rank counts the steps it has passed, in a cache line of its own that only it writes; waiting is looking at
//! the others' counts. Who waits looks for a moment first (the others' steps are mostly under way, and waking a
//! parked thread costs tens of microseconds), then parks. [`Meeting::fail`] ends the group for ever: everyone who
//! waits, or comes later, is told at once. The loom model in `tests/it/collective_loom.rs` explores the interleavings.

use super::sync::{
    AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, PoisonError, fence, spin_loop,
};

/// The steps that a fixed number of ranks pass, and the cause `C` for which there are no more.
#[derive(Debug)]
pub struct Meeting<C> {
    spins: u32,
    passed: Box<[Line]>,
    failed: AtomicBool,
    /// Ranks that are parked or about to; written under the lock.
    asleep: AtomicUsize,
    state: Mutex<State<C>>,
    wake: Condvar,
}

/// A count alone on its cache line (and on the neighbour that is fetched with it).
#[derive(Debug)]
#[repr(align(128))]
struct Line(AtomicU64);

#[derive(Debug)]
struct State<C> {
    cause: Option<C>,
    /// No sleeper wants fewer steps than these.
    wanted: u64,
}

impl<C: Clone> Meeting<C> {
    /// A meeting of `world` ranks, each of which looks `spins` times before it parks.
    pub fn new(world: usize, spins: u32) -> Self {
        Self {
            spins,
            passed: (0..world).map(|_| Line(AtomicU64::new(0))).collect(),
            failed: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            state: Mutex::new(State { cause: None, wanted: u64::MAX }),
            wake: Condvar::new(),
        }
    }

    /// Says that `rank` has passed one more step: what it wrote before is seen by whoever waits for the step.
    pub fn pass(&self, rank: usize) {
        let count = &self.passed[rank].0;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
        // Pairs with the fence in `park`: either this sees the sleeper, or the sleeper sees the step.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) > 0 {
            let mut state = self.lock();
            // Only the last rank that a sleeper waits for wakes it.
            if self.all_passed(state.wanted) {
                state.wanted = u64::MAX;
                drop(state);
                self.wake.notify_all();
            }
        }
    }

    /// The steps `rank` has passed; what it did before them is seen by who asks.
    pub fn passed(&self, rank: usize) -> u64 {
        self.passed[rank].0.load(Ordering::Acquire)
    }

    /// Waits until every rank has passed `steps` steps. The error is the cause of the failure; steps that every
    /// rank had passed before it still succeed.
    pub fn wait(&self, steps: u64) -> Result<(), C> {
        for _ in 0..=self.spins {
            if self.all_passed(steps) {
                return Ok(());
            }
            if self.has_failed() {
                break;
            }
            spin_loop();
        }
        self.park(steps)
    }

    fn park(&self, steps: u64) -> Result<(), C> {
        let mut state = self.lock();
        self.asleep.fetch_add(1, Ordering::Relaxed);
        let result = loop {
            state.wanted = state.wanted.min(steps);
            fence(Ordering::SeqCst);
            if self.all_passed(steps) {
                break Ok(());
            }
            if let Some(cause) = &state.cause {
                break Err(cause.clone());
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Ends the group: every wait that is not over returns the cause. The first cause stays; returns whether it was
    /// this one.
    pub fn fail(&self, cause: C) -> bool {
        let mut state = self.lock();
        if state.cause.is_some() {
            return false;
        }
        state.cause = Some(cause);
        self.failed.store(true, Ordering::Release);
        drop(state);
        self.wake.notify_all();
        true
    }

    /// Whether [`fail`](Self::fail) was called; costs one load.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The cause of the failure, if there is one.
    pub fn cause(&self) -> Option<C> {
        if self.has_failed() { self.lock().cause.clone() } else { None }
    }

    fn all_passed(&self, steps: u64) -> bool {
        self.passed.iter().all(|count| count.0.load(Ordering::Acquire) >= steps)
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
