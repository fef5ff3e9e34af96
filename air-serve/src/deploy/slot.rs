//! Where a replica keeps its model, and what others see of it.
//!
//! A slot's lock is held while its model runs. The replica's thread locks its own slot; in inline mode callers lock whichever is free. So a model is
//! never called twice at a time, wherever it is called from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::AnyModel;
use super::core::Job;
use super::step::Ongoing;
use crate::multiplex::Held;

/// One life of a replica.
pub(crate) struct Slot<I, O> {
    pub name: Arc<str>,
    pub model: Mutex<Option<AnyModel<I, O>>>,
    /// The requests of the batch under way on the replica's thread. Whoever takes them answers them: the thread, or who gave it up.
    pub hand: Mutex<Vec<Job<I, O>>>,
    /// The requests that an async model works on side by side, by their numbers. Whoever takes one answers it, in the same way.
    pub flying: Mutex<BTreeMap<u64, Job<I, O>>>,
    /// Which user configuration the model has, and why it refused the one before.
    pub configured: AtomicU64,
    pub refusal: Mutex<Option<(u64, Arc<str>)>>,
    /// Since when it has only been finishing what it has.
    pub finishing_since: Mutex<Option<Duration>>,
    /// The models that it holds, if there are several.
    pub held: OnceLock<Arc<Held>>,
    ready: AtomicBool,
    leaving: AtomicBool,
    given_up: AtomicBool,
    /// Why its model is gone, from then until the replica has noticed.
    lost: Mutex<Option<Arc<str>>>,
    is_lost: AtomicBool,
    /// That its life is over.
    ended: Mutex<Option<Result<(), Arc<str>>>>,
    work: Work,
    ongoing: Ongoing,
}

impl<I, O> Slot<I, O> {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Slot {
            name,
            model: Mutex::new(None),
            hand: Mutex::new(Vec::new()),
            flying: Mutex::new(BTreeMap::new()),
            configured: AtomicU64::new(0),
            refusal: Mutex::new(None),
            finishing_since: Mutex::new(None),
            held: OnceLock::new(),
            ready: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            lost: Mutex::new(None),
            is_lost: AtomicBool::new(false),
            ended: Mutex::new(None),
            work: Work::default(),
            ongoing: Ongoing::default(),
        }
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// It is to finish what it has, and end.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Nobody waits for it any more.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Its model is gone, or not to be trusted.
    pub(crate) fn lose(&self, reason: Arc<str>) {
        self.lost.lock().get_or_insert(reason);
        self.is_lost.store(true, Ordering::Release);
    }

    /// Why its model is gone, if it is.
    pub(crate) fn lost(&self) -> Option<Arc<str>> {
        if self.is_lost.load(Ordering::Acquire) { self.lost.lock().clone() } else { None }
    }

    /// Its life is over.
    pub(crate) fn end(&self, how: Result<(), Arc<str>>) {
        self.ended.lock().get_or_insert(how);
    }

    pub(crate) fn ended(&self) -> Option<Result<(), Arc<str>>> {
        self.ended.lock().clone()
    }

    /// Takes all that it works on, to answer it.
    pub(crate) fn take_hand(&self) -> Vec<Job<I, O>> {
        let mut hand = std::mem::take(&mut *self.hand.lock());
        hand.extend(std::mem::take(&mut *self.flying.lock()).into_values());
        hand
    }

    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    pub(crate) fn ongoing(&self) -> &Ongoing {
        &self.ongoing
    }
}

/// What a replica is doing, for those who only look. Written by whoever holds the model.
#[derive(Default)]
pub(crate) struct Work {
    /// Nanoseconds on the deployment's clock, plus one; 0 when idle.
    since: AtomicU64,
    requests: AtomicUsize,
    /// Requests side by side, of an async model.
    beside: AtomicUsize,
    /// Nanoseconds at work so far, without the call under way.
    total: AtomicU64,
}

impl Work {
    pub(crate) fn begin(&self, now: Duration, requests: usize) {
        self.requests.store(requests, Ordering::Relaxed);
        self.since.store(nanos(now) + 1, Ordering::Release);
    }

    pub(crate) fn end(&self, now: Duration) {
        let since = self.since.swap(0, Ordering::AcqRel);
        self.requests.store(0, Ordering::Relaxed);
        let took = (nanos(now) + 1).saturating_sub(since);
        // Only the holder of the model writes here, so nothing is lost between the two.
        self.total.store(self.total.load(Ordering::Relaxed) + took, Ordering::Relaxed);
    }

    /// Ends what began as a step. That is not counted as time at work: a replica that steps is not full, as one is that executes a batch, but can
    /// take more.
    pub(crate) fn end_step(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// Since when it has been at work on one call.
    pub(crate) fn since(&self) -> Option<Duration> {
        match self.since.load(Ordering::Acquire) {
            0 => None,
            since => Some(Duration::from_nanos(since - 1)),
        }
    }

    /// Requests in the call under way.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed) + self.beside.load(Ordering::Relaxed)
    }

    /// An async model is asked to go on with a request, or to let go of one.
    pub(crate) fn enter(&self, now: Duration) {
        self.since.store(nanos(now) + 1, Ordering::Release);
    }

    /// It has returned.
    pub(crate) fn leave(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// Requests more are under way side by side.
    pub(crate) fn add(&self, requests: usize) {
        self.beside.fetch_add(requests, Ordering::Relaxed);
    }

    /// So many of them are over.
    pub(crate) fn take(&self, requests: usize) {
        self.beside.fetch_sub(requests, Ordering::Relaxed);
    }

    /// Time at work so far.
    pub(crate) fn total(&self, now: Duration) -> Duration {
        let under_way = self.since().map_or(Duration::ZERO, |since| now.saturating_sub(since));
        Duration::from_nanos(self.total.load(Ordering::Relaxed)) + under_way
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_while_it_goes_on_and_summed_when_it_ends() {
        let work = Work::default();
        let ms = Duration::from_millis;
        assert_eq!((work.since(), work.requests(), work.total(ms(5))), (None, 0, ms(0)));
        work.begin(ms(0), 3);
        assert_eq!((work.since(), work.requests(), work.total(ms(5))), (Some(ms(0)), 3, ms(5)));
        work.end(ms(8));
        work.begin(ms(10), 1);
        work.end(ms(12));
        assert_eq!((work.since(), work.requests(), work.total(ms(50))), (None, 0, ms(10)));
        work.begin(ms(60), 0);
        assert_eq!(work.since(), Some(ms(60)));
        work.end_step();
        assert_eq!((work.since(), work.total(ms(70))), (None, ms(10)));
    }
}
