//! [`Timeline`]: what was done when, for Perfetto and `chrome://tracing`.
//!
//! Off until it is started; then every message a worker handles is a span on the worker's line, every attempt at a task is one on its
//! thread's, and the last so many are kept. A program may add spans of its own.
//!
//! Apart from it, handling a message is a [`tracing`] span of level debug, `air.core.handle{worker, message}`, under the span the message
//! was sent in, and every attempt at a task is one, `air.core.task{task, worker}`, under the span the task was started in (`worker` is its
//! thread): whoever subscribes sees one trace follow a request across workers and tasks. Of messages handled in a batch, the first one's.
//!
//! ```
//! use std::time::Duration;
//! use air_core::{Clock, trace::Timeline};
//!
//! let (clock, time) = Clock::manual();
//! let timeline = Timeline::new(clock, 1000);
//! timeline.start();
//! {
//!     let _span = timeline.span("load", "reader");
//!     time.advance(Duration::from_millis(5));
//! }
//! assert_eq!(timeline.spans()[0].duration, Duration::from_millis(5));
//! assert!(timeline.chrome_trace().contains("\"load\""));
//! ```

mod chrome;
mod origin;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

pub(crate) use origin::Origin;

/// Spans kept unless a program says otherwise.
pub const DEFAULT_SPANS: usize = 1 << 16;

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// What: the message's type, the task's name.
    pub name: Cow<'static, str>,
    /// Where: the worker's name; spans of one lane are drawn on one line.
    pub lane: Arc<str>,
    /// What kind of work: `message`, `task`, `user`.
    pub kind: &'static str,
    /// When it began, on the runtime's clock.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// The last things that were done. Cheap to clone; clones are one timeline.
#[derive(Clone)]
pub struct Timeline {
    inner: Arc<Inner>,
}

struct Inner {
    on: AtomicBool,
    clock: Clock,
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    spans: VecDeque<Span>,
    /// Spans that made room for later ones.
    dropped: u64,
}

impl Timeline {
    /// An empty timeline, off, that keeps the last `spans` (at least one).
    pub fn new(clock: Clock, spans: usize) -> Self {
        let inner =
            Inner { on: AtomicBool::new(false), clock, capacity: spans.max(1), kept: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// From now on, spans are kept.
    pub fn start(&self) {
        self.inner.on.store(true, Ordering::Relaxed);
    }

    /// From now on, no span is kept; those that are stay.
    pub fn stop(&self) {
        self.inner.on.store(false, Ordering::Relaxed);
    }

    /// Whether spans are kept.
    pub fn is_on(&self) -> bool {
        self.inner.on.load(Ordering::Relaxed)
    }

    /// A span of your own, from now until the value is dropped.
    pub fn span(&self, name: impl Into<Cow<'static, str>>, lane: impl Into<Arc<str>>) -> OpenSpan {
        let began = self.begin().map(|start| (start, name.into(), lane.into()));
        OpenSpan { timeline: self.clone(), began }
    }

    /// The time, if spans are kept: one relaxed load while they are not.
    pub(crate) fn begin(&self) -> Option<Duration> {
        self.is_on().then(|| self.inner.clock.now())
    }

    /// Keeps a span that began then and ends now.
    pub(crate) fn end(
        &self,
        start: Duration,
        kind: &'static str,
        name: impl Into<Cow<'static, str>>,
        lane: &Arc<str>,
    ) {
        let duration = self.inner.clock.now().saturating_sub(start);
        let span = Span { name: name.into(), lane: Arc::clone(lane), kind, start, duration };
        let mut kept = self.inner.kept.lock();
        // A span dropped here is freed after the lock is let go.
        let _oldest = if kept.spans.len() == self.inner.capacity {
            kept.dropped += 1;
            kept.spans.pop_front()
        } else {
            None
        };
        kept.spans.push_back(span);
        drop(kept);
    }

    /// The spans kept, in the order in which they ended.
    pub fn spans(&self) -> Vec<Span> {
        self.inner.kept.lock().spans.iter().cloned().collect()
    }

    /// How many spans made room for later ones.
    pub fn dropped(&self) -> u64 {
        self.inner.kept.lock().dropped
    }

    /// The spans kept as Chrome trace events: JSON that Perfetto and `chrome://tracing` open.
    pub fn chrome_trace(&self) -> String {
        chrome::render(&self.spans(), self.is_on(), self.dropped())
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// A span that ends when this is dropped; see [`Timeline::span`].
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct OpenSpan {
    timeline: Timeline,
    began: Option<(Duration, Cow<'static, str>, Arc<str>)>,
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some((start, name, lane)) = self.began.take() {
            self.timeline.end(start, "user", name, &lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_while_it_is_off_and_only_the_last_while_it_is_on() {
        let (clock, time) = Clock::manual();
        let timeline = Timeline::new(clock, 2);
        drop(timeline.span("off", "a"));
        assert_eq!(timeline.spans(), []);
        timeline.start();
        for name in ["one", "two", "three"] {
            let span = timeline.span(name, "a");
            time.advance(Duration::from_secs(1));
            drop(span);
        }
        let spans = timeline.spans();
        let names: Vec<_> = spans.iter().map(|span| (&*span.name, span.start.as_secs())).collect();
        assert_eq!(names, [("two", 1), ("three", 2)]);
        assert!(spans.iter().all(|span| span.duration == Duration::from_secs(1) && span.kind == "user"));
        assert_eq!(timeline.dropped(), 1);
        timeline.stop();
        drop(timeline.span("off", "a"));
        assert_eq!(timeline.spans().len(), 2);
    }
}
