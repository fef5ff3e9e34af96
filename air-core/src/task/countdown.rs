//! [`Countdown`]: when a task may begin.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the arguments that are still to come. A task is released once: when all are there, or when one of them failed.
#[derive(Debug)]
pub(super) struct Countdown(AtomicU32);

const RELEASED: u32 = 1 << 31;

impl Countdown {
    pub(super) fn new(arguments: usize) -> Self {
        Self(AtomicU32::new(u32::try_from(arguments).unwrap_or(RELEASED - 1).min(RELEASED - 1)))
    }

    /// One more is there, or has failed; whether the task is released by it.
    pub(super) fn arrive(&self, failed: bool) -> bool {
        let step = |state| Some(step(state, failed).0);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(before) | Err(before) => step_releases(before, failed),
        }
    }
}

fn step_releases(state: u32, failed: bool) -> bool {
    step(state, failed).1
}

/// The decision, apart from the atomic that carries it out.
fn step(state: u32, failed: bool) -> (u32, bool) {
    let (released, count) = (state & RELEASED, (state & !RELEASED).saturating_sub(1));
    let releases = released == 0 && (failed || count == 0);
    let released = if releases { RELEASED } else { released };
    (released | count, releases)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of arrivals and failures of up to six arguments.
    #[test]
    fn a_task_is_released_once_by_the_last_argument_or_the_first_failure() {
        for arguments in 1..=6_usize {
            for failures in 0..1_u32 << arguments {
                let countdown = Countdown::new(arguments);
                let failed = |n: usize| failures >> n & 1 == 1;
                let releases: Vec<_> = (0..arguments).filter(|n| countdown.arrive(failed(*n))).collect();
                let first_failure = (0..arguments).find(|n| failed(*n));
                assert_eq!(releases, [first_failure.unwrap_or(arguments - 1)], "{arguments} {failures:b}");
            }
        }
    }

    #[test]
    fn more_arrivals_than_arguments_change_nothing() {
        let countdown = Countdown::new(1);
        assert!(countdown.arrive(false));
        assert!(!countdown.arrive(false) && !countdown.arrive(true));
    }
}
