//! What stands for language models where the feature `llm` is off: none.
#![expect(clippy::unused_self, clippy::unused_async, reason = "the same verbs as where there are some")]

use std::sync::Arc;

use axum::http::Response;
use axum::http::request::Parts;
use bytes::Bytes;

use crate::deploy::Running;
use crate::error::ServeError;
use crate::http::{AnyBody, Body, Refusal};
use crate::metrics::Metrics;

/// A model that cannot be.
#[derive(Clone)]
pub(crate) enum Llm {}

pub(crate) enum Served {}

#[derive(Default)]
pub(crate) struct Models;

impl Served {
    pub(crate) fn new(llm: &Llm, _running: &dyn Running, _metrics: &Metrics) -> Result<Self, ServeError> {
        match *llm {}
    }
}

impl Models {
    pub(crate) fn declare(&self, _models: Vec<Served>) -> Vec<Arc<Served>> {
        Vec::new()
    }

    pub(crate) fn is_empty(&self) -> bool {
        true
    }
}

pub(crate) fn owns(_path: &str) -> bool {
    false
}

pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    refusal.into_response()
}

pub(crate) async fn answer(_models: &Models, _head: Parts, _body: Bytes) -> Response<AnyBody> {
    Response::new(AnyBody::Left(Bytes::new().into()))
}
