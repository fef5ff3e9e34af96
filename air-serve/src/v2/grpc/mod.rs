//! The protocol over gRPC, with the standard services for health and reflection beside it.
//!
//! tonic frames messages and says what became of a call; the connection is the HTTP front's own, so that gRPC and HTTP share one port. A body is
//! read whole, within the front's limits, before a call starts.

mod codec;
mod convert;
mod messages;
mod stream;

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use prost::Message;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tower::{Service, service_fn};

use self::codec::Framed;
use self::messages::{
    Empty, HealthCheckRequest, HealthCheckResponse, ModelIndex, ModelInferRequest, ModelInferResponse,
    ModelMetadataResponse, ModelRequest, ReadyResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelRequest, ServerLiveResponse, ServerMetadataResponse, ServingStatus, TensorMetadata,
};
pub(crate) use self::stream::is_stream;
use super::V2;
use super::fault::{Fault, Kind};
use super::rest::asked;
use super::signature::{TensorSpec, as_protocol};
use crate::deploy::context::Terms;
use crate::http::{Phase, Refusal, reply};
use crate::scan;

const INFERENCE: &str = "inference.GRPCInferenceService";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// `inference.proto` and `health.proto`, compiled.
const DESCRIPTORS: &[u8] = include_bytes!("inference.bin");

/// Whether a request is a call of gRPC.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(axum::http::HeaderValue::as_bytes);
    request.method() == Method::POST && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// Whether it is one whose messages come one after the other.
pub(crate) fn is_reflection<B>(request: &Request<B>) -> bool {
    matches!(parts(request.uri().path()), Some((REFLECTION | REFLECTION_ALPHA, _)))
}

/// The HTTP status that means what a call ended with, for the metrics.
pub(crate) fn status_of<B>(response: &Response<B>) -> u16 {
    match response.headers().get("grpc-status").map(|status| Code::from_bytes(status.as_bytes())) {
        None | Some(Code::Ok) => response.status().as_u16(),
        Some(Code::InvalidArgument | Code::FailedPrecondition) => 400,
        Some(Code::NotFound) => 404,
        Some(Code::ResourceExhausted | Code::Unavailable) => 503,
        Some(Code::DeadlineExceeded) => 504,
        Some(Code::Unimplemented) => 501,
        Some(_) => 500,
    }
}

/// A call that can only be read: everything but reflection.
type Call = Request<Full<Bytes>>;

impl V2 {
    /// Answers a call of reflection, whose messages come one after the other.
    pub(crate) fn reflection(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        // A stream that its client leaves open must not hold up the end of the server.
        let mut phase = self.phase.clone();
        let draining = async move { phase.wait_for(|phase| *phase != Phase::Serving).await.map(|_| ()) };
        let request = request.map(|body| StreamBody::new(BodyStream::new(body).take_until(draining.boxed())));
        let services =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        match parts(request.uri().path()) {
            Some((REFLECTION, _)) => Box::pin(reflect(services.build_v1(), request)),
            _ => Box::pin(reflect(services.build_v1alpha(), request)),
        }
    }

