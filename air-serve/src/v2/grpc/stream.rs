//! `ModelStreamInfer`: requests come one after the other on one call, and each has one answer or more, as Triton's "decoupled" models have it.
//!
//! What cannot be answered is an `error_message`, and the call goes on. A request is not read before the one before it is answered; so
//! what a client sends ahead waits in its connection's window.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Version};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, Stream, StreamExt as _};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Incoming;
use prost::Message;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tower::service_fn;

use super::codec::Framed;
use super::convert::{self, Form};
use super::messages::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, ParameterChoice,
};
use super::{INFERENCE, deadline, parts, version};
use crate::deploy::context::Terms;
use crate::http::{Phase, reply};
use crate::scan;
use crate::v2::V2;
use crate::v2::catalog::{Catalog, Served};
use crate::v2::fault::Fault;
use crate::v2::infer::Inference;
use crate::v2::reach::Answer;
use crate::v2::rest::asked;

/// Whether an answer is the last to its request.
const FINAL: &str = "triton_final_response";
/// By which a request asks for an answer that says only that there are no more.
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

type Responses = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

/// Whether a request is such a call.
pub(crate) fn is_stream<B>(request: &Request<B>) -> bool {
    parts(request.uri().path()) == Some((INFERENCE, "ModelStreamInfer"))
}

impl V2 {
    /// Answers a call whose messages come one after the other, each of at most so many bytes.
    pub(crate) fn stream_infer(
        &self,
        request: Request<Incoming>,
        limit: usize,
    ) -> BoxFuture<'static, Response<Body>> {
        if request.version() != Version::HTTP_2 {
            let refusal = reply::problem(StatusCode::UPGRADE_REQUIRED, "gRPC needs HTTP/2").map(Body::new);
            return std::future::ready(refusal).boxed();
        }
        let within = match deadline(request.headers()) {
            Ok(within) => within,
            Err(status) => return std::future::ready(status.into_http()).boxed(),
        };
        let asked = match asked(request.headers()) {
            Ok(asked) => asked,
            Err(fault) => return std::future::ready(Status::from(fault).into_http()).boxed(),
        };
        // Requests that were sent before the server was to end are answered; a client that leaves its call open holds nothing up.
        let mut phase = self.phase.clone();
        let draining = async move { phase.wait_for(|phase| *phase != Phase::Serving).await.map(|_| ()) };
        let request = request.map(|body| StreamBody::new(BodyStream::new(body).take_until(draining.boxed())));
        let catalog = Arc::clone(&self.catalog);
        let service = service_fn(move |requests: tonic::Request<Streaming<Bytes>>| {
            let (catalog, asked) = (Arc::clone(&catalog), asked.clone());
            let responses = requests.into_inner().flat_map(move |message| match message {
                Ok(message) => respond(&catalog, message, asked.clone()),
                Err(status) => stream::once(std::future::ready(Err(status))).boxed(),
            });
            std::future::ready(Ok(tonic::Response::new(limited(responses, within))))
        });
        async move {
            let mut grpc =
                Grpc::new(Framed::<ModelStreamInferResponse>::new()).max_decoding_message_size(limit);
            grpc.streaming(service, request).await.map(Body::new)
        }
        .boxed()
    }
}

/// Ends the call when its time is over.
fn limited(
    responses: impl Stream<Item = Result<ModelStreamInferResponse, Status>> + Send + 'static,
    within: Option<Duration>,
) -> Responses {
    let Some(within) = within else { return responses.boxed() };
    let until = tokio::time::Instant::now() + within;
    let late = move || Status::deadline_exceeded(format!("the call was not over within {within:?}"));
    stream::unfold(Some(responses.boxed()), move |responses| async move {
        let mut responses = responses?;
        match tokio::time::timeout_at(until, responses.next()).await {
            Ok(response) => Some((response?, Some(responses))),
            Err(_) => Some((Err(late()), None)),
        }
    })
    .boxed()
}

/// The answers to one request.
fn respond(catalog: &Catalog, message: Bytes, asked: Option<Terms>) -> Responses {
    match begin(catalog, message, asked) {
        Ok(responses) => responses,
        Err((id, fault)) => stream::once(std::future::ready(Ok(failed(id, &fault)))).boxed(),
    }
}

fn begin(catalog: &Catalog, message: Bytes, asked: Option<Terms>) -> Result<Responses, (String, Fault)> {
    let malformed = |reason: String| Fault::malformed(format!("the message cannot be decoded: {reason}"));
    let scanned = scan::scan(scan::Kind::InferRequest, &message).map_err(|fault| fault.to_string());
    let decoded =
        scanned.and_then(|()| ModelInferRequest::decode(message).map_err(|error| error.to_string()));
    let request = decoded.map_err(|reason| (String::new(), malformed(reason)))?;
    let id = request.id.clone();
    let told = |fault: Fault| (id.clone(), fault);
    let empty_final = request.parameters.get(EMPTY_FINAL).and_then(|it| it.parameter_choice.clone())
        == Some(ParameterChoice::Bool(true));
    let served = catalog.find(&request.model_name, version(&request.model_version)).map_err(told)?;
    let (inference, form) = convert::read(request).map_err(told)?;
    let mut inference = inference.or(asked);
    let answers = served.answers(&mut inference).map_err(told)?;
    let responses = answers.map(move |answer| {
        answer
            .and_then(|answer| answered(&served, &id, form, answer))
            .unwrap_or_else(|fault| failed(id.clone(), &fault))
    });
    // What went wrong is the last that is said about a request.
    let responses = responses.scan(false, |over, response| {
        let ends = std::mem::replace(over, !response.error_message.is_empty());
        std::future::ready((!ends).then_some(response))
    });
    let is_told = move |response: &ModelStreamInferResponse| {
        let is_empty = response.infer_response.as_ref().is_some_and(|response| response.outputs.is_empty());
        let told = empty_final || !is_empty || !response.error_message.is_empty();
        std::future::ready(told)
    };
    Ok(responses.filter(is_told).map(Ok).boxed())
}

fn answered(
    served: &Served,
    id: &str,
    form: Form,
    answer: Answer,
) -> Result<ModelStreamInferResponse, Fault> {
    let request = Inference { id: Some(id.to_owned()), ..Inference::default() };
    let mut response = convert::write(served, request, form, answer.outputs.unwrap_or_default())?;
    response.parameters.insert(
        FINAL.to_owned(),
        InferParameter { parameter_choice: Some(ParameterChoice::Bool(answer.is_last)) },
    );
    Ok(ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) })
}

fn failed(id: String, fault: &Fault) -> ModelStreamInferResponse {
    let is_last = InferParameter { parameter_choice: Some(ParameterChoice::Bool(true)) };
    let response = ModelInferResponse {
        id,
        parameters: [(FINAL.to_owned(), is_last)].into(),
        ..ModelInferResponse::default()
    };
    ModelStreamInferResponse { error_message: fault.message.clone(), infer_response: Some(response) }
}
