//! What supervision did lately, as plain data.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::seconds;

/// Events kept; older ones make room.
const KEPT: usize = 1024;

/// Something a supervisor did, or had happen to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Counts all events of the runtime from 0.
    pub number: u64,
    /// When, on the runtime's clock (serialised in seconds).
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The worker's name, or the supervisor's.
    pub name: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// Its first life began.
    Started,
    /// A further life began.
    Restarted {
        /// Which life; the first is 1.
        generation: u64,
    },
    /// A life ended.
    Exited {
        /// Which life.
        generation: u64,
        /// Whether it ended otherwise than it was meant to.
        failure: bool,
        /// Why, with the chain of causes.
        cause: String,
    },
    /// A life did not return in time, and was left behind with its thread.
    Abandoned {
        /// Which life.
        generation: u64,
    },
    /// A supervisor gave up.
    GaveUp {
        /// The last failure, with the chain of causes.
        cause: String,
    },
}

impl EventKind {
    /// Its name in logs: `started`, `gave_up`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Restarted { .. } => "restarted",
            Self::Exited { .. } => "exited",
            Self::Abandoned { .. } => "abandoned",
            Self::GaveUp { .. } => "gave_up",
        }
    }
}

/// The last events, and a way to hear of new ones.
#[derive(Debug)]
pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    /// How many there have been.
    count: watch::Sender<u64>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, at: Duration, name: &Arc<str>, kind: EventKind) {
        let mut kept = self.kept.lock();
        let number = kept.back().map_or(0, |last| last.number + 1);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event { number, at, name: Arc::clone(name), kind });
        drop(kept);
        // Two that push at once may do this in either order; the count must not go back.
        self.count.send_modify(|count| *count = (*count).max(number + 1));
    }

    /// The events kept from this number on.
    pub(crate) fn since(&self, number: u64) -> Vec<Event> {
        let kept = self.kept.lock();
        let first = kept.partition_point(|event| event.number < number);
        kept.range(first..).cloned().collect()
    }

    /// The last few.
    pub(crate) fn last(&self, count: usize) -> Vec<Event> {
        let kept = self.kept.lock();
        kept.range(kept.len().saturating_sub(count)..).cloned().collect()
    }

    /// Changes whenever there is a new event.
    pub(crate) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_and_numbered_on() {
        let events = Events::new();
        let name: Arc<str> = "w".into();
        for n in 0..KEPT as u64 + 10 {
            events.push(Duration::from_secs(n), &name, EventKind::Restarted { generation: n });
        }
        assert_eq!(*events.count().borrow(), KEPT as u64 + 10);
        let kept = events.since(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT, 10));
        assert_eq!(events.since(KEPT as u64 + 8).len(), 2);
        assert_eq!(events.since(u64::MAX), []);
        assert_eq!(events.last(2), events.since(KEPT as u64 + 8));
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let kind = EventKind::Exited { generation: 2, failure: true, cause: "panicked: boom".into() };
        let event = Event { number: 7, at: Duration::from_millis(1500), name: "w".into(), kind };
        let json = serde_json::to_string(&event).unwrap();
        let flat = r#"{"number":7,"at":1.5,"name":"w","event":"exited","generation":2,"failure":true,"cause":"panicked: boom"}"#;
        assert_eq!(json, flat);
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
