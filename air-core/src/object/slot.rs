//! [`Slot`]: where a value will be, who waits for it, and the one moment in which it is settled.
//!
//! The first outcome stands; whatever is said later comes back to who said it. Waiting and settling meet under one lock, so a waiter
//! either sees the outcome or is woken by it. What is there is read without the lock. The loom model in `tests/it/object_loom.rs`
//! runs this file.

use std::task::Waker;

use super::sync::{Mutex, OnceLock};

/// Holds an outcome `O`; `D` is what else wants to be told of it (a task that has it as an argument).
pub(crate) struct Slot<O, D> {
    outcome: OnceLock<O>,
    waiting: Mutex<Waiting<D>>,
}

struct Waiting<D> {
    next: u64,
    wakers: Vec<(u64, Waker)>,
    dependants: Vec<D>,
}

impl<O, D> Slot<O, D> {
    /// Nothing yet.
    pub(crate) fn empty() -> Self {
        let waiting = Waiting { next: 0, wakers: Vec::new(), dependants: Vec::new() };
        Self { outcome: OnceLock::new(), waiting: Mutex::new(waiting) }
    }

    /// The outcome, once there is one.
    pub(crate) fn get(&self) -> Option<&O> {
        self.outcome.get()
    }

    /// Settles the slot and wakes who waits; the dependants are the caller's to tell. The outcome comes back where there is one already.
    pub(crate) fn settle(&self, outcome: O) -> Result<Vec<D>, O> {
        let mut waiting = self.waiting.lock();
        self.outcome.set(outcome)?;
        let wakers = std::mem::take(&mut waiting.wakers);
        let dependants = std::mem::take(&mut waiting.dependants);
        drop(waiting);
        for (_, waker) in wakers {
            waker.wake();
        }
        Ok(dependants)
    }

    /// Leaves a dependant to be told; it comes back where the slot is settled already.
    pub(crate) fn depend(&self, dependant: D) -> Result<(), D> {
        let mut waiting = self.waiting.lock();
        if self.outcome.get().is_some() {
            return Err(dependant);
        }
        waiting.dependants.push(dependant);
        Ok(())
    }

    /// Whether the slot is settled; if not, the waker is called when it is. `place` remembers it for the next call, and for
    /// [`leave`](Self::leave).
    pub(crate) fn poll_wait(&self, place: &mut Option<u64>, waker: &Waker) -> bool {
        if self.outcome.get().is_some() {
            return true;
        }
        let mut waiting = self.waiting.lock();
        if self.outcome.get().is_some() {
            return true;
        }
        if let Some(place) = *place
            && let Some((_, known)) = waiting.wakers.iter_mut().find(|(key, _)| *key == place)
        {
            known.clone_from(waker);
            return false;
        }
        let key = waiting.next;
        waiting.next += 1;
        waiting.wakers.push((key, waker.clone()));
        *place = Some(key);
        false
    }

    /// Withdraws a waker, so that one who waits in vain leaves nothing behind.
    pub(crate) fn leave(&self, place: &mut Option<u64>) {
        let Some(place) = place.take() else { return };
        let mut waiting = self.waiting.lock();
        let gone = waiting.wakers.iter().position(|(key, _)| *key == place);
        let gone = gone.map(|at| waiting.wakers.swap_remove(at));
        drop(waiting);
        drop(gone);
    }
}
