//! Decisions of a pool, without a clock, a thread or a worker.

use std::collections::BTreeMap;
use std::time::Duration;

/// Gives out results in the order of their numbers, or as they come.
#[derive(Debug)]
pub(super) struct Turns<T> {
    ordered: bool,
    next: u64,
    turn: u64,
    /// `None` for a number that has nothing to give out.
    done: BTreeMap<u64, Option<T>>,
}

impl<T> Turns<T> {
    pub(super) fn new(ordered: bool) -> Self {
        Self { ordered, next: 0, turn: 0, done: BTreeMap::new() }
    }

    /// The number of the next batch.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn done(&mut self, number: u64, result: Option<T>) {
        self.done.insert(number, result);
    }

    /// The next result whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        loop {
            let first = self.done.first_entry()?;
            if self.ordered && *first.key() != self.turn {
                return None;
            }
            self.turn += 1;
            if let Some(result) = first.remove() {
                return Some(result);
            }
        }
    }

    /// Results that are there and have to wait for others.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.done.len()
    }
}

/// What becomes of a batch that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Retry,
    /// It is left out.
    Skip,
    /// It ends the run.
    End,
}

/// Counts failures.
#[derive(Debug)]
pub(super) struct Tolerance {
    retries: u32,
    max_errored: u64,
    errored: u64,
}

impl Tolerance {
    pub(super) fn new(retries: u32, max_errored: u64) -> Self {
        Self { retries, max_errored, errored: 0 }
    }

    /// A batch has failed for the `attempts`th time.
    pub(super) fn failed(&mut self, attempts: u32) -> Verdict {
        if attempts <= self.retries {
            return Verdict::Retry;
        }
        self.errored += 1;
        if self.errored <= self.max_errored { Verdict::Skip } else { Verdict::End }
    }
}

/// Whether results that wait for their turn leave room for another batch. If none waits there is always room.
pub(super) fn has_room(waiting_bytes: usize, room_bytes: usize) -> bool {
    waiting_bytes == 0 || waiting_bytes < room_bytes
}

/// How many workers to start when a batch waits and nobody is free: as many again as there are, once those have started.
pub(super) fn grow_by(workers: usize, ready: usize, max: usize) -> usize {
    if workers > ready { 0 } else { workers.min(max.saturating_sub(workers)) }
}

/// Which of several workers is to have the next batch: of those that have started the one with the fewest, then the first; none that has
/// `depth` already.
pub(super) fn choose(loads: &[Option<usize>], depth: usize) -> Option<usize> {
    let started = loads.iter().enumerate().filter_map(|(rank, load)| load.map(|load| (load, rank)));
    started.filter(|(load, _)| *load < depth).min().map(|(_, rank)| rank)
}

/// How long batches take, and so how many a worker has at hand.
#[derive(Debug, Default)]
pub(super) struct Pace {
    mean: Option<Duration>,
}

/// Batches that take less are worth a second one at hand: waking a worker takes tens of microseconds.
const SHORT: Duration = Duration::from_millis(50);

impl Pace {
    pub(super) fn took(&mut self, time: Duration) {
        self.mean = Some(self.mean.map_or(time, |mean| (mean * 7 + time) / 8));
    }

    /// Two where batches are short. A batch behind a long one, or behind one whose length is not known, would wait while others are free.
    pub(super) fn depth(&self) -> usize {
        if self.mean.is_some_and(|mean| mean < SHORT) { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_is_retried_then_skipped_then_the_end() {
        let mut tolerance = Tolerance::new(2, 1);
        let verdicts: Vec<Verdict> =
            [1, 2, 3, 1, 2, 3].iter().map(|attempts| tolerance.failed(*attempts)).collect();
        use Verdict::{End, Retry, Skip};
        assert_eq!(verdicts, [Retry, Retry, Skip, Retry, Retry, End]);
        assert_eq!(Tolerance::new(0, 0).failed(1), End);
    }

    #[test]
    fn a_pool_doubles_while_a_batch_waits() {
        assert_eq!(grow_by(1, 1, 8), 1);
        assert_eq!(grow_by(2, 1, 8), 0, "one is on its way");
        assert_eq!(grow_by(4, 4, 8), 4);
        assert_eq!(grow_by(4, 4, 6), 2);
        assert_eq!(grow_by(6, 6, 6), 0);
    }

    #[test]
    fn the_least_loaded_worker_that_has_started_is_chosen() {
        assert_eq!(choose(&[None, Some(1), Some(0), Some(0)], 2), Some(2));
        assert_eq!(choose(&[None, Some(1)], 2), Some(1));
        assert_eq!(choose(&[None, Some(1)], 1), None);
        assert_eq!(choose(&[], 2), None);
    }

    #[test]
    fn short_batches_are_put_at_hand_and_long_ones_are_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.depth(), 1, "nobody knows");
        pace.took(Duration::from_millis(5));
        assert_eq!(pace.depth(), 2);
        pace.took(Duration::from_secs(1));
        assert_eq!(pace.depth(), 1);
    }

    #[test]
    fn there_is_room_whenever_nothing_waits() {
        assert!(has_room(0, 0));
        assert!(has_room(99, 100));
        assert!(!has_room(100, 100));
    }

    proptest! {
        #[test]
        fn every_result_comes_once_in_its_turn(
            order in prop::collection::vec(any::<u32>(), 1..40),
            skipped in prop::collection::vec(any::<bool>(), 40),
            ordered in any::<bool>(),
        ) {
            let mut turns = Turns::new(ordered);
            let mut by_end: Vec<(u32, u64)> = order.iter().map(|end| (*end, turns.number())).collect();
            by_end.sort_unstable();
            let mut out = Vec::new();
            for (_, number) in &by_end {
                turns.done(*number, (!skipped[*number as usize]).then_some(*number));
                while let Some(number) = turns.pop() {
                    out.push(number);
                }
                prop_assert!(ordered || turns.waiting() == 0);
            }
            let all = by_end.iter().map(|(_, number)| *number);
            let mut expected: Vec<u64> = all.filter(|number| !skipped[*number as usize]).collect();
            if ordered {
                expected.sort_unstable();
            }
            prop_assert_eq!(out, expected);
            prop_assert_eq!(turns.waiting(), 0);
        }
    }
}
