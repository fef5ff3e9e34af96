//! V2 over gRPC, on the port of HTTP.

#[path = "../../../src/v2/grpc/messages.rs"]
#[allow(dead_code, unreachable_pub)]
pub mod messages;

use air_serve::v2::DataType;
use air_serve::{App, DeploymentConfig, Execution, run};
use bytes::Bytes;
use prost::Message;

use self::messages::{
    Empty, HealthCheckRequest, HealthCheckResponse, InferParameter, InferTensor, InferTensorContents,
    ModelIndex, ModelInferRequest, ModelInferResponse, ModelMetadataResponse, ModelRequest, ParameterChoice,
    Parameters, ReadyResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelRequest,
    ServerLiveResponse, ServerMetadataResponse, TensorMetadata,
};
use super::rest::one_number;
use super::rpc::{Answer, call, client, connect, framed, request, send};
use super::{port, server};
use crate::client::post;
use crate::{examples, fixtures};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn method(name: &str) -> String {
    format!("/inference.GRPCInferenceService/{name}")
}

fn parameters(name: &str, choice: ParameterChoice) -> Parameters {
    [(name.to_owned(), InferParameter { parameter_choice: Some(choice) })].into()
}

/// Two flowers, versicolor and setosa.
fn flowers() -> ModelInferRequest {
    let contents = InferTensorContents {
        fp32_contents: vec![1.2, 1.0, 1.1, 0.9, 5.1, 3.5, 1.4, 0.2],
        ..InferTensorContents::default()
    };
    let input = InferTensor {
        name: "X".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![2, 4],
        contents: Some(contents),
        ..InferTensor::default()
    };
    ModelInferRequest {
        model_name: "iris".to_owned(),
        id: "two".to_owned(),
        inputs: vec![input],
        ..ModelInferRequest::default()
    }
}

/// The same with raw contents.
fn raw_flowers() -> ModelInferRequest {
    let mut request = flowers();
    let contents = request.inputs[0].contents.take().unwrap();
    let raw: Vec<u8> = contents.fp32_contents.iter().flat_map(|x| x.to_le_bytes()).collect();
    request.raw_input_contents = vec![raw.into()];
    request
}

#[test]
fn the_messages_are_those_of_tritons_own_client() {
    let read = |name: &str| std::fs::read(fixtures(name)).unwrap();
    let text = str::to_owned;
    let request = ModelInferRequest {
        model_name: text("model"),
        model_version: text("2"),
        id: text("seven"),
        parameters: parameters("timeout", ParameterChoice::Int64(1500)),
        inputs: vec![InferTensor {
            name: text("in"),
            datatype: text("INT32"),
            shape: vec![2, -1],
            parameters: parameters("flag", ParameterChoice::Bool(true)),
            contents: Some(InferTensorContents {
                bool_contents: vec![true, false],
                int_contents: vec![-1, 300],
                int64_contents: vec![-1, 1 << 40],
                uint_contents: vec![1, 300],
                uint64_contents: vec![1, 1 << 40],
                fp32_contents: vec![0.5, -1.0],
                fp64_contents: vec![0.25, -1.0],
                bytes_contents: vec![Bytes::from_static(b"\xff"), Bytes::from_static(b"a")],
            }),
        }],
        outputs: vec![messages::InferRequestedOutputTensor {
            name: text("out"),
            parameters: parameters("text", ParameterChoice::String(text("t"))),
        }],
        raw_input_contents: vec![Bytes::from_static(&[1, 2]), Bytes::new()],
    };
    assert_eq!(ModelInferRequest::decode(&read("v2_infer_request.bin")[..]).unwrap(), request);
    let response = ModelInferResponse {
        model_name: text("model"),
        model_version: text("2"),
        id: text("seven"),
        parameters: parameters("number", ParameterChoice::Double(0.5)),
        outputs: vec![InferTensor {
            name: text("out"),
            datatype: text("INT8"),
            shape: vec![1],
            parameters: parameters("large", ParameterChoice::Uint64(1 << 63)),
            contents: Some(InferTensorContents { int_contents: vec![3], ..InferTensorContents::default() }),
        }],
        raw_output_contents: vec![Bytes::from_static(&[3])],
    };
    assert_eq!(response.encode_to_vec(), read("v2_infer_response.bin"));
    let port = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
        name: text(name),
        datatype: text(datatype),
        shape: shape.to_vec(),
    };
    let metadata = ModelMetadataResponse {
        name: text("model"),
        versions: vec![text("1"), text("2")],
        platform: text("p"),
        inputs: vec![port("in", "FP32", &[-1, 4])],
        outputs: vec![port("out", "INT64", &[-1])],
    };
    assert_eq!(metadata.encode_to_vec(), read("v2_model_metadata.bin"));
    let line =
        ModelIndex { name: text("model"), version: text("2"), state: text("READY"), reason: text("r") };
    assert_eq!(RepositoryIndexResponse { models: vec![line] }.encode_to_vec(), read("v2_index.bin"));
}

