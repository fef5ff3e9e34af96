//! The server's own pages: health, routes, status, metrics. Ray's names, and those of the orchestrators.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;

use super::reply::{self, Body};
use super::route::RouteTable;
use crate::deploy::ServeStatus;
use crate::metrics::Metrics;

/// What the pages look at.
#[derive(Clone)]
pub(crate) struct Own {
    pub table: Arc<ArcSwap<RouteTable>>,
    pub metrics: Metrics,
    pub status: Arc<dyn Fn() -> ServeStatus + Send + Sync>,
    /// The OpenAPI document of what is served now.
    pub openapi: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Why the server should get no traffic now, if so.
    pub unready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

pub(crate) fn router(own: Own) -> Router {
    Router::new()
        .route("/-/healthz", get(async || reply::text("success").map(axum::body::Body::new)))
        .route("/health/live", get(async || reply::text("live").map(axum::body::Body::new)))
        .route("/health/ready", get(ready))
        .route("/-/routes", get(routes))
        .route("/-/status", get(status))
        .route("/-/", get(look))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .method_not_allowed_fallback(async || reply::not_allowed("GET").map(axum::body::Body::new))
        .fallback(unknown)
        .with_state(own)
}

type Page = Response<axum::body::Body>;

fn page(response: Response<Body>) -> Page {
    response.map(axum::body::Body::new)
}

async fn ready(State(own): State<Own>) -> Page {
    page(match (own.unready)() {
        None => reply::text("ready"),
        Some(reason) => reply::problem(StatusCode::SERVICE_UNAVAILABLE, &reason),
    })
}

async fn routes(State(own): State<Own>) -> Page {
    let table = own.table.load();
    let routes: BTreeMap<_, _> = table.routes.iter().map(|(path, route)| (path, &route.deployment)).collect();
    json(&routes)
}

async fn openapi(State(own): State<Own>) -> Page {
    json(&(own.openapi)())
}

/// The page that shows them to people. It has nothing in it but what it asks for itself, with a key if one is needed.
async fn look() -> Page {
    let mut response = reply::of_type("text/html; charset=utf-8", include_str!("status.html"));
    let only_this = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                     frame-ancestors 'none'; form-action 'none'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(only_this));
    page(response)
}

async fn status(State(own): State<Own>) -> Page {
    json(&(own.status)())
}

fn json(value: &impl Serialize) -> Page {
    page(match serde_json::to_vec(value) {
        Ok(body) => reply::json(body),
        Err(error) => reply::problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    })
}

async fn metrics(State(own): State<Own>) -> Page {
    page(reply::of_type(air_core::metrics::TEXT, own.metrics.render()))
}

async fn unknown(uri: Uri) -> Page {
    let path: String = uri.path().chars().take(128).collect();
    page(reply::problem(StatusCode::NOT_FOUND, &format!("no route {path}; GET /-/routes lists them")))
}
