//! WebSockets (RFC 6455) on routes: each text message is a request, whose items come back as messages, and then one that says that it has ended.
//!
//! ```text
//! → {"prompt": "hello"}
//! ← {"item": "Hi"}   ← {"item": " there"}   ← {"end": true}
//! → nonsense
//! ← {"error": "the body is not JSON: …", "status": 400}
//! ```
//!
//! Requests are answered one after the other; a few may wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use sha1::{Digest as _, Sha1};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::front::{Front, Refusal};
use super::reply::{self, Body};
use super::route::{Opening, Route, Texts};
use super::threads::{Held, draining};
use crate::error::CallError;

/// Requests that may wait for the answer to the one before; a client that sends more is sent away.
const WAITING: usize = 16;

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let upgrade = request.headers().get(UPGRADE).map(HeaderValue::as_bytes);
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"))
}

/// Begins a conversation, if it is asked for as it should be.
pub(super) fn begin(
    front: &Front,
    route: &Arc<Route>,
    request: Request<Incoming>,
    held: Option<&Arc<Held>>,
) -> Response<Body> {
    let refuse = |status, message: &str| reply::problem(status, message);
    // There is none over HTTP/2, where upgrades do not exist.
    let Some(held) = held else {
        return refuse(StatusCode::BAD_REQUEST, "WebSockets need HTTP/1.1");
    };
    if request.method() != Method::GET || !route.endpoint.converses() {
        let message = "a WebSocket is opened by GET, on a route whose answers are JSON";
        return refuse(StatusCode::BAD_REQUEST, message);
    }
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, "the WebSocket version is not 13");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "the request has no sec-websocket-key");
    };
    // A page may open a WebSocket to any server and read what it says: browsers leave it to the server whose pages these may be.
    if let Some(origin) = headers.get(ORIGIN)
        && !is_own(origin, headers)
        && !front.policy.as_ref().is_some_and(|policy| policy.allows_origin(origin))
    {
        return refuse(
            StatusCode::FORBIDDEN,
            "this origin may not call this server: cors.allow_origins says which may",
        );
    }
    let Ok(accept) = HeaderValue::try_from(accept(key.as_bytes())) else {
        return refuse(StatusCode::BAD_REQUEST, "the sec-websocket-key is none");
    };
    let conversation = Conversation {
        path: request.uri().path().to_owned(),
        headers: request.headers().clone(),
        front: Arc::clone(&held.front),
        route: Arc::clone(route),
        held: Arc::clone(held),
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => conversation.run(upgraded).await,
            Err(error) => tracing::debug!(%error, "a client did not go on with its WebSocket"),
        }
    });
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// What shows the client that this is no server that repeats whatever it is sent (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> String {
    STANDARD
        .encode(Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize())
}

/// Whether a page is one of this server's.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some() && authority == host
}

/// One connection.
struct Conversation {
    front: Arc<Front>,
    route: Arc<Route>,
    path: String,
    headers: HeaderMap,
    held: Arc<Held>,
}

/// The answer under way.
struct Current {
    since: Instant,
    /// Nothing of it has been sent yet.
    fresh: bool,
    state: State,
}

enum State {
    Opening(Opening),
    Open(Box<dyn Texts>),
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    status: u16,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why it is over.
enum Over {
    /// We say so, and why.
    Close(CloseCode, &'static str),
    /// The client has gone, or speaks nonsense.
    Gone,
}

impl Conversation {
    async fn run(self, upgraded: Upgraded) {
        let limit = self.front.config.max_body_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        if let Over::Close(code, reason) = self.talk(&mut socket).await {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let limit = self.front.config.header_timeout();
            // The client is to answer that, and no longer waited for than it may take for anything.
            let _ = tokio::time::timeout(limit, async {
                let _ = socket.close(Some(frame)).await;
                while let Some(Ok(_)) = socket.next().await {}
            })
            .await;
        }
    }

