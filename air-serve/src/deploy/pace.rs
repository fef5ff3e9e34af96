//! How long a request would wait, and so whether it can make its deadline. Pure.

use std::time::Duration;

/// Batches before the first estimate.
const FIRST: u32 = 8;
/// How much the last batch counts for.
const WEIGHT: f64 = 1.0 / 16.0;

/// The mean time of a batch, of those seen lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    mean_s: f64,
    batches: u32,
}

impl Pace {
    /// Takes in how long a batch took.
    pub(crate) fn observe(&mut self, took: Duration) {
        self.batches = self.batches.saturating_add(1);
        let weight = (1.0 / f64::from(self.batches)).max(WEIGHT);
        self.mean_s += weight * (took.as_secs_f64() - self.mean_s);
    }

    /// How long a request waits that has so many batches before it, if that can be told. One that has none before it is never told to wait: so
    /// a model that was slow for a while gets the chance to show that it no longer is.
    pub(crate) fn wait(&self, batches: usize, replicas: usize) -> Option<Duration> {
        let known = self.batches >= FIRST && batches > 0 && replicas > 0;
        let seconds = batches as f64 / replicas as f64 * self.mean_s;
        known.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_wait_is_that_of_the_batches_before_shared_by_the_replicas() {
        let mut pace = Pace::default();
        for _ in 0..7 {
            pace.observe(100 * MS);
        }
        assert_eq!(pace.wait(10, 1), None, "too little is known");
        pace.observe(100 * MS);
        assert_eq!(pace.wait(10, 2).map(|wait| wait.as_secs_f64().mul_add(1e3, 0.5) as u64), Some(500));
        assert_eq!(pace.wait(0, 2), None, "nothing is before it");
        assert_eq!(pace.wait(3, 0), None, "nobody is there yet: one may be on its way");
    }

    #[test]
    fn it_follows_a_model_that_becomes_faster() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.observe(1000 * MS));
        (0..100).for_each(|_| pace.observe(10 * MS));
        assert!(pace.wait(1, 1).is_some_and(|wait| wait < 15 * MS));
    }
}
