//! What is asked of a request before it is answered, and done to its answer, where anything is configured: keys, cross-origin rules,
//! compression, lines in the log, traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::{CONTENT_ENCODING, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Either;

use super::compress::{CompressionConfig, Inflated, accepts_gzip, gunzip};
use super::config::HttpConfig;
use super::cors::Cors;
use super::front::{AnyBody, Refusal};
use super::traces::{Span, Trace, Traces};
use crate::auth::{Auth, Refused};
use crate::error::ServeError;
use crate::llm;
use crate::v2::grpc;

/// What is asked of every request, and done to every answer.
pub(crate) struct Policy {
    auth: Option<Auth>,
    cors: Option<Cors>,
    compression: Option<CompressionConfig>,
    /// Of this many requests, one gets a line.
    log_every: Option<u64>,
    traces: Option<Traces>,
    requests: AtomicU64,
    origin: Instant,
}

/// What is to be remembered of a request until it is answered.
#[derive(Default)]
pub(crate) struct Seen {
    origin: Option<HeaderValue>,
    gzip: bool,
    line: Option<Line>,
    span: Option<Span>,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

/// A line in the log.
struct Line {
    method: Method,
    path: String,
    key: Option<Arc<str>>,
}

impl Policy {
    /// `None` where nothing is configured: the requests of such a server pay nothing for it.
    pub(crate) fn new(config: &HttpConfig) -> Result<Option<Self>, ServeError> {
        let policy = Policy {
            auth: Auth::new(&config.auth),
            cors: Cors::new(&config.cors),
            compression: config.compression.gzip.then(|| config.compression.clone()),
            log_every: (config.access_log > 0.0).then(|| (1.0 / config.access_log).round().max(1.0) as u64),
            traces: Traces::start(&config.traces)?,
            requests: AtomicU64::new(0),
            origin: Instant::now(),
        };
        let any = policy.auth.is_some()
            || policy.cors.is_some()
            || policy.compression.is_some()
            || policy.log_every.is_some()
            || policy.traces.is_some();
        Ok(any.then_some(policy))
    }

    /// Looks at a request, which may be one of OpenAI's API. It is let in if there is no response to it yet; [`finish`](Self::finish) is for both.
    pub(crate) fn admit<B>(
        &self,
        request: &Request<B>,
        is_openai: bool,
    ) -> (Seen, Option<(Response<AnyBody>, u16)>) {
        let headers = request.headers();
        let logged = self
            .log_every
            .filter(|every| self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(*every));
        let (span, trace) = self.traces.as_ref().map(|traces| traces.begin(request)).unwrap_or_default();
        let mut seen = Seen {
            origin: self.cors.as_ref().and_then(|_| headers.get(ORIGIN).cloned()),
            gzip: self.compression.is_some() && accepts_gzip(headers),
            line: logged.map(|_| Line {
                method: request.method().clone(),
                path: request.uri().path().chars().take(128).collect(),
                key: None,
            }),
            span,
            trace,
        };
        // Browsers ask without a key.
        let preflight = self.cors.as_ref().and_then(|cors| cors.preflight(request.method(), headers));
        if let Some(preflight) = preflight {
            seen.origin = None;
            let status = preflight.status().as_u16();
            return (seen, Some((preflight.map(Either::Left), status)));
        }
        let checked = match &self.auth {
            Some(auth) => auth.check(request.uri().path(), headers, self.origin.elapsed()),
            None => Ok(None),
        };
        if let (Some(line), Ok(Some(key))) = (&mut seen.line, &checked) {
            line.key = Some(Arc::clone(&key.name));
        }
        (seen, checked.err().map(|refused| deny(&refused, request, is_openai)))
    }

    /// Looks at a further message of a conversation that was let in.
    pub(crate) fn admit_again(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(auth) = &self.auth else { return Ok(()) };
        auth.check(path, headers, self.origin.elapsed()).map(drop).map_err(|refused| told(&refused).0)
    }

