//! Streams over gRPC: `ModelStreamInfer`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use air_core::BoxError;
use air_serve::v2::{DataType, Signature, Tensor, TensorCodec};
use air_serve::{App, CallError, Deployment, Server, each, run};
use bytes::{Buf as _, Bytes};
use prost::Message as _;

use super::{Do, counter};
use crate::client::post;
use crate::v2::grpc::messages::{
    InferParameter, InferTensor, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelStreamInferResponse, ParameterChoice,
};
use crate::v2::rpc::{call, client, connect, framed, request, send};
use crate::wait::until;

const METHOD: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// How far to count, and how far it has come.
struct Numbers(Signature);

impl TensorCodec<u32, u32> for Numbers {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn decode(&self, inputs: Vec<Tensor>) -> Result<u32, CallError> {
        let of = inputs[0]
            .elements::<u32>()
            .map_err(|error| CallError::Invalid { expected: "a number".into(), got: error.to_string() })?;
        Ok(of[0])
    }

    fn encode(&self, item: u32) -> Result<Vec<Tensor>, BoxError> {
        Ok(vec![Tensor::new("item", [1], &[item])?])
    }
}

fn numbers() -> Numbers {
    Numbers(Signature::new().input("of", DataType::Uint32, [1]).output("item", DataType::Uint32, [1]))
}

fn serve(app: App) -> Server {
    run(app.with_http(|http| {
        http.port = 0;
        http.max_body_bytes = 10_000;
    }))
    .unwrap()
}

fn asked(model: &str, id: &str, input: &str, number: u32, empty_final: bool) -> ModelInferRequest {
    let contents = InferTensorContents { uint_contents: vec![number], ..InferTensorContents::default() };
    let input = InferTensor {
        name: input.to_owned(),
        datatype: "UINT32".to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..InferTensor::default()
    };
    let choice = InferParameter { parameter_choice: Some(ParameterChoice::Bool(empty_final)) };
    ModelInferRequest {
        model_name: model.to_owned(),
        id: id.to_owned(),
        inputs: vec![input],
        parameters: [("triton_enable_empty_final_response".to_owned(), choice)].into(),
        ..ModelInferRequest::default()
    }
}

/// All messages of a body.
fn messages(mut body: &[u8]) -> Vec<ModelStreamInferResponse> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        assert_eq!(body.get_u8(), 0, "compressed");
        let length = body.get_u32() as usize;
        messages.push(ModelStreamInferResponse::decode(&body[..length]).unwrap());
        body.advance(length);
    }
    messages
}

/// The request's id, the numbers, and whether it says that it is the last.
fn said(response: &ModelInferResponse) -> (String, Vec<u32>, bool) {
    let numbers = response.outputs.iter().flat_map(|output| {
        output.contents.as_ref().map(|contents| contents.uint_contents.clone()).unwrap_or_default()
    });
    let last = response.parameters["triton_final_response"].parameter_choice.clone();
    (response.id.clone(), numbers.collect(), last == Some(ParameterChoice::Bool(true)))
}

#[test]
fn each_request_has_one_answer_or_more() {
    let (steps, deployment) = counter();
    steps.free();
    let signature = Signature::new().input("x", DataType::Uint32, [1]).output("y", DataType::Uint32, [1]);
    let double = |inputs: Vec<Tensor>| {
        let x = inputs[0].elements::<u32>()?[0];
        Ok(vec![Tensor::new("y", [1], &[2 * x])?])
    };
    let server = serve(
        App::new()
            .deploy(deployment.tensors_each(numbers()))
            .deploy(Deployment::new("double", move || Ok(each(double))).tensors(signature)),
    );
    let requests = [
        asked("model", "a", "of", 2, true),
        asked("double", "b", "x", 21, false),
        asked("none", "c", "x", 1, false),
        asked("model", "d", "x", 1, false),
        asked("model", "e", "of", 1, false),
        asked("model", "f", "of", 13, false),
    ];
    let body: Vec<u8> = requests.iter().flat_map(|request| framed(&request.encode_to_vec())).collect();
    let body = [body, framed(b"\xff\xff\xff")].concat();
    let answer = client(async {
        let addr = server.addr();
        send(connect(addr).await, request(addr, METHOD, &[]), body).await.unwrap()
    });
    assert_eq!((answer.http, answer.status), (200, 0), "{}", answer.message);
    let all = messages(&answer.body);
    let errors: Vec<&str> = all.iter().map(|one| one.error_message.as_str()).collect();
    let seen: Vec<_> = all.iter().map(|one| said(one.infer_response.as_ref().unwrap())).collect();
    let of = |id: &str, numbers: &[u32], last| (id.to_owned(), numbers.to_vec(), last);
    assert_eq!(
        seen,
        [
            of("a", &[0], false),
            of("a", &[1], false),
            of("a", &[], true),
            of("b", &[42], true),
            of("c", &[], true),
            of("d", &[], true),
            of("e", &[0], false),
            of("f", &[], true),
            of("", &[], true),
        ]
    );
    assert_eq!(errors[4], "no model `none`; GET /v2/models lists them");
    assert_eq!(errors[5], "expected the inputs `of`, got the input `x`");
    assert_eq!(errors[7], "replica model#0 failed: 13 is not begun");
    assert!(errors[8].contains("cannot be decoded"), "{}", errors[8]);
    assert!([0, 1, 2, 3, 6].iter().all(|index| errors[*index].is_empty()), "{errors:?}");
}

