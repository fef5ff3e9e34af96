//! One request: predictions by the route table, everything else by the server's own pages.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, LengthLimitError, Limited};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::config::HttpConfig;
use super::reply::{self, Body};
use super::request_id::{X_REQUEST_ID, take_or_make};
use super::route::{Answered, Route, RouteTable};
use crate::metrics::RouteMetrics;

/// The body of any response: ours is whole, axum's may be anything.
pub(crate) type AnyBody = Either<Body, axum::body::Body>;

/// What every HTTP thread shares.
pub(crate) struct Front {
    pub config: HttpConfig,
    pub table: Arc<ArcSwap<RouteTable>>,
    /// The server's own pages.
    pub own: Router,
    /// Counts what no route answered.
    pub other: RouteMetrics,
}

impl Front {
    /// Answers a request. It never fails: whatever goes wrong is a response.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, Infallible> {
        let start = Instant::now();
        let id = take_or_make(request.headers());
        let route = self.table.load().routes.get(request.uri().path()).cloned();
        let (mut response, metrics) = if let Some(route) = &route {
            (self.predict(route, request).await.map(Either::Left), &route.metrics)
        } else {
            let own = self.own.clone().oneshot(request.map(axum::body::Body::new));
            let Ok(response) = own.await;
            (response.map(Either::Right), &self.other)
        };
        let status = response.status().as_u16();
        metrics.answered(status, start.elapsed());
        if status == 500 {
            // Refusals (503) and time-outs (504) are counted only: under overload a line for each would add to it.
            tracing::warn!(request_id = ?id, "a request failed");
        }
        response.headers_mut().insert(X_REQUEST_ID, id);
        Ok(response)
    }

    async fn predict(&self, route: &Arc<Route>, request: Request<Incoming>) -> Response<Body> {
        // Some clients of model servers send a body with GET; a prediction changes nothing, so both mean the same.
        if request.method() != Method::GET && request.method() != Method::POST {
            return reply::not_allowed("GET, POST");
        }
        if let Some(kind) = foreign_type(request.headers()) {
            return reply::problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &format!("the content type is {kind}, expected application/json"),
            );
        }
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        match route.endpoint.answer(&body) {
            Answered::Now(response) => response,
            Answered::Later(response) => response.await,
        }
    }

    /// Reads the whole body, within the limits of size and time.
    async fn body(&self, request: Request<Incoming>) -> Result<Bytes, Response<Body>> {
        let limit = self.config.max_body_bytes;
        let too_large = || {
            reply::problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body is larger than the limit of {limit} bytes"),
            )
        };
        let length = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut collected = pin!(Limited::new(request.into_body(), limit).collect());
        // Most bodies arrive with their head; only the others need a timer.
        let collected = if let Poll::Ready(collected) = futures::poll!(&mut collected) {
            collected
        } else {
            let limit = self.config.body_timeout();
            tokio::time::timeout(limit, collected).await.map_err(|_| {
                let late = format!("the body did not arrive within {limit:?}");
                reply::problem(StatusCode::REQUEST_TIMEOUT, &late)
            })?
        };
        match collected {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => {
                Err(reply::problem(StatusCode::BAD_REQUEST, &format!("the body could not be read: {error}")))
            }
        }
    }
}

/// The content type, if it says that the body is surely not JSON. Command-line clients send JSON as a form or as plain text.
fn foreign_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase();
    let welcome = [
        "application/json",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "",
    ];
    let json = welcome.contains(&essence.as_str()) || essence.ends_with("+json");
    (!json).then_some(kind)
}
