//! One request: predictions by the route table, everything else by the server's own pages.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Either};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::config::HttpConfig;
use super::counted::counted;
use super::policy::Policy;
use super::reply::{self, Body};
use super::request_id::{X_REQUEST_ID, take_or_make};
use super::route::{Answered, Asked, Route, RouteTable};
use super::socket;
use super::threads::Held;
use super::tls::Tls;
use super::traces::Trace;
use crate::deploy::context::{OnBehalf, with_request};
use crate::llm::{self, Models};
use crate::metrics::RouteMetrics;
use crate::v2::{self, V2, grpc};

/// The body of any response: ours is whole, axum's may be anything.
pub(crate) type AnyBody = Either<Body, axum::body::Body>;

/// What every HTTP thread shares.
pub(crate) struct Front {
    pub config: HttpConfig,
    pub policy: Option<Policy>,
    pub tls: Option<Arc<Tls>>,
    pub table: Arc<ArcSwap<RouteTable>>,
    /// The Open Inference Protocol, under `/v2`.
    pub v2: V2,
    /// OpenAI's API, under `/v1`, if there are models for it.
    pub llms: Arc<Models>,
    pub llm: Arc<RouteMetrics>,
    /// The server's own pages.
    pub own: Router,
    /// Counts what no route answered.
    pub other: RouteMetrics,
}

impl Front {
    /// Answers a request. It never fails: whatever goes wrong is a response.
    pub(crate) async fn serve(
        &self,
        request: Request<Incoming>,
        held: Option<&Arc<Held>>,
    ) -> Result<Response<AnyBody>, Infallible> {
        let start = Instant::now();
        let mut id = take_or_make(request.headers());
        let route = self.table.load().routes.get(request.uri().path()).cloned();
        let is_openai = route.is_none() && llm::owns(request.uri().path()) && !self.llms.is_empty();
        let admit = |policy: &Policy| policy.admit(&request, is_openai);
        let (mut seen, refusal) = self.policy.as_ref().map(admit).unwrap_or_default();
        let (mut response, status, metrics) = if let Some((refusal, status)) = refusal {
            (refusal, status, Some(&self.other))
        } else if let Some(route) = &route {
            let response = self.predict(route, request, held, &mut id, seen.trace.take()).await;
            let status = response.status().as_u16();
            (response, status, Some(&route.metrics))
        } else {
            let on_behalf =
                OnBehalf::of_request(id.clone(), seen.trace.take(), self.beside(request, is_openai, start));
            on_behalf.await
        };
        let took = start.elapsed();
        if let Some(metrics) = metrics {
            metrics.answered(status, took);
        }
        if status == 500 {
            // Refusals (503) and time-outs (504) are counted only: under overload a line for each would add to it.
            tracing::warn!(request_id = ?id, "a request failed");
        }
        if let Some(policy) = &self.policy {
            let deployment = route.as_ref().map(|route| route.deployment.as_str());
            // In a box, here and below, so that the future of every other request is not larger for it.
            response = Box::pin(policy.finish(seen, response, deployment, status, &id, took)).await;
        }
        response.headers_mut().insert(X_REQUEST_ID, id);
        Ok(response)
    }