#[test]
fn what_answers_with_streams_is_asked_for_them() {
    let (_steps, deployment) = counter();
    let server = serve(App::new().deploy(deployment.tensors_each(numbers())));
    let method = "/inference.GRPCInferenceService/ModelInfer";
    let answer = call(server.addr(), method, &[], &asked("model", "a", "of", 2, false));
    assert_eq!(answer.status, 3);
    assert!(answer.message.contains("ModelStreamInfer"), "{}", answer.message);
    let body = r#"{"inputs": [{"name": "of", "datatype": "UINT32", "shape": [1], "data": [2]}]}"#;
    let answer = post(server.addr(), "/v2/models/model/infer", body);
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(answer.body.contains("ModelStreamInfer"), "{answer:?}");
}

/// Begins a call with one request and waits for its first message.
async fn first(
    addr: SocketAddr,
    headers: &[(&'static str, &str)],
) -> (h2::SendStream<Bytes>, h2::RecvStream, Vec<u8>) {
    let mut h2 = connect(addr).await.ready().await.unwrap();
    let (response, mut requests) = h2.send_request(request(addr, METHOD, headers), false).unwrap();
    let message = framed(&asked("model", "a", "of", 1_000_000, false).encode_to_vec());
    requests.send_data(message.into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let data = poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap();
    (requests, body, data.to_vec())
}

#[test]
fn an_item_goes_out_when_it_is_there_and_a_reset_ends_the_sequence() {
    let (steps, deployment) = counter();
    let server = serve(App::new().deploy(deployment.tensors_each(numbers())));
    steps.go.send(Do::Step).unwrap();
    let first = client(async {
        // The model is held at its second step.
        let (mut requests, _body, data) = first(server.addr(), &[]).await;
        requests.send_reset(h2::Reason::CANCEL);
        tokio::task::yield_now().await;
        data
    });
    let first = messages(&first);
    assert_eq!(said(first[0].infer_response.as_ref().unwrap()), ("a".to_owned(), vec![0], false));
    until("it is dropped", || {
        let _ = steps.go.send(Do::Step);
        steps.dropped.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn a_call_ends_when_its_time_is_over() {
    let (steps, deployment) = counter();
    let server = serve(App::new().deploy(deployment.tensors_each(numbers())));
    steps.go.send(Do::Step).unwrap();
    let status = client(async {
        let (_requests, mut body, _) = first(server.addr(), &[("grpc-timeout", "200m")]).await;
        assert!(poll_fn(|cx| body.poll_data(cx)).await.is_none());
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.unwrap().unwrap();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    });
    assert_eq!(status, "4");
    steps.free();
}

#[test]
fn a_message_that_is_too_large_ends_the_call_and_nothing_else() {
    let (steps, deployment) = counter();
    steps.free();
    let server = serve(App::new().deploy(deployment.tensors_each(numbers())));
    let mut large = asked("model", "a", "of", 1, false);
    large.raw_input_contents = vec![vec![0; 20_000].into()];
    let answer = call(server.addr(), METHOD, &[], &large);
    // tonic's word for it.
    assert_eq!(answer.status, 11, "{}", answer.message);
    let answer = call(server.addr(), METHOD, &[], &asked("model", "a", "of", 1, false));
    assert_eq!((answer.status, messages(&answer.body).len()), (0, 1));
}
