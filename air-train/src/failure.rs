//! What a failed rank leaves behind, and the decision that follows.

use std::fmt;
use std::sync::Arc;

/// Why a rank ended before its work was done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The training function returned this error.
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// It panicked with this message.
    Panicked(String),
    /// Its process exited with this code.
    Exited(i32),
    /// Its process was ended by this signal.
    Signalled(i32),
    /// Its worker could not be started, or ended in another way.
    Lost(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Self::Lost(what) => write!(f, "was lost: {what}"),
        }
    }
}

/// One failure of the group: the rank that failed first, and what was done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The rank whose failure ended the attempt; the others were stopped because of it.
    pub rank: usize,
    /// Why.
    pub cause: Cause,
    /// What followed.
    pub decision: Decision,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} {}; {}", self.rank, self.cause, self.decision)
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start every rank again, from the checkpoint of this step or from the beginning.
    Restart {
        /// The step of the last complete checkpoint.
        from: Option<u64>,
    },
    /// End the run.
    GiveUp,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { from: Some(step) } => {
                write!(f, "all ranks were restarted from the checkpoint of step {step}")
            }
            Self::Restart { from: None } => write!(f, "all ranks were restarted from the beginning"),
            Self::GiveUp => write!(f, "the run was given up"),
        }
    }
}

/// Decides what follows a failure: a pure count, without clock or I/O.
#[derive(Clone, Debug)]
pub struct FailurePolicy {
    max_failures: u32,
    failures: u32,
}

impl FailurePolicy {
    /// A policy that allows `max_failures` restarts.
    pub fn new(max_failures: u32) -> Self {
        Self { max_failures, failures: 0 }
    }

    /// Counts a failure; `checkpoint` is the step of the last complete one.
    pub fn on_failure(&mut self, checkpoint: Option<u64>) -> Decision {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.max_failures {
            Decision::GiveUp
        } else {
            Decision::Restart { from: checkpoint }
        }
    }

    /// Failures so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_allows_that_many_restarts_and_no_more() {
        for max in 0..20 {
            let mut policy = FailurePolicy::new(max);
            for step in 0..max {
                let from = (step > 2).then_some(u64::from(step));
                assert_eq!(policy.on_failure(from), Decision::Restart { from });
            }
            for _ in 0..3 {
                assert_eq!(policy.on_failure(Some(9)), Decision::GiveUp);
            }
            assert_eq!(policy.failures(), max + 3);
        }
    }

    #[test]
    fn a_failure_says_who_why_and_what_followed() {
        let failure = Failure {
            rank: 2,
            cause: Cause::Panicked("index out of bounds".to_owned()),
            decision: Decision::Restart { from: Some(4) },
        };
        assert_eq!(
            failure.to_string(),
            "rank 2 panicked: index out of bounds; all ranks were restarted from the checkpoint of step 4"
        );
    }
}
