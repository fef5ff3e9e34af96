//! [`Rank`]: which of two trials is the better one to learn from.

use std::cmp::Ordering;

use super::{Mode, Outcome};

/// Complete trials come before stopped, running and failed ones; of these the best first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rank(u8, f64);

impl Rank {
    /// Of a trial that has not ended.
    pub const RUNNING: Self = Rank(2, 0.0);

    /// Of a trial that has.
    pub fn of(outcome: Outcome, mode: Mode) -> Self {
        let signed = |value: f64| if mode == Mode::Max { -value } else { value };
        match outcome {
            Outcome::Complete(value) => Rank(0, signed(value)),
            Outcome::Stopped(value) => Rank(1, signed(value)),
            Outcome::Failed => Rank(3, 0.0),
        }
    }

    /// Whether the trial has ended with a value.
    pub fn has_value(self) -> bool {
        self.0 < Self::RUNNING.0
    }

    pub fn order(self, other: Self) -> Ordering {
        self.0.cmp(&other.0).then(self.1.total_cmp(&other.1))
    }
}