#[test]
fn the_server_and_its_models_describe_themselves() {
    let server = server();
    let addr = server.addr();
    assert!(call(addr, &method("ServerLive"), &[], &Empty {}).decode::<ServerLiveResponse>().live);
    assert!(call(addr, &method("ServerReady"), &[], &Empty {}).decode::<ReadyResponse>().ready);
    let metadata: ServerMetadataResponse = call(addr, &method("ServerMetadata"), &[], &Empty {}).decode();
    assert_eq!(
        (metadata.name.as_str(), metadata.extensions),
        ("air-serve", vec!["binary_tensor_data".to_owned(), "schedule_policy".to_owned()])
    );
    let ask = |name: &str, version: &str| ModelRequest { name: name.to_owned(), version: version.to_owned() };
    for (name, version, ready) in
        [("iris", "", true), ("iris", "1", true), ("iris", "2", false), ("none", "", false)]
    {
        let answer: ReadyResponse = call(addr, &method("ModelReady"), &[], &ask(name, version)).decode();
        assert_eq!(answer.ready, ready, "{name} {version}");
    }
    let iris: ModelMetadataResponse = call(addr, &method("ModelMetadata"), &[], &ask("iris", "")).decode();
    assert_eq!(
        (iris.name.as_str(), iris.versions, iris.platform.as_str()),
        ("iris", vec!["1".to_owned()], "air_onnx")
    );
    let port = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
    };
    assert_eq!(iris.inputs, [port("X", "FP32", &[-1, 4])]);
    assert_eq!(iris.outputs, [port("label", "INT64", &[-1]), port("probabilities", "FP32", &[-1, 3])]);
    let none = call(addr, &method("ModelMetadata"), &[], &ask("none", ""));
    assert_eq!((none.status, none.message.as_str()), (5, "no model `none`; GET /v2/models lists them"));
    for (service, status) in
        [("", Some(1)), ("inference.GRPCInferenceService", Some(1)), ("iris", Some(1)), ("none", None)]
    {
        let answer = call(
            addr,
            "/grpc.health.v1.Health/Check",
            &[],
            &HealthCheckRequest { service: service.to_owned() },
        );
        match status {
            Some(status) => assert_eq!(answer.decode::<HealthCheckResponse>().status, status),
            None => assert_eq!(answer.status, 5),
        }
    }
}

