//! Waiting awake for a moment before parking.
//!
//! Waking a parked thread takes the kernel microseconds, on virtual machines tens of them: far more than most messages take to
//! handle. So who waits stays awake for a moment first, as long as that is likely to pay and takes no core from anyone: threads that work
//! are counted over the whole process, and nobody waits awake while there are more of them than cores. What does not pay is tried seldom,
//! so a worker that is seldom asked sleeps (compare adaptive mutexes, e.g. Solaris's).

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait awake unless told otherwise: a little more than it takes to wake the other side.
const LONGEST: Duration = Duration::from_micros(50);
/// Waits in a row that do not pay before it is given up for a while: a few may be the machine's.
const MISSES: u32 = 4;
/// Waits without trying after that; then it is tried again.
const PAUSE: u32 = 64;
/// Looks between two looks at the clock.
const LOOKS: u32 = 16;

/// Threads of this process that handle messages or wait awake now. It counts cores, which are the machine's, so it is not a runtime's.
static AWAKE: AtomicUsize = AtomicUsize::new(0);
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Counts this thread as working while it lives; inside another one it counts nothing.
pub struct Awake {
    outermost: bool,
}

impl Awake {
    /// From now on, until dropped.
    #[must_use = "the thread counts while this lives"]
    pub fn enter() -> Self {
        let outermost = !COUNTED.replace(true);
        if outermost {
            AWAKE.fetch_add(1, Ordering::Relaxed);
        }
        Self { outermost }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if self.outermost {
            COUNTED.set(false);
            AWAKE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Runs what puts this thread to sleep, without counting it meanwhile.
pub fn asleep(park: impl FnOnce()) {
    let counted = COUNTED.replace(false);
    if counted {
        AWAKE.fetch_sub(1, Ordering::Relaxed);
    }
    park();
    if counted {
        AWAKE.fetch_add(1, Ordering::Relaxed);
    }
    COUNTED.set(counted);
}

/// How long one waiter waits awake, learnt from how its waits ended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    longest: Duration,
    /// Waits in a row that did not pay.
    misses: u32,
    pause: u32,
}

impl Patience {
    /// Of one who has not waited yet.
    pub const NEW: Self = Self::up_to(LONGEST);

    /// Of one who has not waited yet and never waits awake for longer than `longest`.
    pub const fn up_to(longest: Duration) -> Self {
        Self { longest, misses: 0, pause: 0 }
    }

    /// How long to wait awake this time; `None`: not at all.
    fn next(&mut self) -> Option<Duration> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        Some(self.longest)
    }

    fn ended(&mut self, paid: bool) {
        self.misses = if paid { 0 } else { self.misses + 1 };
        if self.misses == MISSES {
            *self = Self { pause: PAUSE, ..Self::up_to(self.longest) };
        }
    }

    /// Waits awake until `is_there`, for a moment; says whether it is.
    pub fn wait(&mut self, is_there: impl Fn() -> bool) -> bool {
        let Some(span) = self.next() else { return is_there() };
        let _awake = Awake::enter();
        let cores = *CORES;
        let began = Instant::now();
        loop {
            if AWAKE.load(Ordering::Relaxed) > cores {
                // Somebody needs the core more. That says nothing about whether waiting pays.
                return is_there();
            }
            for _ in 0..LOOKS {
                if is_there() {
                    self.ended(true);
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= span {
                self.ended(false);
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_tried_seldom() {
        let mut patience = Patience::NEW;
        for _ in 0..3 {
            for _ in 0..MISSES {
                assert_eq!(patience.next(), Some(LONGEST));
                patience.ended(false);
            }
            assert!((0..PAUSE).all(|_| patience.next().is_none()), "then not at all for a while");
        }
        for paid in [false, true].repeat(MISSES as usize) {
            assert_eq!(patience.next(), Some(LONGEST), "a few say nothing");
            patience.ended(paid);
        }
    }

    #[test]
    fn a_thread_counts_once_and_not_while_it_sleeps() {
        let counted = || COUNTED.get();
        assert!(!counted());
        let outer = Awake::enter();
        {
            let _inner = Awake::enter();
            assert!(counted());
        }
        assert!(counted(), "the inner one changed nothing");
        asleep(|| assert!(!counted()));
        assert!(counted());
        drop(outer);
        assert!(!counted());
    }

    #[test]
    fn a_wait_ends_when_there_is_something_or_when_it_takes_too_long() {
        let mut patience = Patience::NEW;
        assert!(patience.wait(|| true));
        assert!(!patience.wait(|| false));
    }
}
