//! The `tracing` span a message was sent in, or a task started in, so that one trace follows a request wherever it is worked on.

use tracing::{Level, Span};

/// Where a message or a task comes from. Empty, and one relaxed load, unless somebody records spans of level debug.
#[derive(Default)]
pub(crate) struct Origin(Option<Box<Span>>);

impl Origin {
    /// The span this thread is in.
    pub(crate) fn here() -> Self {
        Self(tracing::level_enabled!(Level::DEBUG).then(|| Box::new(Span::current())))
    }

    /// The span of handling the message, under the one it was sent in, if that is recorded.
    pub(crate) fn handle(&self, worker: &str, message: &'static str) -> Option<Span> {
        let parent = self.0.as_deref()?;
        Some(tracing::debug_span!(parent: parent, "air.core.handle", worker, message))
    }

    /// The span of one attempt at the task, under the one it was started in.
    pub(crate) fn attempt(&self, task: &str) -> Span {
        match &self.0 {
            Some(parent) => {
                let thread = std::thread::current();
                let worker = thread.name().unwrap_or("unnamed");
                tracing::debug_span!(parent: &**parent, "air.core.task", task, worker)
            }
            None => Span::none(),
        }
    }

    /// The span this thread is in, if the message's are recorded.
    pub(crate) fn current(&self) -> Span {
        if self.0.is_some() { Span::current() } else { Span::none() }
    }
}