    /// Answers requests until the client goes, or the server ends.
    async fn talk(&self, socket: &mut Socket) -> Over {
        let mut phase = self.held.phase.clone();
        let mut waiting: VecDeque<Utf8Bytes> = VecDeque::new();
        let mut current: Option<Current> = None;
        let (mut ends, mut heard) = (false, true);
        let period = self.front.config.header_timeout();
        let mut pulse = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        loop {
            if current.is_none() {
                if let Some(message) = waiting.pop_front() {
                    match self.ask(&message) {
                        Ok(begun) => current = Some(begun),
                        Err(refusal) => {
                            self.route.metrics.answered(refusal.status.as_u16(), std::time::Duration::ZERO);
                            if say(socket, &failure(refusal.status.as_u16(), &refusal.message)).await.is_err()
                            {
                                return Over::Gone;
                            }
                        }
                    }
                    continue;
                }
                if ends {
                    return Over::Close(CloseCode::Away, "the server is ending");
                }
            }
            tokio::select! {
                message = socket.next() => {
                    heard = true;
                    match message {
                        Some(Ok(Message::Text(text))) if !ends => {
                            if waiting.len() == WAITING {
                                return Over::Close(CloseCode::Policy, "too many requests wait");
                            }
                            waiting.push_back(text);
                        }
                        Some(Ok(Message::Binary(_))) => {
                            return Over::Close(CloseCode::Unsupported, "requests are texts of JSON");
                        }
                        // Pings are answered, and closing is, by who reads.
                        Some(Ok(_)) => {}
                        Some(Err(Error::Capacity(_))) => {
                            return Over::Close(CloseCode::Size, "the message is larger than max_body_bytes");
                        }
                        Some(Err(Error::Utf8(_))) => return Over::Close(CloseCode::Invalid, "the text is not UTF-8"),
                        Some(Err(Error::Protocol(_))) => return Over::Close(CloseCode::Protocol, "not as RFC 6455 has it"),
                        Some(Err(_)) | None => return Over::Gone,
                    }
                }
                (texts, end) = next(&mut current) => {
                    if self.pass_on(socket, &mut current, texts, end).await.is_err() {
                        return Over::Gone;
                    }
                }
                () = draining(&mut phase), if !ends => ends = true,
                _ = pulse.tick() => {
                    if !std::mem::replace(&mut heard, false) {
                        return Over::Gone;
                    }
                    if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return Over::Gone;
                    }
                }
            }
        }
    }

    /// Begins to answer a message; a key may be used no more often here than elsewhere.
    fn ask(&self, message: &str) -> Result<Current, Refusal> {
        if let Some(policy) = &self.front.policy {
            policy.admit_again(&self.path, &self.headers)?;
        }
        let opening = self.route.endpoint.ask(message.as_bytes())?;
        Ok(Current { since: Instant::now(), fresh: true, state: State::Opening(opening) })
    }

    async fn pass_on(
        &self,
        socket: &mut Socket,
        current: &mut Option<Current>,
        texts: Vec<Vec<u8>>,
        end: Option<Result<(), CallError>>,
    ) -> Result<(), Error> {
        if let Some(current) = current.as_mut().filter(|current| current.fresh) {
            current.fresh = false;
            let status = match &end {
                Some(Err(error)) if texts.is_empty() => error.status(),
                _ => 200,
            };
            self.route.metrics.answered(status, current.since.elapsed());
        }
        for text in texts {
            socket.feed(text_of(text)).await?;
        }
        if let Some(end) = end {
            *current = None;
            let last = match end {
                Ok(()) => b"{\"end\":true}".to_vec(),
                Err(error) => failure(error.status(), &error.to_string()),
            };
            socket.feed(text_of(last)).await?;
        }
        socket.flush().await
    }
}

async fn say(socket: &mut Socket, text: &[u8]) -> Result<(), Error> {
    socket.send(text_of(text.to_vec())).await
}

/// What is JSON is UTF-8.
fn text_of(text: Vec<u8>) -> Message {
    Message::text(String::from_utf8(text).unwrap_or_default())
}

fn failure(status: u16, error: &str) -> Vec<u8> {
    serde_json::to_vec(&Failure { error, status }).unwrap_or_default()
}

/// What comes next of the answer under way; never anything without one.
async fn next(current: &mut Option<Current>) -> (Vec<Vec<u8>>, Option<Result<(), CallError>>) {
    std::future::poll_fn(|cx| {
        let Some(Current { state, .. }) = current else { return Poll::Pending };
        loop {
            match state {
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(texts)) => *state = State::Open(texts),
                    Poll::Ready(Err(error)) => return Poll::Ready((Vec::new(), Some(Err(error)))),
                    Poll::Pending => return Poll::Pending,
                },
                State::Open(answer) => {
                    let mut texts = Vec::new();
                    return answer.poll(cx, &mut texts).map(|end| (texts, end));
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_page_of_this_server_is_told_from_others() {
        let host = HeaderMap::from_iter([(HOST, HeaderValue::from_static("models.example:8000"))]);
        let own = |origin: &'static str| is_own(&HeaderValue::from_static(origin), &host);
        assert!(own("http://models.example:8000") && own("https://models.example:8000"));
        assert!(!own("http://models.example") && !own("null") && !own("http://evil.example"));
        assert!(!is_own(&HeaderValue::from_static("null"), &HeaderMap::new()));
    }
}
