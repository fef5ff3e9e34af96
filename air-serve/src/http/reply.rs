//! Responses.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;

use crate::error::CallError;

/// The body of every response this server makes: it is whole before the head is sent.
pub(crate) type Body = Full<Bytes>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 200 with a JSON body.
pub(crate) fn json(body: Vec<u8>) -> Response<Body> {
    with(StatusCode::OK, JSON, body)
}

/// 200 with plain text.
pub(crate) fn text(body: impl Into<Bytes>) -> Response<Body> {
    of_type("text/plain; charset=utf-8", body)
}

/// 200 with a body of that type.
pub(crate) fn of_type(kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    with(StatusCode::OK, HeaderValue::from_static(kind), body)
}

fn with(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// An error: `{"error":"…"}`.
pub(crate) fn problem(status: StatusCode, error: &str) -> Response<Body> {
    with(status, JSON, problem_json(error))
}

/// The body of one.
pub(crate) fn problem_json(error: &str) -> Vec<u8> {
    serde_json::to_vec(&Problem { error }).unwrap_or_default()
}

/// 405, naming what is allowed.
pub(crate) fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// The answer to a call that failed.
pub(crate) fn call_error(error: &CallError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = problem(status, &error.to_string());
    let retry = match error {
        CallError::Busy { retry_after, .. } => Some(retry_after.as_secs()),
        CallError::TooLate { wait, limit, .. } => Some(wait.saturating_sub(*limit).as_secs() + 1),
        CallError::Closed { .. } | CallError::Replaced { .. } | CallError::NotRunning { .. } => Some(1),
        _ => None,
    };
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}
