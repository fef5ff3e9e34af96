//! `/api/serve/applications/`: what is served, looked at and changed while the server runs, as over Ray Serve's REST.
//!
//! It needs a key of the scope `admin`; where no keys are configured, it answers to programs of this machine only.

mod details;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::get;
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::config::{Place, Plan, Registry, ServeConfig, without_nulls};
use crate::deployments::Deployments;
use crate::http::{HttpConfig, reply};

/// No configuration is larger.
const MAX_BYTES: usize = 1 << 20;
/// No configuration takes longer to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can be changed over HTTP, and where from.
#[derive(Clone, Default)]
pub(crate) struct Source {
    pub registry: Arc<Registry>,
    /// The configuration that is served, as it was given.
    pub config: Value,
    /// Its applications.
    pub places: Vec<Place>,
}

/// The API of a server.
pub(crate) struct Admin {
    deployments: Arc<Deployments>,
    http: HttpConfig,
    source: Mutex<Source>,
    stop: Arc<Notify>,
}

impl Admin {
    /// `stop` is told when the server is to end.
    pub(crate) fn new(
        deployments: Arc<Deployments>,
        http: HttpConfig,
        source: Source,
        stop: Arc<Notify>,
    ) -> Self {
        Admin { deployments, http, source: Mutex::new(source), stop }
    }

    pub(crate) fn router(self) -> Router {
        let methods = || get(read).put(write).delete(end);
        let router = Router::new().route("/api/serve/applications/", methods());
        router.route("/api/serve/applications", methods()).with_state(Arc::new(self))
    }

    /// Why this request may not use the API, if so. One with a key has been let in before.
    fn refuses(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        if !self.http.auth.keys.is_empty() {
            return None;
        }
        let local = self.http.host.is_loopback() && is_local(headers);
        (!local).then(|| {
            let says = "without API keys only programs of this machine may use this; configure a key with the scope `admin`";
            problem(StatusCode::FORBIDDEN, says)
        })
    }

    /// Deploys a configuration; returns what it says in vain, or a status and the reason.
    fn deploy(&self, bytes: &[u8]) -> Result<Vec<String>, (StatusCode, String)> {
        let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
        let given: Value =
            serde_json::from_slice(bytes).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
        let config: ServeConfig =
            serde_json::from_value(without_nulls(given.clone())).map_err(|error| bad(error.to_string()))?;
        let registry = Arc::clone(&self.source.lock().registry);
        let mut plan = Plan::new(config, &registry).map_err(|error| bad(error.to_string()))?;
        let mut notes = std::mem::take(&mut plan.notes);
        if plan.http != self.http && plan.http != HttpConfig::default() {
            notes.push("http_options has no effect: how a server listens cannot change while it runs".into());
        }
        let places = plan.places();
        let app = plan.into_app();
        app.validate().map_err(|error| bad(error.to_string()))?;
        let deployed = self.deployments.deploy(app.parts);
        deployed.map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
        *self.source.lock() = Source { registry, config: given, places };
        Ok(notes)
    }
}

type Shared = State<Arc<Admin>>;

async fn read(State(admin): Shared, headers: HeaderMap) -> Response<Body> {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    let source = admin.source.lock().clone();
    answer(&details::details(&source, &admin.deployments.status(), &admin.http))
}

async fn write(State(admin): Shared, request: Request<Body>) -> Response<Body> {
    if let Some(refusal) = admin.refuses(request.headers()) {
        return refusal;
    }
    let body = Limited::new(request.into_body(), MAX_BYTES).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body could not be read: {error}"));
        }
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
    };
    // Models may take long to load. A client that does not wait for the end does not stop it.
    match tokio::task::spawn_blocking(move || admin.deploy(&body)).await {
        Ok(Ok(notes)) => answer(&json!({ "notes": notes })),
        Ok(Err((status, reason))) => problem(status, &reason),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn end(State(admin): Shared, headers: HeaderMap) -> Response<Body> {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    admin.stop.notify_one();
    answer(&json!({}))
}

fn answer(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => reply::json(body).map(Body::new),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, reason: &str) -> Response<Body> {
    reply::problem(status, reason).map(Body::new)
}

/// Whether a request names this machine: a page in a browser that has got a name of its own to point here does not.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let local =
            |host: &'static str| is_local(&HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]));
        for host in ["localhost", "localhost:80", "127.0.0.1:1", "127.9.9.9", "[::1]:8000", "[::1]"] {
            assert!(local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:127", "10.0.0.1", "localhost.evil.example", "[::2]:1"]
        {
            assert!(!local(host), "{host}");
        }
        assert!(is_local(&HeaderMap::new()));
    }
}
