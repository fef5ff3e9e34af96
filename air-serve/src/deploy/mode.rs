//! Whether a model is cheap enough to run on the caller's own thread. Pure.
//!
//! Waking another thread costs 35 to 70 µs each way when little is going on; a model that takes less is better called in place. One that takes
//! longer would hold up the other connections of the HTTP thread.

use std::time::Duration;

/// Below this mean a model runs inline…
const CHEAP: Duration = Duration::from_micros(50);
/// …and above this it stops doing so.
const DEAR: Duration = Duration::from_micros(100);
/// A thread that was scheduled away in the middle says nothing about the model.
const LONGEST_SAMPLE: Duration = Duration::from_micros(400);
/// Calls before the first decision.
const FIRST: u32 = 8;

/// Decides from the durations of calls, with hysteresis.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    mean_nanos: f64,
    samples: u32,
    inline: bool,
}

impl Chooser {
    pub(crate) fn new() -> Self {
        Chooser { mean_nanos: 0.0, samples: 0, inline: false }
    }

    /// Takes in the duration of a call of one request; returns whether to run inline from now on.
    pub(crate) fn observe(&mut self, took: Duration) -> bool {
        self.samples = self.samples.saturating_add(1);
        let weight = (1.0 / f64::from(self.samples)).max(1.0 / 16.0);
        let sample = took.min(LONGEST_SAMPLE).as_nanos() as f64;
        self.mean_nanos += weight * (sample - self.mean_nanos);
        let border = if self.inline { DEAR } else { CHEAP };
        self.inline = self.samples >= FIRST && self.mean_nanos < border.as_nanos() as f64;
        self.inline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_cheap_model_goes_inline_and_stays_there_through_a_hiccup() {
        let mut chooser = Chooser::new();
        let decisions: Vec<bool> = (0..8).map(|_| chooser.observe(us(2))).collect();
        assert_eq!(decisions, [false, false, false, false, false, false, false, true]);
        assert!(chooser.observe(Duration::from_millis(20)));
    }

    #[test]
    fn a_model_that_becomes_dear_leaves() {
        let mut chooser = Chooser::new();
        for _ in 0..100 {
            chooser.observe(us(2));
        }
        let calls = (1..1000).find(|_| !chooser.observe(us(5000))).unwrap_or(0);
        assert!((2..10).contains(&calls), "{calls}");
    }

    #[test]
    fn a_dear_model_never_goes_inline() {
        let mut chooser = Chooser::new();
        assert!((0..1000).all(|_| !chooser.observe(us(60))));
    }
}
