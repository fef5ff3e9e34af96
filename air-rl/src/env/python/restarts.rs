//! How many losses are borne.

use std::collections::VecDeque;

use crate::error::{Result, RlError};

/// Steps over which losses are counted.
pub(super) const WINDOW: u64 = 1000;

/// Counts losses over the steps taken: a few are accidents, many in a short time a broken environment.
#[derive(Debug)]
pub(super) struct Restarts {
    limit: usize,
    window: u64,
    /// At which steps something was lost, oldest first; none older than the window.
    lost: VecDeque<u64>,
}

impl Restarts {
    /// At most `limit` losses within `window` steps.
    pub(super) fn new(limit: usize, window: u64) -> Self {
        Self { limit, window, lost: VecDeque::new() }
    }

    /// Something was lost at this step, which is not before the last one told of. May it be replaced?
    fn lost(&mut self, step: u64) -> bool {
        while self.lost.front().is_some_and(|&first| step - first >= self.window) {
            self.lost.pop_front();
        }
        self.lost.push_back(step);
        self.lost.len() <= self.limit
    }

    /// Books what was lost of the environment `env` at a step, which may be one too much.
    pub(super) fn book(&mut self, env: &str, step: u64, what: &str, why: &str) -> Result<()> {
        if self.lost(step) {
            tracing::warn!(env, why, "{what}");
            return Ok(());
        }
        let (limit, window) = (self.limit, self.window);
        let why = format!("was lost more than {limit} times within {window} steps, lastly: {why}");
        Err(RlError::Python { env: env.into(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_are_too_many_and_the_same_number_over_time_is_not() {
        let mut restarts = Restarts::new(2, 10);
        assert_eq!([0, 0, 5].map(|step| restarts.lost(step)), [true, true, false]);
        let mut restarts = Restarts::new(2, 10);
        assert_eq!(
            [0, 5, 10, 15, 20, 21].map(|step| restarts.lost(step)),
            [true, true, true, true, true, false]
        );
        assert!(!Restarts::new(0, 10).lost(3));
    }
}
