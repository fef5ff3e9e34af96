//! The objects' slot, model-checked: loom runs the shipping file through every interleaving.
#![allow(clippy::unwrap_used)]

mod sync {
    pub(super) use crate::loom_mutex::Mutex;
    use loom::sync::atomic::{AtomicBool, Ordering};

    /// std's cell, whose flag loom sees.
    pub(super) struct OnceLock<T> {
        there: AtomicBool,
        cell: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self { there: AtomicBool::new(false), cell: std::sync::OnceLock::new() }
        }

        pub(super) fn get(&self) -> Option<&T> {
            if self.there.load(Ordering::Acquire) { self.cell.get() } else { None }
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            self.cell.set(value)?;
            self.there.store(true, Ordering::Release);
            Ok(())
        }
    }
}

#[allow(dead_code)]
#[path = "../../src/object/slot.rs"]
mod slot;

use std::task::{Wake, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use slot::Slot;

struct Count(AtomicUsize);

/// A waker that counts. std's `Arc` carries it, as `Waker` asks for.
impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (std::sync::Arc<Count>, Waker) {
    let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
    (count.clone(), Waker::from(count))
}

/// A result and a cancellation at once: one stands, the other comes back, and dependants are told by the one that stands.
#[test]
fn the_first_outcome_stands_and_tells_every_dependant_once() {
    loom::model(|| {
        let slot = Arc::new(Slot::<u32, u32>::empty());
        let told = Arc::new(AtomicUsize::new(0));
        let settlers: Vec<_> = [1, 2]
            .map(|outcome| {
                let (slot, told) = (slot.clone(), told.clone());
                thread::spawn(move || match slot.settle(outcome) {
                    Ok(dependants) => {
                        told.fetch_add(dependants.len(), Ordering::SeqCst);
                        outcome
                    }
                    Err(late) => {
                        assert_eq!(late, outcome);
                        0
                    }
                })
            })
            .into();
        // The dependant is told by whoever settles, or comes back.
        let at_once = usize::from(slot.depend(7).is_err());
        let stood: u32 = settlers.into_iter().map(|settler| settler.join().unwrap()).sum();
        assert_eq!(slot.get(), Some(&stood));
        assert_eq!(told.load(Ordering::SeqCst) + at_once, 1);
    });
}

/// Whoever waits sees the outcome or is woken by it, whatever waker it waited with first.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let slot = Arc::new(Slot::<u32, u32>::empty());
        let settler = {
            let slot = slot.clone();
            thread::spawn(move || slot.settle(5).unwrap())
        };
        let (_, first) = counter();
        let (woken, second) = counter();
        let mut place = None;
        let seen = slot.poll_wait(&mut place, &first) || slot.poll_wait(&mut place, &second);
        settler.join().unwrap();
        assert!(seen || woken.0.load(Ordering::SeqCst) == 1);
        assert_eq!(slot.get(), Some(&5));
    });
}

/// A wait that is given up while the object is settled: the waker is called at most once, and not kept.
#[test]
fn who_leaves_leaves_nothing_behind() {
    loom::model(|| {
        let slot = Arc::new(Slot::<u32, u32>::empty());
        let settler = {
            let slot = slot.clone();
            thread::spawn(move || slot.settle(5).unwrap())
        };
        let (woken, waker) = counter();
        let mut place = None;
        slot.poll_wait(&mut place, &waker);
        drop(waker);
        slot.leave(&mut place);
        settler.join().unwrap();
        assert!(woken.0.load(Ordering::SeqCst) <= 1);
        assert_eq!(std::sync::Arc::strong_count(&woken), 1);
    });
}

/// The last handle is dropped by whichever thread is last, with the value in it.
#[test]
fn the_value_is_dropped_once() {
    struct Drops(Arc<AtomicUsize>);
    impl Drop for Drops {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let slot = Arc::new(Slot::<Drops, ()>::empty());
        let settler = {
            let (slot, value) = (slot.clone(), Drops(drops.clone()));
            thread::spawn(move || drop(slot.settle(value)))
        };
        let _ = slot.get().is_some();
        drop(slot);
        settler.join().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}
