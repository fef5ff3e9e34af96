//! The barrier of the collectives, model-checked: loom runs the shipping file through every interleaving.
#![allow(clippy::unwrap_used)]

mod sync {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicU64, Ordering};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}

#[path = "../../src/collective/barrier.rs"]
mod barrier;

use barrier::Barrier;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering as Order};
use loom::thread;

/// Explores all interleavings with at most three forced switches of thread, which finds nearly all errors.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(run);
}

#[test]
fn what_was_written_before_a_meeting_is_seen_after_it() {
    for spins in [0, 1] {
        model(move || {
            let barrier = Arc::new(Barrier::<()>::new(2, spins));
            // Relaxed: only the barrier orders these.
            let written = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let rank = |me: usize, barrier: Arc<Barrier<()>>, written: Arc<[AtomicUsize; 2]>| {
                for round in 1..=2 {
                    written[me].store(round, Order::Relaxed);
                    barrier.wait().unwrap();
                    assert_eq!(written[1 - me].load(Order::Relaxed), round);
                    barrier.wait().unwrap();
                }
            };
            let other = thread::spawn({
                let (barrier, written) = (barrier.clone(), written.clone());
                move || rank(1, barrier, written)
            });
            rank(0, barrier, written);
            other.join().unwrap();
        });
    }
}

#[test]
fn three_ranks_meet() {
    model(|| {
        let barrier = Arc::new(Barrier::<()>::new(3, 1));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || barrier.wait().unwrap())
            })
            .collect();
        barrier.wait().unwrap();
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn a_lost_rank_frees_whoever_waits() {
    for spins in [0, 1] {
        model(move || {
            let barrier = Arc::new(Barrier::new(3, spins));
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let barrier = barrier.clone();
                    thread::spawn(move || barrier.wait())
                })
                .collect();
            assert!(barrier.fail("lost"));
            assert!(!barrier.fail("lost again"));
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Err("lost"));
            }
            assert_eq!(barrier.cause(), Some("lost"));
        });
    }
}

/// A failure that comes while a meeting completes: the meeting counts for both ranks or for neither.
#[test]
fn a_meeting_counts_for_all_or_for_none() {
    for spins in [0, 1] {
        model(move || {
            let barrier = Arc::new(Barrier::new(2, spins));
            let spawn = |run: fn(&Barrier<&'static str>) -> Result<(), &'static str>| {
                let barrier = barrier.clone();
                thread::spawn(move || run(&barrier))
            };
            let (one, two) = (spawn(Barrier::wait), spawn(Barrier::wait));
            barrier.fail("late");
            let results = (one.join().unwrap(), two.join().unwrap());
            assert!(matches!(results, (Ok(()), Ok(())) | (Err("late"), Err("late"))), "{results:?}");
        });
    }
}