    /// Answers what no route is for, with the status that is counted, unless that is done when the answer has ended. In a box, so that what is rare
    /// does not make the future of every prediction larger.
    fn beside(
        &self,
        request: Request<Incoming>,
        is_openai: bool,
        start: Instant,
    ) -> BoxFuture<'_, (Response<AnyBody>, u16, Option<&RouteMetrics>)> {
        Box::pin(async move {
            if grpc::is_call(&request) {
                let response = self.grpc(request).await;
                let status = grpc::status_of(&response);
                return (response.map(Either::Right), status, Some(&self.v2.grpc));
            }
            if is_openai {
                let response = self.llm(request).await;
                let status = response.status().as_u16();
                return match response.into_parts() {
                    (head, Either::Right(body)) => {
                        let body = counted(body, &self.llm, status, start);
                        (Response::from_parts(head, Either::Right(body)), status, None)
                    }
                    (head, body) => (Response::from_parts(head, body), status, Some(&*self.llm)),
                };
            }
            let (response, metrics) = if v2::owns(request.uri().path()) {
                (self.v2(request).await.map(Either::Left), &self.v2.rest)
            } else {
                let Ok(response) = self.own.clone().oneshot(request.map(axum::body::Body::new)).await;
                (response.map(Either::Right), &self.other)
            };
            let status = response.status().as_u16();
            (response, status, Some(metrics))
        })
    }

    async fn predict(
        &self,
        route: &Arc<Route>,
        request: Request<Incoming>,
        held: Option<&Arc<Held>>,
        id: &mut HeaderValue,
        trace: Option<Trace>,
    ) -> Response<AnyBody> {
        if socket::is_asked(&request) {
            return socket::begin(self, route, request, held).map(Either::Left);
        }
        // Some clients of model servers send a body with GET; a prediction changes nothing, so both mean the same.
        if request.method() != Method::GET && request.method() != Method::POST {
            return reply::not_allowed("GET, POST").map(Either::Left);
        }
        if let Some(kind) = foreign_type(request.headers()) {
            return reply::problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &format!("the content type is {kind}, expected application/json"),
            )
            .map(Either::Left);
        }
        let (head, body) = request.into_parts();
        let body = match self.body(&head.headers, body).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into_response().map(Either::Left),
        };
        let asked = Asked { headers: &head.headers, keep_alive: self.config.stream_keep_alive() };
        match with_request(id, trace, || route.endpoint.answer(&asked, &body)) {
            Answered::Now(response) => response.map(Either::Left),
            Answered::Later(response) => response.await.map(Either::Left),
            Answered::Stream(response) => response.await,
        }
    }

    async fn v2(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        match self.body(&head.headers, body).await {
            Ok(body) => {
                if self.policy.as_ref().is_some_and(|policy| policy.unpacks(&head.headers)) {
                    head.headers.remove(CONTENT_ENCODING);
                }
                self.v2.answer(head, body).await
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn llm(&self, request: Request<Incoming>) -> Response<AnyBody> {
        let (head, body) = request.into_parts();
        match self.body(&head.headers, body).await {
            Ok(body) => llm::answer(&self.llms, head, body).await,
            Err(refusal) => llm::refused(refusal).map(Either::Left),
        }
    }

    async fn grpc(&self, request: Request<Incoming>) -> Response<axum::body::Body> {
        if grpc::is_reflection(&request) {
            return self.v2.reflection(request).await;
        }
        if grpc::is_stream(&request) {
            return self.v2.stream_infer(request, self.config.max_body_bytes).await;
        }
        let (head, body) = request.into_parts();
        let body = self.body(&head.headers, body).await;
        self.v2.call(head, body).await
    }

    /// Reads the whole body, within the limits of size and time.
    async fn body(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let limit = self.config.max_body_bytes;
        if announced(headers).is_some_and(|length| length > limit as u64) {
            return Err(Refusal::too_large(limit));
        }
        let mut gathered = pin!(gather(body, limit));
        // Most bodies arrive with their head; only the others need a timer.
        let body = if let Poll::Ready(gathered) = futures::poll!(&mut gathered) {
            gathered?
        } else {
            let patience = self.config.body_timeout();
            tokio::time::timeout(patience, gathered).await.unwrap_or_else(|_| {
                let message = format!("the body did not arrive within {patience:?}");
                Err(Refusal { status: StatusCode::REQUEST_TIMEOUT, message })
            })?
        };
        match &self.policy {
            Some(policy) => Box::pin(policy.unpack(headers, body, limit)).await,
            None => Ok(body),
        }
    }
}

/// Collects a body. One that came in one piece is not copied; any other grows as it arrives, whatever length its head claims.
async fn gather(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let unread = |error| Refusal {
            status: StatusCode::BAD_REQUEST,
            message: format!("the body could not be read: {error}"),
        };
        // Trailers are nothing to a prediction.
        let Ok(data) = frame.map_err(unread)?.into_data() else { continue };
        if data.len() > limit - whole.len() - first.len() {
            return Err(Refusal::too_large(limit));
        }
        if whole.is_empty() && first.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

/// The length that a request says its body has.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Why a body was not read.
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than the limit of {limit} bytes");
        Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, message }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        reply::problem(self.status, &self.message)
    }
}

/// The content type, if it says that the body is surely not JSON. Command-line clients send JSON as a form or as plain text.
pub(crate) fn foreign_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = kind.split(';').next().unwrap_or(kind).trim();
    let welcome = [
        "application/json",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "",
    ];
    let suffix = essence.len().checked_sub("+json".len()).and_then(|at| essence.get(at..));
    let json = welcome.iter().any(|kind| essence.eq_ignore_ascii_case(kind))
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"));
    (!json).then_some(kind)
}
