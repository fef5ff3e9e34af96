//! How long a request would wait for its answer, and so whether it can make its deadline. Pure.
//!
//! The mean and the mean deviation of what batches take are kept as TCP keeps those of round trips (RFC 6298). They foresee what varies from batch to
//! batch. What slows many batches in a row, as a machine that is busy elsewhere for a moment does, nobody foresees; so there is a reserve for it, as large as
//! lately needed.

use std::time::Duration;

/// Batches before the first estimate.
const FIRST: u32 = 8;
/// How much the last batch counts for.
const WEIGHT: f64 = 1.0 / 16.0;
/// Deviations beyond the mean that a request is told to reckon with.
const DEVIATIONS: f64 = 4.0;
/// What it is told to reckon with besides, for its answer's way back and for what slows all batches down alike.
const MARGIN: f64 = 1.05;
/// Time at work after which a reserve that was not needed is half as large.
const FORGETS_S: f64 = 10.0;
/// Most of a request's limit that is kept in reserve: what once took very long is to be tried again.
const RESERVE: u32 = 4;

/// The time of a batch, of those seen lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    mean_s: f64,
    deviation_s: f64,
    batches: u32,
    /// How much later than foretold answers have been lately.
    slip_s: f64,
}

impl Pace {
    /// Takes in how long a batch took.
    pub(crate) fn observe(&mut self, took: Duration) {
        self.batches = self.batches.saturating_add(1);
        let weight = (1.0 / f64::from(self.batches)).max(WEIGHT);
        let error = took.as_secs_f64() - self.mean_s;
        self.mean_s += weight * error;
        // Of the first there is nothing to deviate from.
        if self.batches > 1 {
            self.deviation_s += weight * (error.abs() - self.deviation_s);
        }
        self.slip_s *= (-took.as_secs_f64() / FORGETS_S).exp2();
    }

    /// Takes in how much later than foretold a request was answered, or would have been.
    pub(crate) fn slipped(&mut self, by: Duration) {
        self.slip_s = self.slip_s.max(by.as_secs_f64());
    }

    /// What of a limit is better kept in reserve.
    pub(crate) fn reserve(&self, limit: Duration) -> Duration {
        let slip = Duration::try_from_secs_f64(self.slip_s).unwrap_or(Duration::MAX);
        slip.min(limit / RESERVE)
    }

    /// What a batch takes, if that can be told.
    pub(crate) fn typical(&self) -> Option<Duration> {
        (self.batches >= FIRST).then(|| Duration::try_from_secs_f64(self.mean_s).unwrap_or(Duration::MAX))
    }

    /// How long a request waits for its answer that has so many batches before it, if that can be told: for those, for the batch that runs
    /// now, and for its own. One that has none before it is never told to wait: so a model that was slow for a while gets the chance to show that
    /// it no longer is.
    pub(crate) fn wait(&self, batches: usize, replicas: usize) -> Option<Duration> {
        let known = self.batches >= FIRST && batches > 0 && replicas > 0;
        let rounds = batches as f64 / replicas as f64 + 2.0;
        // What varies by itself adds up as its square does.
        let seconds = rounds * self.mean_s + DEVIATIONS * rounds.sqrt() * self.deviation_s;
        known.then(|| Duration::try_from_secs_f64(MARGIN * seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn millis(wait: Option<Duration>) -> Option<u64> {
        wait.map(|wait| wait.as_secs_f64().mul_add(1e3, 0.5) as u64)
    }

    #[test]
    fn the_wait_is_that_of_the_batches_before_and_two_more() {
        let mut pace = Pace::default();
        for _ in 0..7 {
            pace.observe(100 * MS);
        }
        assert_eq!((pace.wait(10, 1), pace.typical()), (None, None), "too little is known");
        pace.observe(100 * MS);
        assert_eq!(millis(pace.typical()), Some(100));
        assert_eq!(millis(pace.wait(10, 1)), Some(1260), "and a twentieth");
        assert_eq!(millis(pace.wait(10, 2)), Some(735), "the replicas share those before");
        assert_eq!(pace.wait(0, 2), None, "nothing is before it");
        assert_eq!(pace.wait(3, 0), None, "nobody is there yet: one may be on its way");
    }

    #[test]
    fn it_follows_a_model_that_becomes_faster() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.observe(1000 * MS));
        (0..200).for_each(|_| pace.observe(20 * MS));
        assert_eq!(millis(pace.wait(1, 1)), Some(63));
    }

    #[test]
    fn what_came_later_than_foretold_is_kept_in_reserve_and_forgotten_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.reserve(1000 * MS), Duration::ZERO);
        pace.slipped(30 * MS);
        pace.slipped(20 * MS);
        assert_eq!(pace.reserve(1000 * MS), 30 * MS, "the most");
        assert_eq!(pace.reserve(100 * MS), 25 * MS, "and not more than a quarter of the time");
        (0..100).for_each(|_| pace.observe(100 * MS));
        assert_eq!(millis(Some(pace.reserve(1000 * MS))), Some(15), "half of it after ten seconds of work");
        pace.slipped(Duration::MAX);
        assert_eq!(pace.reserve(1000 * MS), 250 * MS);
    }

    #[test]
    fn batches_that_vary_are_reckoned_with_longer() {
        let mut pace = Pace::default();
        for _ in 0..200 {
            pace.observe(5 * MS);
            pace.observe(15 * MS);
        }
        let wait = millis(pace.wait(14, 1)).unwrap_or(0);
        assert!((247..=262).contains(&wait), "16 of 10 ms, 4 · √16 deviations of 5 ms, a twentieth: {wait}");
    }
}
