//! The protocol over HTTP with JSON: paths, bodies, status codes.

use axum::http::header::{CONTENT_ENCODING, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::V2;
use super::catalog::Served;
use super::fault::{Fault, Kind};
use super::infer::{self, Inference};
use super::signature::{Signature, TensorSpec};
use crate::deploy::context::Terms;
use crate::http::{Body, foreign_type, reply, terms};

/// How many bytes at the front of a body are JSON.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A request of the protocol.
#[derive(Debug, PartialEq, Eq)]
enum Ask<'a> {
    Server,
    Live,
    Ready,
    Models,
    Model(&'a str, Option<&'a str>),
    ModelReady(&'a str, Option<&'a str>),
    Infer(&'a str, Option<&'a str>),
    Index,
    Load(&'a str),
    Unload(&'a str),
}

impl<'a> Ask<'a> {
    fn parse(path: &[&'a str]) -> Option<Ask<'a>> {
        Some(match *path {
            [] => Ask::Server,
            ["health", "live"] => Ask::Live,
            ["health", "ready"] => Ask::Ready,
            ["models"] => Ask::Models,
            ["repository", "index"] => Ask::Index,
            ["repository", "models", model, "load"] => Ask::Load(model),
            ["repository", "models", model, "unload"] => Ask::Unload(model),
            ["models", model, ref rest @ ..] => {
                let (version, rest) = match *rest {
                    ["versions", version, ref rest @ ..] => (Some(version), rest),
                    _ => (None, rest),
                };
                match *rest {
                    [] => Ask::Model(model, version),
                    ["ready"] => Ask::ModelReady(model, version),
                    ["infer"] => Ask::Infer(model, version),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn method(&self) -> Method {
        match self {
            Ask::Infer(..) | Ask::Index | Ask::Load(_) | Ask::Unload(_) => Method::POST,
            _ => Method::GET,
        }
    }
}

/// Whether a path is one of the protocol's.
pub(crate) fn owns(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl V2 {
    /// Answers a request whose path [`owns`] accepts.
    pub(crate) fn answer(&self, head: Parts, body: Bytes) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let path = head.uri.path();
            let path = path.strip_prefix("/v2").unwrap_or(path).trim_matches('/');
            let parts: Vec<_> =
                path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
            let mut parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
            if path.is_empty() {
                parts.clear();
            }
            let Some(ask) = Ask::parse(&parts) else {
                return reply::problem(StatusCode::NOT_FOUND, "no such path in /v2");
            };
            let allowed = ask.method();
            if head.method != allowed && !(allowed == Method::GET && head.method == Method::HEAD) {
                return not_allowed(&allowed);
            }
            self.page(ask, &head.headers, body).await.unwrap_or_else(|fault| refused(&fault))
        })
    }

    async fn page(&self, ask: Ask<'_>, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, Fault> {
        Ok(match ask {
            Ask::Server => ok(&json!({
                "name": "air-serve", "version": env!("CARGO_PKG_VERSION"), "extensions": self.extensions(),
            })),
            Ask::Live => ok(&json!({ "live": true })),
            Ask::Ready => match (self.unready)() {
                None => ok(&json!({ "ready": true })),
                Some(reason) => return Err(Fault::unavailable(reason)),
            },
            Ask::Models => ok(&json!({ "models": self.catalog.names() })),
            Ask::Model(name, version) => {
                let served = self.catalog.find(name, version)?;
                ok(&Metadata::of(&served, served.signed().signature()))
            }
            Ask::ModelReady(name, version) => {
                let served = self.ready(name, version)?;
                ok(&json!({ "name": served.name, "ready": true }))
            }
            Ask::Infer(name, version) => {
                let served = self.catalog.find(name, version)?;
                let request = read(headers, &body)?.or(asked(headers)?);
                self.infer(&served, request).await?
            }
            Ask::Index => {
                let only_ready = IndexRequest::read(&body)?.ready;
                let mut index = self.repository()?.index()?;
                index.retain(|model| !only_ready || model.state == "READY");
                ok(&index)
            }
            Ask::Load(name) => {
                self.repository()?.load(name).await?;
                ok(&json!({}))
            }
            Ask::Unload(name) => {
                self.repository()?.unload(name).await?;
                ok(&json!({}))
            }
        })
    }

    async fn infer(&self, served: &Served, request: Inference) -> Result<Response<Body>, Fault> {
        let outputs = served.infer(&request).await?;
        let (body, header) = infer::write((&served.name, &served.version), &request, &outputs)?;
        Ok(match header {
            None => reply::json(body),
            Some(length) => {
                let mut response = reply::of_type("application/octet-stream", body);
                response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
                response
            }
        })
    }
}

/// What headers ask for beside the answer, as on any route.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Terms>, Fault> {
    terms(headers).map_err(|refusal| Fault::malformed(refusal.message))
}

/// Reads an inference, as its headers say that it is written.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Inference, Fault> {
    let unsupported = |what: String| Fault::new(Kind::Unsupported, what);
    if let Some(kind) = foreign_type(headers) {
        let expected = "expected application/json or application/octet-stream";
        return Err(unsupported(format!("the content type is {kind}, {expected}")));
    }
    if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(unsupported(format!("the body is encoded as {coding:?}, send it as it is")));
    }
    let header = headers.get(&HEADER_LENGTH).map(|length| {
        let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        length.ok_or_else(|| Fault::malformed("Inference-Header-Content-Length is not a number of bytes"))
    });
    Inference::read(body, header.transpose()?)
}

/// The body of a request for the index; it may be empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

impl IndexRequest {
    fn read(body: &Bytes) -> Result<IndexRequest, Fault> {
        if body.is_empty() {
            return Ok(IndexRequest::default());
        }
        serde_json::from_slice(body)
            .map_err(|error| Fault::malformed(format!("the body is no index request: {error}")))
    }
}

/// What a model takes and gives.
#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'a str,
    inputs: &'a [TensorSpec],
    outputs: &'a [TensorSpec],
}

impl<'a> Metadata<'a> {
    fn of(served: &'a Served, signature: &'a Signature) -> Self {
        Metadata {
            name: &served.name,
            versions: [&served.version],
            platform: signature.platform,
            inputs: signature.inputs(),
            outputs: signature.outputs(),
        }
    }
}

fn ok(body: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(body) {
        Ok(body) => reply::json(body),
        Err(error) => reply::problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn not_allowed(method: &Method) -> Response<Body> {
    reply::not_allowed(if *method == Method::POST { "POST" } else { "GET" })
}

fn refused(fault: &Fault) -> Response<Body> {
    let mut response = reply::problem(fault.kind.status(), &fault.message);
    if let Some(time) = fault.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, ask) in [
            (&[][..], Some(Ask::Server)),
            (&["health", "live"], Some(Ask::Live)),
            (&["models"], Some(Ask::Models)),
            (&["models", "a"], Some(Ask::Model("a", None))),
            (&["models", "a", "ready"], Some(Ask::ModelReady("a", None))),
            (&["models", "a", "versions", "1"], Some(Ask::Model("a", Some("1")))),
            (&["models", "a", "versions", "1", "infer"], Some(Ask::Infer("a", Some("1")))),
            (
                &["models", "versions", "versions", "ready", "ready"],
                Some(Ask::ModelReady("versions", Some("ready"))),
            ),
            (&["models", "a", "versions"], None),
            (&["models", "a", "infer", "b"], None),
            (&["nothing"], None),
        ] {
            assert_eq!(Ask::parse(path), ask, "{path:?}");
        }
        assert!(owns("/v2") && owns("/v2/") && owns("/v2/models"));
        assert!(!owns("/v2x") && !owns("/v") && !owns("/v1/v2"));
    }
}
