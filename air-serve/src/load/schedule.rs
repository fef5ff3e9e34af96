//! Which request is due when. Pure: times are counted from the start.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    rate: f64,
    total: u64,
}

impl Schedule {
    /// Evenly spaced requests for that long, at most `count`; at least one.
    pub fn new(rate: f64, duration: Duration, count: Option<u64>) -> Self {
        let due = (rate * duration.as_secs_f64()).ceil().max(1.0) as u64;
        Schedule { rate, total: count.map_or(due, |count| due.min(count)) }
    }

    /// How many requests there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When that request is due; the first one at once.
    pub fn due(&self, index: u64) -> Duration {
        // Always from the start, never from the request before: no rounding adds up.
        Duration::from_secs_f64(index as f64 / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_evenly_spaced_and_end_in_time() {
        let schedule = Schedule::new(1_000.0, Duration::from_secs(2), None);
        assert_eq!(schedule.total(), 2_000);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1_500), Duration::from_millis(1_500));
        assert_eq!(Schedule::new(1_000.0, Duration::from_secs(2), Some(7)).total(), 7);
        assert_eq!(Schedule::new(0.1, Duration::from_secs(1), None).total(), 1);
        // An hour at a rate that no nanosecond divides: the last one is due to the microsecond.
        let schedule = Schedule::new(70_000.0, Duration::from_hours(1), None);
        let last = schedule.due(schedule.total() - 1).as_secs_f64();
        assert!((3_600.0 - last - 1.0 / 70_000.0).abs() < 1e-6, "{last}");
    }
}
