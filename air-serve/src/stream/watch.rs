//! When a stream has stood still for too long: a pure type, asked every now and then by who looks after the deployment. So a stream costs no
//! timer and no look at a clock, and one whose model hangs is told too.

use std::time::Duration;

use crate::error::CallError;

/// Items that were written and taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub pushed: u64,
    pub taken: u64,
}

/// How long a stream may take. Times are on the deployment's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// When the request came.
    pub since: Duration,
    /// When the first item must be there.
    pub first_by: Duration,
    /// How long neither side may do anything after that.
    pub idle: Duration,
}

/// What a stream has been waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Its first item, for so long.
    First(Duration),
    /// Its next item.
    Item(Duration),
    /// Somebody to take what is there.
    Reader(Duration),
}

impl From<Overdue> for CallError {
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::First(limit) => CallError::Timeout { limit },
            Overdue::Item(limit) => CallError::Idle { limit, waited_for: "the model's next item" },
            Overdue::Reader(limit) => CallError::Idle { limit, waited_for: "its reader" },
        }
    }
}

/// One stream, as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    limits: Limits,
    seen: Progress,
    /// When that was first seen.
    at: Duration,
}

impl Watch {
    pub(crate) fn new(limits: Limits) -> Self {
        Watch { limits, seen: Progress::default(), at: limits.since }
    }

    /// Takes in how far it is now; says what it has been waiting for if that is too long.
    pub(crate) fn look(&mut self, now: Duration, progress: Progress) -> Option<Overdue> {
        let Limits { since, first_by, idle } = self.limits;
        if progress.pushed == 0 {
            return (now >= first_by).then(|| Overdue::First(first_by.saturating_sub(since)));
        }
        if progress != self.seen {
            (self.seen, self.at) = (progress, now);
            return None;
        }
        let waits = now.saturating_sub(self.at) >= idle;
        let overdue = if progress.pushed > progress.taken { Overdue::Reader } else { Overdue::Item };
        waits.then(|| overdue(idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn watch() -> Watch {
        Watch::new(Limits { since: s(10), first_by: s(40), idle: s(60) })
    }

    fn at(pushed: u64, taken: u64) -> Progress {
        Progress { pushed, taken }
    }

    #[test]
    fn the_first_item_is_due_when_the_answer_of_a_request_would_be() {
        let mut watch = watch();
        assert_eq!(watch.look(s(39), at(0, 0)), None);
        assert_eq!(watch.look(s(40), at(0, 0)), Some(Overdue::First(s(30))));
    }

    #[test]
    fn afterwards_somebody_must_do_something() {
        let mut watch = watch();
        assert_eq!(watch.look(s(39), at(1, 0)), None);
        assert_eq!(watch.look(s(98), at(1, 0)), None);
        assert_eq!(watch.look(s(99), at(1, 0)), Some(Overdue::Reader(s(60))));
        assert_eq!(watch.look(s(100), at(1, 1)), None, "a reader that takes something is one");
        assert_eq!(watch.look(s(159), at(1, 1)), None);
        assert_eq!(watch.look(s(160), at(1, 1)), Some(Overdue::Item(s(60))));
        assert_eq!(watch.look(s(161), at(2, 1)), None);
    }
}