#[test]
fn typed_requests_get_typed_answers_and_raw_ones_raw() {
    let server = server();
    let addr = server.addr();
    // More often than it takes to move the model to the HTTP thread.
    for _ in 0..20 {
        let typed: ModelInferResponse = call(addr, INFER, &[], &flowers()).decode();
        assert_eq!(
            (typed.model_name.as_str(), typed.model_version.as_str(), typed.id.as_str()),
            ("iris", "1", "two")
        );
        let label = typed.outputs[0].contents.clone().unwrap().int64_contents;
        assert_eq!(
            (typed.outputs[0].name.as_str(), &typed.outputs[0].shape[..], &label[..]),
            ("label", &[2][..], &[1, 0][..])
        );
        assert_eq!(typed.outputs[1].contents.clone().unwrap().fp32_contents.len(), 6);
        assert!(typed.raw_output_contents.is_empty());
        let raw: ModelInferResponse = call(addr, INFER, &[], &raw_flowers()).decode();
        assert_eq!(
            raw.outputs.iter().map(|output| output.contents.clone()).collect::<Vec<_>>(),
            [None, None]
        );
        assert_eq!(raw.raw_output_contents[0], [1i64, 0].map(i64::to_le_bytes).concat());
        let scores: Vec<u8> = typed.outputs[1]
            .contents
            .clone()
            .unwrap()
            .fp32_contents
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!(raw.raw_output_contents[1], scores);
    }
    let mut one = flowers();
    one.outputs =
        vec![messages::InferRequestedOutputTensor { name: "probabilities".to_owned(), ..Default::default() }];
    let answer: ModelInferResponse = call(addr, INFER, &[], &one).decode();
    assert_eq!(
        answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
        ["probabilities"]
    );
}

#[test]
fn every_type_travels_raw() {
    let server = server();
    let tensor = |datatype: DataType| InferTensor {
        name: port("in", datatype),
        datatype: datatype.name().to_owned(),
        shape: vec![1],
        ..InferTensor::default()
    };
    let raw = |datatype: DataType| match datatype.size() {
        Some(size) => Bytes::from(vec![1; size]),
        None => Bytes::from_static(b"\x01\0\0\0\xff"),
    };
    let request = ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: DataType::ALL.into_iter().map(tensor).collect(),
        raw_input_contents: DataType::ALL.into_iter().map(raw).collect(),
        ..ModelInferRequest::default()
    };
    let answer: ModelInferResponse = call(server.addr(), INFER, &[], &request).decode();
    assert_eq!(answer.raw_output_contents, request.raw_input_contents);
    let types: Vec<&str> = answer.outputs.iter().map(|output| output.datatype.as_str()).collect();
    assert_eq!(types, DataType::ALL.map(DataType::name));
}