    /// Whether pages of this origin may call.
    pub(crate) fn allows_origin(&self, origin: &HeaderValue) -> bool {
        self.cors.as_ref().is_some_and(|cors| cors.allows(origin))
    }

    /// Whether a body with these headers came as gzip, and is unpacked.
    pub(crate) fn unpacks(&self, headers: &HeaderMap) -> bool {
        let gzip = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"gzip");
        self.compression.is_some() && headers.get(CONTENT_ENCODING).is_some_and(gzip)
    }

    /// The plain bytes of a body, at most `limit` of them: unpacked, if it came as gzip.
    pub(crate) async fn unpack(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        limit: usize,
    ) -> Result<Bytes, Refusal> {
        if !self.unpacks(headers) {
            return Ok(body);
        }
        // While a large one is unpacked, other connections of this thread go on.
        let plain = if body.len() <= 16 << 10 {
            gunzip(&body, limit)
        } else {
            let plain = tokio::task::spawn_blocking(move || gunzip(&body, limit)).await;
            plain.unwrap_or_else(|error| Err(Inflated::Broken(error.to_string())))
        };
        plain.map_err(|error| match error {
            Inflated::TooLarge => Refusal {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                message: format!("the body, unpacked, is larger than the limit of {limit} bytes"),
            },
            Inflated::Broken(reason) => Refusal {
                status: StatusCode::BAD_REQUEST,
                message: format!("the body is not gzip: {reason}"),
            },
        })
    }

    /// Completes an answer, whoever gave it.
    pub(crate) async fn finish(
        &self,
        seen: Seen,
        mut response: Response<AnyBody>,
        deployment: Option<&str>,
        status: u16,
        id: &HeaderValue,
        took: Duration,
    ) -> Response<AnyBody> {
        if let Some(span) = seen.span {
            span.end(deployment, status, id, took);
        }
        if let Some(Line { method, path, key }) = seen.line {
            tracing::info!(
                target: "air_serve::access",
                request_id = id.to_str().unwrap_or_default(),
                %method,
                route = path,
                status,
                latency_ms = took.as_secs_f64() * 1e3,
                key = key.as_deref(),
            );
        }
        if let (Some(cors), Some(origin)) = (&self.cors, &seen.origin) {
            cors.grant(origin, response.headers_mut());
        }
        match &self.compression {
            Some(compression) => compression.compress(seen.gzip, response).await,
            None => response,
        }
    }
}

/// Why a request is not let in, and after how many seconds it may come again.
fn told(refused: &Refused) -> (Refusal, Option<u64>) {
    let mut retry_after = None;
    let (status, message) = match refused {
        Refused::NoKey => {
            let message = "send an API key, as `authorization: Bearer KEY` or `x-api-key: KEY`";
            (StatusCode::UNAUTHORIZED, message.to_owned())
        }
        Refused::UnknownKey => (StatusCode::UNAUTHORIZED, "the API key is unknown".to_owned()),
        Refused::Scope { key, needs } => {
            let message = format!("the API key `{key}` lacks the scope `{needs}`, which this needs");
            (StatusCode::FORBIDDEN, message)
        }
        Refused::TooMany { key, retry_after: after } => {
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            retry_after = Some(seconds);
            let message =
                format!("the API key `{key}` has been used more often than it may; come back in {seconds} s");
            (StatusCode::TOO_MANY_REQUESTS, message)
        }
    };
    (Refusal { status, message }, retry_after)
}

/// The answer to a request that is not let in, in the words of its protocol, and the status that is counted.
fn deny<B>(refused: &Refused, request: &Request<B>, is_openai: bool) -> (Response<AnyBody>, u16) {
    let (refusal, retry_after) = told(refused);
    let status = refusal.status;
    let mut response = if grpc::is_call(request) {
        grpc::refused(&refusal).map(Either::Right)
    } else if is_openai {
        llm::refused(refusal).map(Either::Left)
    } else {
        refusal.into_response().map(Either::Left)
    };
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    (response, status.as_u16())
}
