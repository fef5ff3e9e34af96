//! The meeting and the loans of the collectives, model-checked: loom runs the shipping files through every interleaving.
#![allow(clippy::unwrap_used)]

mod sync {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}

#[allow(dead_code)]
#[path = "../../src/collective/meeting.rs"]
mod meeting;

#[allow(dead_code)]
#[path = "../../src/collective/loan.rs"]
mod loan;

use loan::Loans;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Order};
use loom::thread::{self, JoinHandle};
use meeting::Meeting;

type Outcome = Result<(), &'static str>;

/// Explores all interleavings with at most two forced switches of thread, which find nearly all errors.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(run);
}

fn spawn(
    meeting: &Arc<Meeting<&'static str>>,
    run: impl FnOnce(&Meeting<&'static str>) -> Outcome + 'static,
) -> JoinHandle<Outcome> {
    let meeting = meeting.clone();
    thread::spawn(move || run(&meeting))
}

/// One step that all ranks take together.
fn meet(meeting: &Meeting<&'static str>, rank: usize, steps: u64) -> Outcome {
    meeting.pass(rank);
    meeting.wait(steps)
}

/// Also: nobody sleeps through a step, which loom reports as a deadlock.
#[test]
fn what_was_written_before_a_step_is_seen_after_it() {
    for spins in [0, 1] {
        model(move || {
            let meeting = Arc::new(Meeting::new(2, spins));
            // Relaxed: only the meeting orders these.
            let written = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let rank = |me: usize, meeting: &Meeting<_>, written: &[AtomicUsize; 2]| {
                for round in 1..=2 {
                    written[me].store(round, Order::Relaxed);
                    meet(meeting, me, round as u64 * 2 - 1).unwrap();
                    assert_eq!(written[1 - me].load(Order::Relaxed), round);
                    meet(meeting, me, round as u64 * 2).unwrap();
                }
            };
            let other = thread::spawn({
                let (meeting, written) = (meeting.clone(), written.clone());
                move || rank(1, &meeting, &written)
            });
            rank(0, &meeting, &written);
            other.join().unwrap();
        });
    }
}

/// The rule of the staging slots, with a lag of one step: a slot is written again only after everyone has read it.
#[test]
fn what_another_may_still_read_is_not_written() {
    model(|| {
        let meeting = Arc::new(Meeting::new(2, 0));
        let slots = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let writer = spawn(&meeting, {
            let slots = slots.clone();
            move |meeting| {
                for step in 0..3 {
                    meeting.wait(step)?;
                    slots[step as usize % 2].store(step as usize, Order::Relaxed);
                    meeting.pass(0);
                }
                Ok(())
            }
        });
        for step in 0..4 {
            meeting.wait(step).unwrap();
            if let Some(written) = (step as usize).checked_sub(1) {
                assert_eq!(slots[written % 2].load(Order::Relaxed), written);
            }
            meeting.pass(1);
        }
        assert_eq!(writer.join().unwrap(), Ok(()));
    });
}

#[test]
fn three_ranks_meet() {
    model(|| {
        let meeting = Arc::new(Meeting::new(3, 0));
        let others: Vec<_> = [1, 2].map(|rank| spawn(&meeting, move |meeting| meet(meeting, rank, 1))).into();
        meet(&meeting, 0, 1).unwrap();
        for other in others {
            assert_eq!(other.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn a_lost_rank_frees_whoever_waits() {
    for spins in [0, 1] {
        model(move || {
            let meeting = Arc::new(Meeting::new(3, spins));
            let waiters: Vec<_> =
                [0, 1].map(|rank| spawn(&meeting, move |meeting| meet(meeting, rank, 1))).into();
            assert!(meeting.fail("lost"));
            assert!(!meeting.fail("lost again"));
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Err("lost"));
            }
            assert_eq!((meeting.has_failed(), meeting.cause()), (true, Some("lost")));
        });
    }
}

/// A rank that leaves when its own step is complete takes that step from nobody.
#[test]
fn a_step_complete_for_one_rank_is_complete_for_all() {
    for world in [2, 3] {
        for spins in [0, 1].into_iter().take(4 - world) {
            model(move || {
                let meeting = Arc::new(Meeting::new(world, spins));
                let others: Vec<_> = (1..world)
                    .map(|rank| {
                        spawn(&meeting, move |meeting| {
                            meet(meeting, rank, 1)?;
                            // Who comes again is told; two ranks are enough to see it.
                            assert!(world > 2 || meet(meeting, rank, 2) == Err("left"));
                            Ok(())
                        })
                    })
                    .collect();
                meet(&meeting, 0, 1).unwrap();
                meeting.fail("left");
                for other in others {
                    assert_eq!(other.join().unwrap(), Ok(()));
                }
            });
        }
    }
}

/// Whoever still uses a slice when its loan ends is waited for; who comes later finds nothing.
#[test]
fn nobody_uses_a_slice_that_its_owner_has_back() {
    model(|| {
        let loans = Arc::new(Loans::new(3));
        // Relaxed: only the loan orders it.
        let is_back = Arc::new(AtomicBool::new(false));
        let borrowers: Vec<_> = [1, 2]
            .map(|rank| {
                let (loans, is_back) = (loans.clone(), is_back.clone());
                thread::spawn(move || {
                    let mut borrowed = loans.borrow(0, rank)?;
                    assert!(!is_back.load(Order::Relaxed));
                    borrowed.bytes_mut()[0] += 1;
                    thread::yield_now();
                    assert!(!is_back.load(Order::Relaxed));
                    Some(())
                })
            })
            .into();
        let mut values = [0; 3];
        loans.to_write(0, &mut values, |_| 1, || ());
        is_back.store(true, Order::Relaxed);
        let written: usize = values.iter().map(|&value| value as usize).sum();
        let used = borrowers.into_iter().filter_map(|borrower| borrower.join().unwrap()).count();
        assert_eq!(written, used);
    });
}
