//! How fast a deployment answers, and so when a refused caller should come back. Pure.

use std::time::Duration;

/// An exponentially weighted rate of answers.
#[derive(Clone, Debug)]
pub(crate) struct DrainRate {
    started: Option<Duration>,
    last: Duration,
    /// Answers, each weighted by `e^(-age / MEMORY)`.
    level: f64,
}

/// Answers count for about this long.
const MEMORY: Duration = Duration::from_secs(5);
/// A caller is never sent away for less or more.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(1);

impl DrainRate {
    pub(crate) fn new() -> Self {
        DrainRate { started: None, last: Duration::ZERO, level: 0.0 }
    }

    /// Notes that `answers` were given.
    pub(crate) fn record(&mut self, now: Duration, answers: usize) {
        self.started.get_or_insert(now);
        self.level = self.level_at(now) + answers as f64;
        self.last = now;
    }

    fn level_at(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.last);
        self.level * (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }

    /// Answers a second.
    pub(crate) fn per_second(&self, now: Duration) -> f64 {
        let Some(started) = self.started else { return 0.0 };
        let memory = MEMORY.as_secs_f64();
        // Until the memory has filled, only what it can have seen counts.
        let seen = 1.0 - (-now.saturating_sub(started).as_secs_f64() / memory).exp();
        self.level_at(now) / (memory * seen.max(0.01))
    }

    /// When a queue of this length should have drained.
    pub(crate) fn retry_after(&self, now: Duration, queued: usize) -> Duration {
        let rate = self.per_second(now);
        if rate <= 0.0 {
            return LEAST;
        }
        let seconds = (queued as f64 / rate).clamp(LEAST.as_secs_f64(), MOST.as_secs_f64());
        Duration::from_secs_f64(seconds.ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_turned_into_a_wait() {
        let mut rate = DrainRate::new();
        for tick in 0..1000u64 {
            rate.record(Duration::from_millis(tick * 10), 2);
        }
        let now = Duration::from_secs(10);
        let measured = rate.per_second(now);
        assert!((measured - 200.0).abs() < 15.0, "{measured}");
        assert_eq!(
            rate.retry_after(now, 1000),
            Duration::from_secs(5).max(Duration::from_secs_f64((1000.0 / measured).ceil()))
        );
        assert_eq!(rate.retry_after(now, 1), Duration::from_secs(1));
    }

    #[test]
    fn without_a_measurement_the_wait_is_the_least_and_never_endless() {
        let mut rate = DrainRate::new();
        assert_eq!(rate.retry_after(Duration::ZERO, 100), Duration::from_secs(1));
        rate.record(Duration::ZERO, 1);
        assert_eq!(rate.retry_after(Duration::from_mins(10), 1_000_000), Duration::from_mins(1));
    }
}