    /// Answers a call of one message.
    pub(crate) fn call(&self, head: Parts, body: Result<Bytes, Refusal>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            if head.version != Version::HTTP_2 {
                return reply::problem(StatusCode::UPGRADE_REQUIRED, "gRPC needs HTTP/2").map(Body::new);
            }
            let body = match body {
                Ok(body) => body,
                Err(refusal) => return refused(&refusal),
            };
            let limit = match deadline(&head.headers) {
                Ok(limit) => limit,
                Err(status) => return status.into_http(),
            };
            let answer = self.dispatch(Request::from_parts(head, Full::new(body)), limit);
            let Some(limit) = limit else { return answer.await };
            match tokio::time::timeout(limit, answer).await {
                Ok(response) => response,
                Err(_) => Status::deadline_exceeded(format!("no answer within {limit:?}")).into_http(),
            }
        })
    }

    async fn dispatch(&self, call: Call, limit: Option<Duration>) -> Response<Body> {
        let path = call.uri().path().to_owned();
        match parts(&path) {
            Some((INFERENCE, method)) => self.inference(method, call, limit).await,
            Some((HEALTH, "Check")) => unary(call, |request| now(self.check(&request))).await,
            _ => unimplemented(),
        }
    }

    async fn inference(&self, method: &str, call: Call, limit: Option<Duration>) -> Response<Body> {
        match method {
            "ServerLive" => unary(call, |_: Empty| now(Ok(ServerLiveResponse { live: true }))).await,
            "ServerReady" => {
                unary(call, |_: Empty| now(Ok(ReadyResponse { ready: (self.unready)().is_none() }))).await
            }
            "ModelReady" => unary(call, |request| now(Ok(self.model_ready(&request)))).await,
            "ServerMetadata" => unary(call, |_: Empty| now(Ok(self.server_metadata()))).await,
            "ModelMetadata" => unary(call, |request| now(self.model_metadata(&request))).await,
            "ModelInfer" => {
                let asked = match asked(call.headers()) {
                    Ok(asked) => asked,
                    Err(fault) => return Status::from(fault).into_http(),
                };
                let infer = |request| self.model_infer(request, limit, asked.clone()).boxed();
                scanned(call, scan::Kind::InferRequest, infer).await
            }
            "RepositoryIndex" => unary(call, |request| now(self.repository_index(&request))).await,
            "RepositoryModelLoad" => unary(call, |request| self.load(request).boxed()).await,
            "RepositoryModelUnload" => unary(call, |request| self.unload(request).boxed()).await,
            _ => unimplemented(),
        }
    }

    fn check(&self, request: &HealthCheckRequest) -> Result<HealthCheckResponse, Fault> {
        let serving =
            |is_serving| if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        let status = match request.service.as_str() {
            "" | INFERENCE | HEALTH => serving((self.unready)().is_none()),
            model => serving(self.catalog.find(model, None)?.is_ready()),
        };
        Ok(HealthCheckResponse { status: status.into() })
    }

    fn model_ready(&self, request: &ModelRequest) -> ReadyResponse {
        // A model that is not there is not ready either; clients that wait for one ask for this.
        let found = self.catalog.find(&request.name, version(&request.version));
        ReadyResponse { ready: found.is_ok_and(|served| served.is_ready()) }
    }

    fn server_metadata(&self) -> ServerMetadataResponse {
        ServerMetadataResponse {
            name: "air-serve".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: self.extensions().into_iter().map(str::to_owned).collect(),
        }
    }

    fn model_metadata(&self, request: &ModelRequest) -> Result<ModelMetadataResponse, Fault> {
        let served = self.catalog.find(&request.name, version(&request.version))?;
        let tensors = |specs: &[TensorSpec]| specs.iter().map(metadata).collect();
        let signed = served.signed();
        let signature = signed.signature();
        Ok(ModelMetadataResponse {
            name: served.name.to_string(),
            versions: vec![served.version.clone()],
            platform: signature.platform.to_owned(),
            inputs: tensors(signature.inputs()),
            outputs: tensors(signature.outputs()),
        })
    }

    async fn model_infer(
        &self,
        request: ModelInferRequest,
        limit: Option<Duration>,
        asked: Option<Terms>,
    ) -> Result<ModelInferResponse, Fault> {
        let served = self.catalog.find(&request.model_name, version(&request.model_version))?;
        let (inference, form) = convert::read(request)?;
        let mut inference = inference.or(asked);
        // Known to the queue, so that what would be too late is refused at once.
        inference.timeout = inference.timeout.into_iter().chain(limit).min();
        let outputs = served.infer(&inference).await?;
        convert::write(&served, inference, form, outputs)
    }

    async fn load(&self, request: RepositoryModelRequest) -> Result<Empty, Fault> {
        self.repository()?.load(model_of(&request)).await?;
        Ok(Empty {})
    }

    async fn unload(&self, request: RepositoryModelRequest) -> Result<Empty, Fault> {
        self.repository()?.unload(model_of(&request)).await?;
        Ok(Empty {})
    }

    fn repository_index(&self, request: &RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Fault> {
        let index = self.repository()?.index()?.into_iter();
        let models = index.filter(|model| !request.ready || model.state == "READY").map(|model| ModelIndex {
            name: model.name,
            version: model.version,
            state: model.state.to_owned(),
            reason: model.reason,
        });
        Ok(RepositoryIndexResponse { models: models.collect() })
    }
}

