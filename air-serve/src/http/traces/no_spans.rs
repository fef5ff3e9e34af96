//! Built without OpenTelemetry: there is nothing to trace with.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderValue, Request};

use super::TracesConfig;
use crate::error::{CallError, ServeError};

/// There is none.
pub(crate) struct Traces(Infallible);

/// There is none.
pub(crate) struct Span(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Infallible);

/// There is none.
#[derive(Debug)]
pub(crate) struct Traced(Infallible);

impl Trace {
    pub(crate) fn waited(&self, _: &str, _: Duration) {
        match self.0 {}
    }

    pub(crate) fn execute(&self, _: &str, _: &str, _: usize) -> Traced {
        match self.0 {}
    }

    pub(crate) fn traceparent(&self) -> String {
        match self.0 {}
    }
}

impl Traced {
    pub(crate) fn trace(&self) -> &Trace {
        match self.0 {}
    }

    pub(crate) fn fail(self, _: &CallError) {
        match self.0 {}
    }
}

impl Traces {
    /// None: a configuration that wants traces is not valid.
    pub(crate) fn start(_: &TracesConfig) -> Result<Option<Self>, ServeError> {
        Ok(None)
    }

    pub(crate) fn begin<B>(&self, _: &Request<B>) -> (Option<Span>, Option<Trace>) {
        match self.0 {}
    }
}

impl Span {
    pub(crate) fn end(self, _: Option<&str>, _: u16, _: &HeaderValue, _: Duration) {
        match self.0 {}
    }
}
