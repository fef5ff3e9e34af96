//! Whatever a client sends by V2: no panic, no server error, and the server keeps serving. Valid inputs, spoilt the same way in every run.
//!
//! `AIR_FUZZ_RUNS` says how many inputs each target gets (default 2000).

#[path = "../../../../air-core/tests/it/fuzz/mutate.rs"]
#[allow(dead_code)]
mod mutate;

use std::net::TcpStream;

use air_serve::v2::DataType;
use prost::Message;
use serde_json::json;

use self::mutate::Mutator;
use super::grpc::messages::{InferTensor, InferTensorContents, ModelInferRequest, ModelRequest};
use super::rpc::{connect, framed, request, runtime, send, within_a_minute};
use super::{port, server};
use crate::client::{self, Response, read, write};

fn runs() -> usize {
    match std::env::var("AIR_FUZZ_RUNS") {
        Ok(runs) => runs.parse().unwrap_or_else(|_| panic!("AIR_FUZZ_RUNS is `{runs}`, not a number")),
        Err(_) => 2000,
    }
}

fn hex(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn iris() -> serde_json::Value {
    json!({ "id": "1", "parameters": { "timeout": 10_000_000, "binary_data_output": true },
        "inputs": [{ "name": "X", "datatype": "FP32", "shape": [2, 4], "data": [[1.5, -2.0, 3e-5, null], [5, 6, 7, 8]] }],
        "outputs": [{ "name": "label", "parameters": { "binary_data": false } }, { "name": "probabilities" }] })
}

/// An input of every type, as JSON.
fn echo(is_binary: bool) -> (serde_json::Value, Vec<u8>) {
    let mut binary = Vec::new();
    let inputs = DataType::ALL.map(|datatype| {
        let mut input = json!({ "name": port("in", datatype), "datatype": datatype.name(), "shape": [2] });
        if is_binary {
            let bytes = datatype.size().map_or(b"\x01\0\0\0a\0\0\0\0".to_vec(), |size| vec![1; 2 * size]);
            input["parameters"] = json!({ "binary_data_size": bytes.len() });
            binary.extend(bytes);
        } else {
            input["data"] = match datatype {
                DataType::Bool => json!([true, false]),
                DataType::Bytes => json!(["a", "\u{e4}"]),
                _ => json!([1, 2]),
            };
        }
        input
    });
    (json!({ "inputs": inputs }), binary)
}

/// A connection that is opened again where the server has closed it, as it must after a request that it did not read to its end.
struct Connection {
    server: air_serve::Server,
    stream: TcpStream,
}

impl Connection {
    fn new() -> Self {
        let server = server();
        let stream = client::connect(server.addr());
        Connection { server, stream }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        write(&mut self.stream, method, path, headers, body);
        let response = read(&mut self.stream);
        if response.header("connection") == Some("close") {
            self.stream = client::connect(self.server.addr());
        }
        response
    }
}

/// Asks with every input; of these some must be answered and some refused, or nothing was tried.
fn fuzz(name: &str, seeds: Vec<Vec<u8>>, mut ask: impl FnMut(&[u8]) -> bool) {
    for seed in &seeds {
        assert!(ask(seed), "{name}: the seed {} is not answered", hex(seed));
    }
    let mut mutator = Mutator::new(name, seeds.clone());
    let runs = runs();
    let answered = (0..runs).filter(|_| ask(&mutator.next())).count();
    assert!(runs < 100 || (1..runs).contains(&answered), "{name}: {answered} of {runs} were answered");
    for seed in &seeds {
        assert!(ask(seed), "{name}: the server no longer answers");
    }
}

/// The input as the body of a POST, in which the first two bytes say how much of the rest is JSON.
fn rest(name: &str, model: &str, seeds: Vec<(serde_json::Value, Vec<u8>)>) {
    let mut connection = Connection::new();
    let path = format!("/v2/models/{model}/infer");
    let seed = |(json, binary): (serde_json::Value, Vec<u8>)| {
        let json = json.to_string();
        [&(json.len() as u16).to_le_bytes(), json.as_bytes(), &binary].concat()
    };
    fuzz(name, seeds.into_iter().map(seed).collect(), |input| {
        let (length, body) = input.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
        let headers = format!("Inference-Header-Content-Length: {}\r\n", u16::from_le_bytes(*length));
        let response = connection.ask("POST", &path, &headers, body);
        assert!([200, 400, 422].contains(&response.status), "{}: {}", hex(input), response.body);
        response.status == 200
    });
}

#[test]
fn json_bodies() {
    rest("json", "iris", vec![(iris(), Vec::new())]);
}

#[test]
fn json_bodies_of_every_type() {
    rest("types", "echo", vec![echo(false)]);
}

#[test]
fn binary_bodies() {
    rest("binary", "echo", vec![echo(true)]);
}

#[test]
fn paths() {
    let mut connection = Connection::new();
    let seeds = [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/iris",
        "/v2/models/iris/versions/1/ready",
        "/v2/models/%69ris/ready",
    ];
    fuzz("paths", seeds.iter().map(|path| path.as_bytes().to_vec()).collect(), |input| {
        // What is no request line at all is the HTTP library's to refuse.
        let rest: String =
            input.iter().skip(1).filter(|byte| byte.is_ascii_graphic()).map(|&byte| byte as char).collect();
        let response = connection.ask("GET", &format!("/{rest}"), "", b"");
        assert!([200, 400, 404, 405].contains(&response.status), "/{rest}: {}", response.body);
        response.status == 200
    });
}

fn messages() -> Vec<Vec<u8>> {
    let input = |datatype: DataType| InferTensor {
        name: port("in", datatype),
        datatype: datatype.name().to_owned(),
        shape: vec![1],
        ..InferTensor::default()
    };
    let raw =
        |datatype: DataType| datatype.size().map_or(b"\x01\0\0\0a".to_vec(), |size| vec![1; size]).into();
    let echo = ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: DataType::ALL.into_iter().map(input).collect(),
        raw_input_contents: DataType::ALL.into_iter().map(raw).collect(),
        ..ModelInferRequest::default()
    };
    let contents = InferTensorContents { fp32_contents: vec![1.0; 8], ..InferTensorContents::default() };
    let iris = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![InferTensor {
            name: "X".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![2, 4],
            contents: Some(contents),
            ..InferTensor::default()
        }],
        ..ModelInferRequest::default()
    };
    vec![echo.encode_to_vec(), iris.encode_to_vec()]
}