type Answer<'a, B> = BoxFuture<'a, Result<B, Fault>>;

/// An answer that is there at once.
fn now<'a, B: Send + 'a>(answer: Result<B, Fault>) -> Answer<'a, B> {
    std::future::ready(answer).boxed()
}

/// Service and method of a path.
fn parts(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

/// A version, if one is asked for.
fn version(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

fn model_of(request: &RepositoryModelRequest) -> &str {
    if request.model_name.is_empty() { &request.repository_name } else { &request.model_name }
}

fn metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape.iter().map(|&dim| as_protocol(dim)).collect(),
    }
}

/// One message in, one out. What comes in has no other message in it.
async fn unary<'a, A, B>(call: Call, answer: impl Fn(A) -> Answer<'a, B> + Send + Sync) -> Response<Body>
where
    A: Message + Default,
    B: Message + 'static,
{
    scanned(call, scan::Kind::Plain, answer).await
}

/// One message in, which is looked through before it is decoded, and one out.
async fn scanned<'a, A, B>(
    call: Call,
    kind: scan::Kind,
    answer: impl Fn(A) -> Answer<'a, B> + Send + Sync,
) -> Response<Body>
where
    A: Message + Default,
    B: Message + 'static,
{
    // The body is here already, within the front's limit.
    let mut grpc = Grpc::new(Framed::new()).max_decoding_message_size(usize::MAX);
    let service = service_fn(|request: tonic::Request<Bytes>| {
        let message = request.into_inner();
        let scanned = scan::scan(kind, &message).map_err(|fault| fault.to_string());
        let decoded = scanned.and_then(|()| A::decode(message).map_err(|error| error.to_string()));
        let answered = match decoded {
            Ok(message) => answer(message),
            Err(reason) => now(Err(Fault::malformed(format!("the message cannot be decoded: {reason}")))),
        };
        answered.map(|answer| answer.map(tonic::Response::new).map_err(Status::from))
    });
    grpc.unary(service, call).await.map(Body::new)
}

async fn reflect<S, B, E>(service: Result<S, E>, request: Request<B>) -> Response<Body>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>, Error = std::convert::Infallible>
        + NamedService,
    E: std::fmt::Display,
{
    match service {
        Ok(mut service) => match service.call(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        },
        Err(error) => Status::internal(error.to_string()).into_http(),
    }
}

fn unimplemented() -> Response<Body> {
    Status::unimplemented("no such method: reflection lists them").into_http()
}

/// A call that was not let in, or whose body was not read, as gRPC says it.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    let code = match refusal.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::InvalidArgument,
    };
    Status::new(code, refusal.message.as_str()).into_http()
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match fault.kind {
            Kind::Malformed | Kind::Unfit | Kind::Unsupported => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::Refused => Code::FailedPrecondition,
            Kind::Busy => Code::ResourceExhausted,
            Kind::Unavailable => Code::Unavailable,
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Internal => Code::Internal,
        };
        Status::new(code, fault.message)
    }
}

/// How long the caller waits: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => Duration::from_hours(number),
            "M" => Duration::from_mins(number),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    match parsed() {
        Some(limit) => Ok(Some(limit)),
        None => Err(Status::invalid_argument(
            "grpc-timeout is not up to eight digits and one of H, M, S, m, u, n",
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn time_limits() {
        let of = |text: &'static str| {
            deadline(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap_or(CONTENT_TYPE),
                HeaderValue::from_static(text),
            )]))
            .ok()
            .flatten()
        };
        for (text, limit) in [
            ("1H", Some(Duration::from_hours(1))),
            ("99999999M", Some(Duration::from_mins(99_999_999))),
            ("2S", Some(Duration::from_secs(2))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("123456789S", None),
            ("1x", None),
        ] {
            assert_eq!(of(text), limit, "{text}");
        }
        assert_eq!(deadline(&HeaderMap::new()).ok(), Some(None));
    }
}
