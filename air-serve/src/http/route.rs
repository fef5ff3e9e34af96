//! Routes: from a path to a deployment, with JSON on both sides.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::front::{AnyBody, Refusal};
use super::reply::{self, Body};
use super::terms::terms;
use crate::deploy::DeploymentHandle;
use crate::error::CallError;
use crate::metrics::RouteMetrics;

/// What answers the requests of one route.
pub(crate) trait Endpoint: Send + Sync {
    /// Answers a request's body, on the terms of its headers: in place where it can, else later.
    fn answer(&self, asked: &Asked<'_>, body: &Bytes) -> Answered;

    /// Answers a message of a WebSocket.
    fn ask(&self, message: &[u8]) -> Result<Opening, Refusal>;

    /// What its answers may be.
    fn content_types(&self) -> &'static [&'static str] {
        &["application/json"]
    }

    /// Whether it answers messages of a WebSocket.
    fn converses(&self) -> bool {
        true
    }
}

/// What an answer depends on beside the body.
pub(crate) struct Asked<'a> {
    pub headers: &'a HeaderMap,
    /// How often something is to be sent on a stream of events.
    pub keep_alive: Option<Duration>,
}

/// An answer, or the promise of one.
pub(crate) enum Answered {
    Now(Response<Body>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
    Stream(BoxFuture<'static, Response<AnyBody>>),
}

/// An answer over a WebSocket that is being made.
pub(crate) type Opening = BoxFuture<'static, Result<Box<dyn Texts>, CallError>>;

/// An answer as messages of a WebSocket.
pub(crate) trait Texts: Send {
    /// Adds what is there, at least one text unless this is the end.
    fn poll(&mut self, cx: &mut Context<'_>, texts: &mut Vec<Vec<u8>>)
    -> Poll<Option<Result<(), CallError>>>;
}

/// A route of the table.
pub(crate) struct Route {
    pub deployment: String,
    pub endpoint: Box<dyn Endpoint>,
    pub metrics: RouteMetrics,
}

/// All routes, by exact path. Replaced as a whole, never changed.
#[derive(Default)]
pub(crate) struct RouteTable {
    pub routes: HashMap<String, Arc<Route>>,
}

/// JSON in, JSON out.
pub(crate) struct Json<I, O>(pub DeploymentHandle<I, O>);

impl<I, O> Endpoint for Json<I, O>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    fn answer(&self, asked: &Asked<'_>, body: &Bytes) -> Answered {
        let input: I = match read(body) {
            Ok(input) => input,
            Err(refusal) => return Answered::Now(refusal.into_response()),
        };
        let mut call = match terms(asked.headers) {
            Ok(None) => self.0.call(input),
            Ok(Some(terms)) => self.0.call_on(input, &terms),
            Err(refusal) => return Answered::Now(refusal.into_response()),
        };
        match call.ready() {
            Some(reply) => Answered::Now(respond(reply)),
            None => Answered::Later(Box::pin(async move { respond(call.await) })),
        }
    }

    fn ask(&self, message: &[u8]) -> Result<Opening, Refusal> {
        let call = self.0.call(read(message)?);
        Ok(async move {
            let answer = call.await?;
            let written = serde_json::to_string(&answer).map_err(|error| {
                let reason = format!("its answer cannot be written as JSON: {error}").into();
                CallError::Failed { replica: "of the deployment".into(), reason }
            })?;
            Ok(Box::new(One(format!("{{\"item\":{written}}}").into_bytes())) as Box<dyn Texts>)
        }
        .boxed())
    }
}

/// The only text of an answer.
struct One(Vec<u8>);

impl Texts for One {
    fn poll(&mut self, _: &mut Context<'_>, texts: &mut Vec<Vec<u8>>) -> Poll<Option<Result<(), CallError>>> {
        texts.push(std::mem::take(&mut self.0));
        Poll::Ready(Some(Ok(())))
    }
}

/// Reads an input. No body is no value: what needs none, as `()` or an `Option`, is answered. 400 for what is not JSON, 422 for JSON of the wrong
/// shape.
pub(crate) fn read<I: DeserializeOwned>(body: &[u8]) -> Result<I, Refusal> {
    let value: &[u8] = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(value).map_err(|error| {
        let is_unfit = matches!(error.classify(), serde_json::error::Category::Data);
        let (status, message) = match is_unfit {
            _ if body.is_empty() => {
                (StatusCode::BAD_REQUEST, "the request has no body, expected JSON".to_owned())
            }
            true => (StatusCode::UNPROCESSABLE_ENTITY, format!("the JSON does not fit: {error}")),
            false => (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
        };
        Refusal { status, message }
    })
}

fn respond<O: Serialize>(reply: Result<O, CallError>) -> Response<Body> {
    match reply {
        Ok(answer) => match serde_json::to_vec(&answer) {
            Ok(body) => reply::json(body),
            Err(error) => reply::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("the answer cannot be written as JSON: {error}"),
            ),
        },
        Err(error) => reply::call_error(&error),
    }
}

/// Whether a path may be a route.
pub(crate) fn valid_path(path: &str) -> Result<(), String> {
    let reserved = ["/-/", "/health/", "/api/serve/"].iter().any(|prefix| path.starts_with(prefix))
        || ["/metrics", "/openapi.json"].contains(&path)
        || crate::v2::owns(path);
    if reserved {
        return Err(format!("the route {path} is one of the server's own"));
    }
    let graphic = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
    if !path.starts_with('/') || !graphic || path.len() > 256 {
        return Err(format!("the route {path:?} is not a path that starts with / and needs no escapes"));
    }
    Ok(())
}