#[test]
fn grpc_messages() {
    // Spoilt without their frame, which is put around them later.
    let server = server();
    let addr = server.addr();
    let runtime = runtime();
    let connection = runtime.block_on(connect(addr));
    let ask = ModelRequest { name: "iris".to_owned(), version: "1".to_owned() };
    for (method, seeds) in [("ModelInfer", messages()), ("ModelMetadata", vec![ask.encode_to_vec()])] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        fuzz(method, seeds, |input| {
            let answer = send(connection.clone(), request(addr, &path, &[]), framed(input));
            let answer = runtime.block_on(within_a_minute(answer)).unwrap();
            // A message that is wrong is the caller's fault, or asks for what is not there.
            assert!([0, 3, 5].contains(&answer.status), "{}: {}", hex(input), answer.message);
            answer.status == 0
        });
    }
}

#[test]
fn grpc_frames() {
    let server = server();
    let addr = server.addr();
    let runtime = runtime();
    let connection = runtime.block_on(connect(addr));
    fuzz("frames", messages().iter().map(|message| framed(message)).collect(), |input| {
        let call = request(addr, "/inference.GRPCInferenceService/ModelInfer", &[]);
        let answer =
            runtime.block_on(within_a_minute(send(connection.clone(), call, input.to_vec()))).unwrap();
        assert_eq!(answer.http, 200, "{}: {}", hex(input), answer.message);
        answer.status == 0
    });
}
