//! The `tracing` span a message was sent in, so that one trace follows a request from worker to worker.

use tracing::{Level, Span};

/// Where a message comes from. Empty, and one relaxed load, unless somebody records spans of level debug.
pub(crate) struct Origin(Option<Box<Span>>);

impl Origin {
    /// The span this thread is in.
    pub(crate) fn here() -> Self {
        Self(tracing::level_enabled!(Level::DEBUG).then(|| Box::new(Span::current())))
    }

    /// The span of handling the message, under the one it was sent in.
    pub(crate) fn handle(&self, worker: &str, message: &'static str) -> Span {
        match &self.0 {
            Some(parent) => tracing::debug_span!(parent: &**parent, "air.core.handle", worker, message),
            None => Span::none(),
        }
    }

    /// The span this thread is in, if the message's are recorded.
    pub(crate) fn current(&self) -> Span {
        if self.0.is_some() { Span::current() } else { Span::none() }
    }
}
