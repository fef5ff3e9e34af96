//! Percentiles of durations in fixed memory. Pure.

use std::time::Duration;

/// Steps within a power of two: a value is known to 1/128 of itself.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.ilog2();
/// From nanoseconds to more than an hour.
const POWERS: u64 = 36;

/// Counts durations by size.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: Duration,
    longest: Duration,
}

impl Histogram {
    pub fn new() -> Self {
        let counts = vec![0; (STEPS * (POWERS + 1)) as usize];
        Histogram { counts, total: 0, sum: Duration::ZERO, longest: Duration::ZERO }
    }

    pub fn record(&mut self, took: Duration) {
        let index = index_of(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let last = self.counts.len() - 1;
        self.counts[index.min(last)] += 1;
        self.total += 1;
        self.sum += took;
        self.longest = self.longest.max(took);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The mean; zero of nothing.
    pub fn mean(&self) -> Duration {
        if self.total == 0 { Duration::ZERO } else { self.sum.div_f64(self.total as f64) }
    }

    /// What this share of all values does not exceed, to the step; zero of nothing.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        // The last step has no end: what is there may be as long as the longest.
        let (_, counts) = self.counts.split_last().unwrap_or((&0, &[]));
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(index as u64)).min(self.longest);
            }
        }
        self.longest
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }
}

fn index_of(nanos: u64) -> usize {
    let shift = nanos.max(1).ilog2().saturating_sub(STEP_BITS);
    (u64::from(shift) * STEPS + (nanos >> shift)) as usize
}

/// The largest value of that step.
fn upper_bound(index: u64) -> u64 {
    let shift = (index / STEPS).saturating_sub(1);
    ((index - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_a_thousand_microseconds() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (Duration::ZERO, Duration::ZERO));
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |share, want: f64| {
            let got = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!(got >= want && got <= want * (1.0 + 1.0 / 128.0), "{share}: {got} is not {want}");
        };
        near(0.0, 1.0);
        near(0.5, 500.0);
        near(0.99, 990.0);
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!(histogram.longest(), Duration::from_millis(1));
        assert_eq!(histogram.mean(), Duration::from_nanos(500_500));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.total(), twice.mean()), (2000, histogram.mean()));
        // Longer than the longest step there is.
        twice.record(Duration::from_hours(24));
        assert_eq!(twice.quantile(1.0), Duration::from_hours(24));
    }

    proptest! {
        /// A step holds its value, is no wider than 1/128 of it, and steps follow each other without a gap.
        #[test]
        fn steps_are_narrow_and_gapless(nanos in 0..1u64 << 42) {
            let bound = upper_bound(index_of(nanos) as u64);
            prop_assert!(bound >= nanos && bound - nanos <= nanos / STEPS);
            prop_assert_eq!(index_of(bound), index_of(nanos));
            prop_assert_eq!(index_of(bound + 1), index_of(nanos) + 1);
        }
    }
}