#[test]
fn what_does_not_fit_is_told_so() {
    let server = server();
    let addr = server.addr();
    let changed = |change: fn(&mut ModelInferRequest)| {
        let mut request = flowers();
        change(&mut request);
        call(addr, INFER, &[], &request)
    };
    type Case = (fn(&mut ModelInferRequest), i32, &'static str);
    let cases: [Case; 9] = [
        (|request| request.model_name.clear(), 5, "no model ``"),
        (|request| request.model_version = "7".to_owned(), 5, "no version `7`: it has 1"),
        (|request| request.inputs.clear(), 3, "expected the input `X`: FP32 [-1, 4], got none"),
        (|request| request.inputs[0].name = "Y".to_owned(), 3, "got the input `Y`"),
        (|request| request.inputs[0].datatype = "float".to_owned(), 3, "`float` is no datatype"),
        (|request| request.inputs[0].shape = vec![4, 2], 3, "expected FP32 [-1, 4], got FP32 [4, 2]"),
        (|request| request.inputs[0].shape = vec![i64::MAX, 4], 3, "too many elements"),
        (|request| request.inputs[0].shape = vec![-1, 4], 3, "the dimension -1"),
        (|request| request.raw_input_contents = vec![Bytes::new()], 3, "both"),
    ];
    for (change, status, says) in cases {
        let answer = changed(change);
        assert_eq!((answer.http, answer.status), (200, status), "{}", answer.message);
        assert!(answer.message.contains(says), "{}", answer.message);
    }
    for path in [
        "/inference.GRPCInferenceService/Nothing",
        "/other.Service/Call",
        "/grpc.health.v1.Health/Watch",
        "/x",
    ] {
        assert_eq!(call(addr, path, &[], &Empty {}).status, 12, "{path}");
    }
    let refused = call(addr, &method("RepositoryIndex"), &[], &RepositoryIndexRequest::default());
    assert_eq!(refused.status, 9, "{}", refused.message);
    assert_eq!(call(addr, INFER, &[("grpc-timeout", "soon")], &flowers()).status, 3);
    let old = post_as_grpc(addr);
    assert_eq!(old, 426);
    // Inputs of two bytes each in the message, and of hundreds in memory.
    let flood = framed(&[0x2a, 0].repeat(1 << 19));
    let refused =
        client(async { send(connect(addr).await, request(addr, INFER, &[]), flood).await.unwrap() });
    assert_eq!(refused.status, 3);
    assert!(refused.message.contains("decoding would take more than"), "{}", refused.message);
}

/// gRPC over HTTP/1.1, which has no such thing.
fn post_as_grpc(addr: std::net::SocketAddr) -> u16 {
    crate::client::send(addr, "POST", INFER, "Content-Type: application/grpc\r\n", framed(b"")).status
}

#[test]
fn messages_that_are_cut_off_compressed_or_too_large_are_refused() {
    let server = run(super::app().with_http(|http| http.max_body_bytes = 10_000)).unwrap();
    let addr = server.addr();
    let answer =
        |body: Vec<u8>| client(async { send(connect(addr).await, request(addr, INFER, &[]), body).await });
    let whole = framed(&flowers().encode_to_vec());
    let status = |body: Vec<u8>| answer(body).map(|answer| answer.status).unwrap();
    assert_ne!(status(Vec::new()), 0);
    assert_ne!(status(whole[..whole.len() - 1].to_vec()), 0);
    assert_ne!(status(whole[..3].to_vec()), 0);
    let mut compressed = whole.clone();
    compressed[0] = 1;
    assert_ne!(status(compressed), 0);
    let mut endless = whole.clone();
    endless[1] = 0xff;
    assert_ne!(status(endless), 0);
    // What is refused before all of it has come may also be reset.
    match answer(vec![0; 100_000]) {
        Ok(answer) => assert_eq!(answer.status, 8, "{}", answer.message),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    assert_eq!(status(whole), 0);
}

#[test]
fn a_full_queue_is_resource_exhausted_a_late_answer_deadline_exceeded_and_a_panic_internal() {
    let (gate, deployment) = one_number();
    let deployment = deployment.with(|config| {
        config.execution = Execution::Thread;
        config.max_queued_requests = 1;
    });
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let addr = server.addr();
    let number = |x: i64, headers: &[(&'static str, &str)]| -> Answer {
        let contents = InferTensorContents { int64_contents: vec![x], ..InferTensorContents::default() };
        let input = InferTensor {
            name: "x".to_owned(),
            datatype: "INT64".to_owned(),
            shape: vec![1],
            contents: Some(contents),
            ..InferTensor::default()
        };
        let request = ModelInferRequest {
            model_name: "model".to_owned(),
            inputs: vec![input],
            ..ModelInferRequest::default()
        };
        call(addr, INFER, headers, &request)
    };
    let handle = server.handle::<i64, i64>("model").unwrap();
    let running = handle.call(1);
    gate.started.recv().unwrap();
    let queued = handle.call(2);
    assert_eq!(number(3, &[]).status, 8);
    drop(queued);
    let late = number(4, &[("grpc-timeout", "20m")]);
    assert_eq!((late.status, late.message.as_str()), (4, "no answer within 20ms"));
    gate.open.send(()).unwrap();
    assert_eq!(futures::executor::block_on(running).unwrap(), 1);
    gate.open.send(()).unwrap();
    let failed = number(crate::gate::PANIC, &[]);
    assert_eq!((failed.status, failed.message.as_str()), (13, "replica model#0 panicked: told to panic"));
    gate.open.send(()).unwrap();
    let answer: ModelInferResponse = number(5, &[]).decode();
    assert_eq!(answer.outputs[0].contents.clone().unwrap().int64_contents, [5]);
    // Two that ran out of room or time never reached the model.
    assert_eq!(gate.seen.load(std::sync::atomic::Ordering::SeqCst), 3);
    let metrics = server.metrics();
    for line in [
        "{code=\"200\",route=\"grpc\"} 1",
        "{code=\"503\",route=\"grpc\"} 1",
        "{code=\"504\",route=\"grpc\"} 1",
    ] {
        assert!(metrics.contains(&format!("air_serve_requests_total{line}")), "{line}: {metrics}");
    }
}

#[test]
fn many_calls_share_a_connection_and_http_shares_the_port() {
    let server = server();
    let addr = server.addr();
    client(async {
        let connection = connect(addr).await;
        let body = framed(&flowers().encode_to_vec());
        let calls = (0..200).map(|_| send(connection.clone(), request(addr, INFER, &[]), body.clone()));
        for answer in futures::future::join_all(calls).await {
            let answer: ModelInferResponse = answer.unwrap().decode();
            assert_eq!(answer.outputs[0].contents.clone().unwrap().int64_contents, [1, 0]);
        }
        // HTTP/2 carries the other routes as well.
        let mut plain = request(addr, "/iris", &[]);
        plain.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let answer = send(connection, plain, br#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#.to_vec()).await.unwrap();
        assert_eq!((answer.http, answer.body.as_slice()), (200, &br#"{"result":"versicolor"}"#[..]));
    });
    assert_eq!(post(addr, "/iris", r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#).body, r#"{"result":"versicolor"}"#);
}

#[test]
fn models_of_a_repository_are_loaded_and_unloaded() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(examples("iris_gbc.onnx"), dir.path().join("iris.onnx")).unwrap();
    let app = App::new().with_http(|http| http.port = 0).repository(dir.path(), DeploymentConfig::default());
    let server = run(app).unwrap();
    let addr = server.addr();
    let change = |verb: &str, name: &str| {
        let request =
            RepositoryModelRequest { model_name: name.to_owned(), ..RepositoryModelRequest::default() };
        call(addr, &method(verb), &[], &request)
    };
    let index = || -> RepositoryIndexResponse {
        call(addr, &method("RepositoryIndex"), &[], &RepositoryIndexRequest::default()).decode()
    };
    change("RepositoryModelUnload", "iris").decode::<Empty>();
    assert_eq!((index().models[0].name.as_str(), index().models[0].state.as_str()), ("iris", "UNAVAILABLE"));
    assert_eq!(call(addr, INFER, &[], &flowers()).status, 5);
    change("RepositoryModelLoad", "iris").decode::<Empty>();
    assert_eq!(index().models[0].state, "READY");
    assert_eq!(call(addr, INFER, &[], &flowers()).status, 0);
    assert_eq!(change("RepositoryModelLoad", "none").status, 5);
}

#[test]
fn reflection_lists_the_services_and_an_open_stream_does_not_hold_up_the_end() {
    /// The field `list_services` of a request, and the name within a service within the list of an answer.
    const LIST: [u8; 3] = [0x3a, 1, b'*'];
    let server = server();
    let addr = server.addr();
    client(async {
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            let mut connection = connect(addr).await.ready().await.unwrap();
            let (response, mut stream) = connection.send_request(request(addr, &path, &[]), false).unwrap();
            stream.send_data(framed(&LIST).into(), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            // The stream stays open: the answer must come all the same.
            let answer = body.data().await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&answer);
            for service in ["inference.GRPCInferenceService", "grpc.health.v1.Health"] {
                assert!(text.contains(service), "{version}: {text}");
            }
            if version == "v1alpha" {
                let (ended, end) = tokio::sync::oneshot::channel();
                std::thread::spawn(move || {
                    server.shutdown();
                    let _ = ended.send(());
                });
                tokio::time::timeout(std::time::Duration::from_secs(15), end)
                    .await
                    .expect("the end was held up")
                    .unwrap();
                break;
            }
        }
    });
}
