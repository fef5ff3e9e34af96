//! [`Retry`]: whether a task that failed is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_pcg::Pcg64;

use crate::actor::Backoff;
use crate::object::ObjectError;

/// How often, and after which failures, a task is tried again. An error it returns and a panic are failures; a time limit that has
/// passed, a cancellation and an argument without a value are not tried again.
#[derive(Clone)]
pub struct Retry {
    times: u32,
    backoff: Backoff,
    on: Option<Arc<On>>,
}

type On = dyn Fn(&ObjectError) -> bool + Send + Sync;

impl Retry {
    /// At most so many times more after the first, with the default [`Backoff`].
    pub fn times(times: u32) -> Self {
        Self { times, backoff: Backoff::default(), on: None }
    }

    /// Sets how long to wait before each.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Only after failures for which this holds. Its source is what the task returned:
    ///
    /// ```
    /// # use air_core::task::Retry;
    /// # use std::error::Error;
    /// let retry = Retry::times(3).on(|failure| failure.source().is_some_and(|error| error.is::<std::io::Error>()));
    /// ```
    pub fn on(mut self, on: impl Fn(&ObjectError) -> bool + Send + Sync + 'static) -> Self {
        self.on = Some(Arc::new(on));
        self
    }

    /// How long to wait before the next attempt; `None` for no further one. The seed decides the jitter.
    pub(super) fn decide(&self, attempts: u32, failure: &ObjectError, seed: u64) -> Option<Duration> {
        let failed = matches!(failure, ObjectError::Failed { .. } | ObjectError::Panicked { .. });
        let again = failed && attempts <= self.times && self.on.as_ref().is_none_or(|on| on(failure));
        again.then(|| self.backoff.delay(attempts as usize, &mut Pcg64::seed_from_u64(seed)))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("times", &self.times)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: crate::object::Name = crate::object::Name::Borrowed("t");

    fn failed(attempts: u32) -> ObjectError {
        ObjectError::Failed { task: NAME, attempts, source: Arc::new(std::fmt::Error) }
    }

    #[test]
    fn so_many_times_after_the_first() {
        let retry = Retry::times(2).backoff(Backoff {
            first: Duration::from_secs(1),
            jitter: 0.0,
            ..Backoff::default()
        });
        let delays: Vec<_> =
            (1..=4).map(|n| retry.decide(n, &failed(n), 0).map(|delay| delay.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(2), None, None]);
    }

    #[test]
    fn only_failures_of_the_task_itself() {
        let retry = Retry::times(9);
        let panicked = ObjectError::Panicked { task: NAME, attempts: 1, message: "boom".into() };
        assert!(retry.decide(1, &panicked, 0).is_some());
        let argument = ObjectError::Argument { task: NAME, source: Arc::new(failed(1)) };
        let late = ObjectError::TimedOut { task: NAME, limit: Duration::ZERO };
        for other in
            [ObjectError::Cancelled { task: NAME }, ObjectError::Stopped { task: NAME }, argument, late]
        {
            assert_eq!(retry.decide(1, &other, 0), None, "{other}");
        }
        let picky = retry.on(|failure| matches!(failure, ObjectError::Panicked { .. }));
        assert!(picky.decide(1, &panicked, 0).is_some());
        assert_eq!(picky.decide(1, &failed(1), 0), None);
    }
}
