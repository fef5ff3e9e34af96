//! Errors, as OpenAI's API has them.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::error::CallError;
use crate::http::Body;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub status: u16,
    pub message: String,
    /// The field it is about.
    pub param: Option<&'static str>,
    pub code: Option<&'static str>,
    pub retry_after_s: Option<u64>,
}

impl Fault {
    /// 400.
    pub(super) fn bad(param: &'static str, message: impl Into<String>) -> Self {
        let param = Some(param).filter(|param| !param.is_empty());
        Fault { status: 400, message: message.into(), param, code: None, retry_after_s: None }
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// As an object, which is the body of a response or an event of a stream.
    pub(super) fn object(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.object().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 405 {
            headers
                .insert(ALLOW, HeaderValue::from_static(if self.param.is_some() { "GET" } else { "POST" }));
        }
        response
    }
}

impl From<&CallError> for Fault {
    fn from(error: &CallError) -> Self {
        let fault = Fault {
            status: error.status(),
            message: error.to_string(),
            param: None,
            code: None,
            retry_after_s: None,
        };
        let busy = |seconds: u64| Fault { retry_after_s: Some(seconds.max(1)), ..fault.clone() };
        match error {
            // As OpenAI's clients expect it: they wait for as long as they are told, and try again.
            CallError::Busy { retry_after, .. } => {
                busy(retry_after.as_secs()).status(429).code("rate_limit_exceeded")
            }
            CallError::TooLate { wait, limit, .. } => {
                busy(wait.saturating_sub(*limit).as_secs() + 1).status(429).code("rate_limit_exceeded")
            }
            CallError::Closed { .. } | CallError::Replaced { .. } => busy(1).code("unavailable"),
            CallError::Timeout { .. } => fault.code("timeout"),
            CallError::Invalid { .. } => fault.status(400),
            _ => fault,
        }
    }
}
