//! What each path answers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, SERVER, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use super::scrape::scrape;
use crate::metrics;
use crate::runtime::RuntimeHandle;

/// What the server calls itself; how a client knows it.
pub(super) const SERVED_BY: &str = concat!("air-core/", env!("CARGO_PKG_VERSION"));
/// Clients that may follow the events at once.
const MAX_FOLLOWERS: usize = 8;
/// How often a follower is told that nothing happened, so that one that has gone is noticed.
const QUIET: Duration = Duration::from_secs(15);

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Held for as long as a connection follows the events.
pub(super) type Follows = Arc<()>;

pub(super) struct Front {
    runtime: RuntimeHandle,
    token: Option<String>,
    followers: Follows,
}

impl Front {
    pub(super) fn new(runtime: RuntimeHandle, token: Option<String>) -> Self {
        Self { runtime, token, followers: Follows::default() }
    }

    /// Answers a request; `follows` is kept by an answer that goes on for as long as the client likes.
    pub(super) fn answer<B>(&self, request: &Request<B>, follows: &Follows) -> Response<Body> {
        let mut response = self.route(request, follows);
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static(SERVED_BY));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn route<B>(&self, request: &Request<B>, follows: &Follows) -> Response<Body> {
        if !self.may(request.headers()) {
            let mut refusal =
                text(StatusCode::UNAUTHORIZED, "send the token as `authorization: Bearer TOKEN`\n");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refusal;
        }
        if self.token.is_none() && !is_local(request.headers()) {
            return text(StatusCode::FORBIDDEN, "this endpoint answers to the names of this machine only\n");
        }
        if request.method() != Method::GET {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read with GET\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        match request.uri().path() {
            "/state" => match serde_json::to_vec(&self.runtime.state()) {
                Ok(json) => page("application/json", json),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            "/metrics" => page(metrics::TEXT, scrape(&self.runtime)),
            "/timeline" => page("application/json", self.runtime.timeline().chrome_trace()),
            "/events" => self.events(request.headers(), follows),
            _ => text(StatusCode::NOT_FOUND, "there are /state, /metrics, /timeline and /events\n"),
        }
    }

    fn may(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|given| same(given, token.as_bytes()))
    }

    /// The events kept, from the one after `last-event-id` if that is given, and then each as it happens.
    fn events(&self, headers: &HeaderMap, follows: &Follows) -> Response<Body> {
        if Arc::strong_count(&self.followers) > MAX_FOLLOWERS {
            return text(StatusCode::SERVICE_UNAVAILABLE, "as many clients follow the events as may\n");
        }
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
        let follower = Follower {
            runtime: self.runtime.clone(),
            news: self.runtime.events().count(),
            next: last.map_or(0, |last| last.saturating_add(1)),
            _held: [Arc::clone(&self.followers), Arc::clone(follows)],
        };
        let lines = stream::unfold(follower, |mut follower| async {
            let lines = follower.next_lines().await?;
            Some((Ok(Frame::data(Bytes::from(lines))), follower))
        });
        respond(StatusCode::OK, "text/event-stream", BodyExt::boxed_unsync(StreamBody::new(lines)))
    }
}

/// A client that follows the events. It pulls, so a slow one misses some and holds up nobody.
struct Follower {
    runtime: RuntimeHandle,
    news: watch::Receiver<u64>,
    next: u64,
    _held: [Follows; 2],
}

impl Follower {
    async fn next_lines(&mut self) -> Option<String> {
        loop {
            let events = self.runtime.events().since(self.next);
            let Some(last) = events.last() else {
                match tokio::time::timeout(QUIET, self.news.changed()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(": nothing new\n\n".into()),
                }
            };
            self.next = last.number + 1;
            let line = |event: &super::Event| {
                let json = serde_json::to_string(event).ok()?;
                Some(format!("id: {}\nevent: {}\ndata: {json}\n\n", event.number, event.kind.name()))
            };
            return Some(events.iter().filter_map(line).collect());
        }
    }
}

/// Whether the client meant this machine: a page on the web can make a browser resolve its own name to 127.0.0.1, but not change this.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or("");
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that depends on the secret's length only.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let differ = |(at, byte): (usize, &u8)| byte ^ given.get(at).copied().unwrap_or(!byte);
    let difference =
        secret.iter().enumerate().map(differ).fold(0, |all, one| std::hint::black_box(all | one));
    difference == 0 && given.len() == secret.len()
}

fn page(kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    respond(StatusCode::OK, kind, Full::new(body.into()).boxed_unsync())
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    respond(
        status,
        "text/plain; charset=utf-8",
        Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed_unsync(),
    )
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole() {
        assert!(same(b"secret", b"secret"));
        for given in ["", "s", "secre", "secrets", "Secret", "secret\0"] {
            assert!(!same(given.as_bytes(), b"secret"), "{given:?}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        let local = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            is_local(&headers)
        };
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
