//! How often something may happen: a token bucket. Pure.

use std::time::Duration;

/// Holds up to `burst` tokens, and gains `per_second` of them a second.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full one; both must be above 0, and `burst` at least 1.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        Bucket { per_second, burst, level: burst, at: Duration::ZERO }
    }

    /// Takes a token, or says how long it is until there is one. Who is refused pays nothing.
    pub(crate) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.burst);
        self.at = self.at.max(now);
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - self.level) / self.per_second).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(10.0, 3.0);
        let taken: Vec<bool> = (0..5).map(|_| bucket.take(Duration::ZERO).is_ok()).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        assert_eq!(bucket.take(40 * MS), Err(60 * MS));
        assert_eq!(bucket.take(100 * MS), Ok(()));
        assert_eq!(bucket.take(100 * MS), Err(100 * MS));
        // A long pause fills it to the brim, no further.
        let taken = (0..9).filter(|_| bucket.take(Duration::from_hours(1)).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing() {
        let mut bucket = Bucket::new(1.0, 1.0);
        assert_eq!(bucket.take(Duration::from_secs(5)), Ok(()));
        assert_eq!(bucket.take(Duration::from_secs(3)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(Duration::from_secs(5)), Err(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_and_whoever_waits_as_told_gets_one(
            rate in 0.01f64..1000.0,
            burst in 1u32..50,
            gaps in prop::collection::vec(0u64..200_000, 1..200),
        ) {
            let mut bucket = Bucket::new(rate, f64::from(burst));
            let (mut now, mut taken) = (Duration::ZERO, 0u32);
            for gap in gaps {
                now += Duration::from_micros(gap);
                match bucket.take(now) {
                    Ok(()) => taken += 1,
                    Err(wait) => prop_assert_eq!(bucket.clone().take(now + wait + Duration::from_micros(1)), Ok(())),
                }
                prop_assert!(f64::from(taken) <= f64::from(burst) + rate * now.as_secs_f64() + 1e-6);
            }
        }
    }
}
