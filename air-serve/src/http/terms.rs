//! What the headers of a request ask for beside its answer: how soon, before which others, and of which of several models.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode};

use super::front::Refusal;
use crate::deploy::context::Terms;

/// How long the request may take, in seconds.
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-seconds");
/// From 1, which goes first.
const PRIORITY: HeaderName = HeaderName::from_static("x-request-priority");
/// Which model of a multiplexed deployment; Ray's name for it.
const MODEL: HeaderName = HeaderName::from_static("serve_multiplexed_model_id");

/// Longer names of models are refused: they are kept, and shown.
pub(crate) const LONGEST_MODEL_ID: usize = 128;

/// What a request's headers ask for, if anything.
pub(crate) fn terms(headers: &HeaderMap) -> Result<Option<Terms>, Refusal> {
    // Most have none of these, which is seen without looking each of them up.
    let asks =
        |name: &HeaderName| [TIMEOUT.as_str(), PRIORITY.as_str(), MODEL.as_str()].contains(&name.as_str());
    if !headers.keys().any(asks) {
        return Ok(None);
    }
    let read = || -> Result<Terms, String> {
        Ok(Terms {
            limit: text(headers, &TIMEOUT)?.map(limit).transpose()?,
            priority: text(headers, &PRIORITY)?.map_or(Ok(0), priority)?,
            model: text(headers, &MODEL)?.map(model_id).transpose()?,
            fitted: false,
        })
    };
    read().map(Some).map_err(|message| Refusal { status: StatusCode::BAD_REQUEST, message })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let value = headers.get(name).map(|value| value.to_str().map(str::trim));
    value.transpose().map_err(|_| format!("the header {name} is not plain text"))
}

fn limit(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    let wrong = || {
        format!("the header {TIMEOUT} is {text:?}, it must be a number of seconds, above 0 and at most 86400")
    };
    seconds.map(Duration::from_secs_f64).ok_or_else(wrong)
}

fn priority(text: &str) -> Result<u8, String> {
    let wrong = || {
        format!(
            "the header {PRIORITY} is {text:?}, it must be a whole number from 1, which goes first, to 255"
        )
    };
    text.parse().ok().filter(|level| *level > 0).ok_or_else(wrong)
}

/// A model's name, if it may be one.
pub(crate) fn model_id(text: &str) -> Result<Arc<str>, String> {
    let fits = (1..=LONGEST_MODEL_ID).contains(&text.len()) && !text.chars().any(char::is_control);
    let wrong =
        || format!("a multiplexed model's id has 1 to {LONGEST_MODEL_ID} bytes and no control characters");
    if fits { Ok(text.into()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    fn of(headers: &[(HeaderName, &str)]) -> Result<Option<Terms>, u16> {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        terms(&headers.collect()).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn what_is_asked_for_is_read() {
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&[(HeaderName::from_static("x-request-id"), "7")]).unwrap().is_none());
        let asked = of(&[(TIMEOUT, "0.25"), (PRIORITY, "2"), (MODEL, "de")]).unwrap().unwrap();
        assert_eq!((asked.limit, asked.priority), (Some(Duration::from_millis(250)), 2));
        assert_eq!(asked.model.as_deref(), Some("de"));
        let asked = of(&[(MODEL, "de")]).unwrap().unwrap();
        assert_eq!((asked.limit, asked.priority), (None, 0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (name, value) in [
            (TIMEOUT, "soon"),
            (TIMEOUT, "0"),
            (TIMEOUT, "-1"),
            (TIMEOUT, "1e9"),
            (TIMEOUT, "NaN"),
            (TIMEOUT, "inf"),
            (PRIORITY, "0"),
            (PRIORITY, "256"),
            (PRIORITY, "u=1"),
            (MODEL, ""),
            (MODEL, &"x".repeat(LONGEST_MODEL_ID + 1)),
        ] {
            assert_eq!(of(&[(name.clone(), value)]).unwrap_err(), 400, "{name}: {value}");
        }
    }
}
