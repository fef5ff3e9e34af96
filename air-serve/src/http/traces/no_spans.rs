//! Built without OpenTelemetry: there is nothing to trace with.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderValue, Request};

use super::TracesConfig;
use crate::error::ServeError;

/// There is none.
pub(crate) struct Traces(Infallible);

/// There is none.
pub(crate) struct Span(Infallible);

impl Traces {
    /// None: a configuration that wants traces is not valid.
    pub(crate) fn start(_: &TracesConfig) -> Result<Option<Self>, ServeError> {
        Ok(None)
    }

    pub(crate) fn begin<B>(&self, _: &Request<B>) -> Option<Span> {
        match self.0 {}
    }
}

impl Span {
    pub(crate) fn end(self, _: Option<&str>, _: u16, _: &HeaderValue, _: Duration) {
        match self.0 {}
    }
}
