//! Routes: from a path to a deployment, with JSON on both sides.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reply::{self, Body};
use crate::deploy::DeploymentHandle;
use crate::metrics::RouteMetrics;

/// What answers the requests of one route.
pub(crate) trait Endpoint: Send + Sync {
    /// Answers a request's body: in place where it can, else later.
    fn answer(&self, body: &[u8]) -> Answered;
}

/// An answer, or the promise of one.
pub(crate) enum Answered {
    Now(Response<Body>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
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
    fn answer(&self, body: &[u8]) -> Answered {
        // No body is no value: what needs none, as `()` or an `Option`, is answered.
        let value: &[u8] = if body.is_empty() { b"null" } else { body };
        let input: I = match serde_json::from_slice(value) {
            Ok(input) => input,
            Err(error) => return Answered::Now(bad_json(body, &error)),
        };
        let mut call = self.0.call(input);
        match call.ready() {
            Some(reply) => Answered::Now(respond(reply)),
            None => Answered::Later(Box::pin(async move { respond(call.await) })),
        }
    }
}

fn respond<O: Serialize>(reply: Result<O, crate::CallError>) -> Response<Body> {
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

/// 400 for what is not JSON, 422 for JSON of the wrong shape.
fn bad_json(body: &[u8], error: &serde_json::Error) -> Response<Body> {
    if body.is_empty() {
        return reply::problem(StatusCode::BAD_REQUEST, "the request has no body, expected JSON");
    }
    match error.classify() {
        serde_json::error::Category::Data => {
            reply::problem(StatusCode::UNPROCESSABLE_ENTITY, &format!("the JSON does not fit: {error}"))
        }
        _ => reply::problem(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {error}")),
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
