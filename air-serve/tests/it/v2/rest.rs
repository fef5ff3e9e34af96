//! V2 over HTTP: to the byte, with JSON and with binary tensors.

use std::net::SocketAddr;

use air_core::BoxError;
use air_serve::v2::{DataType, Signature, Tensor};
use air_serve::{App, Deployment, Execution, each, run};
use serde_json::{Value, json};

use super::{port, server};
use crate::client::{Response, get, post, send};
use crate::gate::gated;

const IRIS: &str = "/v2/models/iris/infer";

fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

fn page(addr: SocketAddr, path: &str) -> Value {
    let response = get(addr, path);
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    json_of(&response)
}

/// Two flowers, versicolor and setosa.
fn flowers() -> Value {
    json!({ "id": "two", "inputs": [{
        "name": "X", "datatype": "FP32", "shape": [2, 4], "data": [[1.2, 1.0, 1.1, 0.9], [5.1, 3.5, 1.4, 0.2]],
    }]})
}

#[test]
fn the_server_and_its_models_describe_themselves() {
    let server = server();
    let addr = server.addr();
    assert_eq!(
        page(addr, "/v2"),
        json!({ "name": "air-serve", "version": "0.1.0", "extensions": ["binary_tensor_data", "schedule_policy"] })
    );
    assert_eq!(page(addr, "/v2/health/live"), json!({ "live": true }));
    assert_eq!(page(addr, "/v2/health/ready"), json!({ "ready": true }));
    assert_eq!(page(addr, "/v2/models"), json!({ "models": ["echo", "iris"] }));
    let iris = json!({
        "name": "iris", "versions": ["1"], "platform": "air_onnx",
        "inputs": [{ "name": "X", "datatype": "FP32", "shape": [-1, 4] }],
        "outputs": [
            { "name": "label", "datatype": "INT64", "shape": [-1] },
            { "name": "probabilities", "datatype": "FP32", "shape": [-1, 3] },
        ],
    });
    for path in ["/v2/models/iris", "/v2/models/iris/versions/1", "/v2/models/%69ris/"] {
        assert_eq!(page(addr, path), iris);
    }
    for path in ["/v2/models/iris/ready", "/v2/models/iris/versions/1/ready"] {
        assert_eq!(page(addr, path), json!({ "name": "iris", "ready": true }));
    }
}

#[test]
fn several_rows_are_one_request_and_outputs_come_in_the_order_asked_for() {
    let server = server();
    let addr = server.addr();
    // More often than it takes to move the model to the HTTP thread.
    for _ in 0..20 {
        let response = post(addr, IRIS, &flowers().to_string());
        assert_eq!(response.status, 200, "{}", response.body);
        let answer = json_of(&response);
        assert_eq!(
            (&answer["model_name"], &answer["model_version"], &answer["id"]),
            (&json!("iris"), &json!("1"), &json!("two"))
        );
        let [label, probabilities] = answer["outputs"].as_array().unwrap().as_slice() else {
            panic!("{answer}")
        };
        assert_eq!(label, &json!({ "name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0] }));
        assert_eq!(probabilities["shape"], json!([2, 3]));
        let sum: f64 = probabilities["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
        assert!((sum - 2.0).abs() < 1e-5, "{probabilities}");
    }
    let mut request = flowers();
    request["id"] = Value::Null;
    request["outputs"] = json!([{ "name": "probabilities" }, { "name": "label" }]);
    let answer = json_of(&post(addr, IRIS, &request.to_string()));
    assert_eq!(answer.get("id"), None);
    assert_eq!(
        (&answer["outputs"][0]["name"], &answer["outputs"][1]["data"]),
        (&json!("probabilities"), &json!([1, 0]))
    );
    // The route of the same deployment answers as before.
    assert_eq!(post(addr, "/iris", r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#).body, r#"{"result":"versicolor"}"#);
    let executed = "air_serve_batch_items_count{deployment=\"iris\"} 22";
    assert!(server.metrics().contains(executed), "{}", server.metrics());
}

#[test]
fn many_rows_are_not_evaluated_on_the_thread_of_connections() {
    let server = server();
    let addr = server.addr();
    let rows = |rows: usize| {
        let data: Vec<f64> = [1.2, 1.0, 1.1, 0.9].repeat(rows);
        json!({ "inputs": [{ "name": "X", "datatype": "FP32", "shape": [rows, 4], "data": data }] })
            .to_string()
    };
    for _ in 0..20 {
        assert_eq!(post(addr, IRIS, &rows(1)).status, 200);
    }
    // Whatever small requests do, one of many rows waits in the queue for a replica.
    let queued = |server: &air_serve::Server| -> usize {
        let metrics = server.metrics();
        let count = "air_serve_queue_seconds_count{deployment=\"iris\"} ";
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(count)).unwrap_or_else(|| panic!("{metrics}"));
        line.parse().unwrap()
    };
    let before = queued(&server);
    let answer = json_of(&post(addr, IRIS, &rows(100)));
    assert_eq!(answer["outputs"][0]["data"], json!(vec![1; 100]));
    assert_eq!(queued(&server), before + 1);
}

#[test]
fn every_type_travels_as_json_and_as_binary_data_in_both_directions() {
    let server = server();
    let addr = server.addr();
    let samples: [(DataType, Value, Vec<u8>); 14] = [
        (DataType::Bool, json!([true, false]), vec![1, 0]),
        (DataType::Uint8, json!([0, 255]), vec![0, 255]),
        (DataType::Uint16, json!([1, 65535]), vec![1, 0, 255, 255]),
        (DataType::Uint32, json!([1, u32::MAX]), [1, u32::MAX].map(u32::to_le_bytes).concat()),
        (DataType::Uint64, json!([1, u64::MAX]), [1, u64::MAX].map(u64::to_le_bytes).concat()),
        (DataType::Int8, json!([-1, 127]), vec![255, 127]),
        (DataType::Int16, json!([-1, 256]), vec![255, 255, 0, 1]),
        (DataType::Int32, json!([-1, i32::MIN]), [-1, i32::MIN].map(i32::to_le_bytes).concat()),
        (DataType::Int64, json!([-1, i64::MIN]), [-1, i64::MIN].map(i64::to_le_bytes).concat()),
        (DataType::Fp16, json!([1.0, -2.0]), vec![0, 0x3c, 0, 0xc0]),
        (DataType::Fp32, json!([0.5, 1.5]), [0.5, 1.5].map(f32::to_le_bytes).concat()),
        (DataType::Fp64, json!([0.1, 1e300]), [0.1, 1e300].map(f64::to_le_bytes).concat()),
        (DataType::Bf16, json!([1.0, -2.0]), vec![0x80, 0x3f, 0, 0xc0]),
        (DataType::Bytes, json!(["ä", ""]), b"\x02\0\0\0\xc3\xa4\0\0\0\0".to_vec()),
    ];
    let tensors = |prefix: &str, is_binary: bool| -> Vec<Value> {
        let tensor = |(datatype, data, bytes): &(DataType, Value, Vec<u8>)| {
            let mut tensor =
                json!({ "name": port(prefix, *datatype), "datatype": datatype.name(), "shape": [2] });
            if is_binary {
                tensor["parameters"] = json!({ "binary_data_size": bytes.len() });
            } else {
                tensor["data"] = data.clone();
            }
            tensor
        };
        samples.iter().map(tensor).collect()
    };
    let all: Vec<u8> = samples.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect();
    for (binary_in, binary_out) in [(false, false), (false, true), (true, false), (true, true)] {
        let request =
            json!({ "inputs": tensors("in", binary_in), "parameters": { "binary_data_output": binary_out } });
        let json = request.to_string();
        let body = if binary_in { [json.as_bytes(), &all].concat() } else { json.clone().into_bytes() };
        let headers = format!(
            "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n",
            json.len()
        );
        let response = send(addr, "POST", "/v2/models/echo/infer", &headers, body);
        assert_eq!(response.status, 200, "{}", response.body);
        let length = response.header("inference-header-content-length").map(|length| length.parse().unwrap());
        assert_eq!(length.is_some(), binary_out);
        let (head, binary) = response.bytes.split_at(length.unwrap_or(response.bytes.len()));
        let answer: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(answer["outputs"], json!(tensors("out", binary_out)));
        assert_eq!(binary, if binary_out { &all[..] } else { &[] });
        let kind = if binary_out { "application/octet-stream" } else { "application/json" };
        assert_eq!(response.header("content-type"), Some(kind));
    }
}

#[test]
fn what_does_not_fit_is_told_so() {
    let server = server();
    let addr = server.addr();
    let changed = |key: &str, value: Value| {
        let mut request = flowers();
        request["inputs"][0][key] = value;
        request.to_string()
    };
    for (body, status, says) in [
        (String::new(), 400, "no body"),
        ("{".to_owned(), 400, "not JSON"),
        ("[".repeat(200_000), 422, "does not fit"),
        ("{}".to_owned(), 422, "missing field `inputs`"),
        (json!({ "inputs": [] }).to_string(), 422, "expected the input `X`: FP32 [-1, 4], got none"),
        (changed("name", json!("Y")), 422, "expected the inputs `X`, got the input `Y`"),
        (changed("datatype", json!("FP64")), 422, "expected FP32 [-1, 4], got FP64 [2, 4] for the input `X`"),
        (changed("datatype", json!("float")), 422, "`float` is no datatype"),
        (changed("shape", json!([8])), 422, "nested deeper than its shape [8]"),
        (changed("shape", json!([3, 4])), 422, "at depth 0 of its data has 2 items"),
        (changed("shape", json!([4, 2])), 422, "at depth 1 of its data has 4 items"),
        (changed("shape", json!([1_u64 << 40, 1 << 20, 1 << 20])), 422, "too many elements"),
        (changed("shape", json!([-1, 4])), 422, "-1"),
        (changed("data", json!([1, 2])), 422, "has 8 elements, its data 2"),
        (changed("data", json!("DEEP")).replace("\"DEEP\"", &"[".repeat(50_000)), 400, "not JSON"),
        (
            changed("data", json!("DEEP"))
                .replace("\"DEEP\"", &format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))),
            422,
            "nested deeper",
        ),
        (changed("data", json!(["a"])), 422, "element 0 is \"a\", which is no FP32"),
        (changed("data", Value::Null), 422, "neither data nor binary_data_size"),
        (changed("parameters", json!({ "shared_memory_region": "r" })), 400, "shared_memory_region"),
    ] {
        let response = post(addr, IRIS, &body);
        let start: String = body.chars().take(200).collect();
        assert_eq!(response.status, status, "{start}: {}", response.body);
        let error = json_of(&response)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(says), "{start}: {error}");
    }
    let mut request = flowers();
    request["outputs"] = json!([{ "name": "other" }]);
    let response = post(addr, IRIS, &request.to_string());
    assert_eq!(response.status, 422);
    assert!(
        response.body.contains("expected the outputs `label`, `probabilities`, got `other`"),
        "{}",
        response.body
    );
    for length in ["9999", "-1", "+2", "x", "18446744073709551616"] {
        let headers = format!("Inference-Header-Content-Length: {length}\r\n");
        assert_eq!(send(addr, "POST", IRIS, &headers, flowers().to_string()).status, 400, "{length}");
    }
    assert_eq!(post(addr, IRIS, &flowers().to_string()).status, 200);
}

#[test]
fn paths_methods_and_types_that_are_not_there() {
    let server = server();
    let addr = server.addr();
    for path in [
        "/v2/nothing",
        "/v2/models/none",
        "/v2/models/none/ready",
        "/v2/models/iris/versions/2",
        "/v2/models/iris/x",
        "/v2//",
    ] {
        let response = get(addr, path);
        assert_eq!(response.status, if path == "/v2//" { 200 } else { 404 }, "{path}: {}", response.body);
    }
    assert!(get(addr, "/v2/models/none").body.contains("no model `none`"));
    assert!(get(addr, "/v2/models/iris/versions/2").body.contains("no version `2`: it has 1"));
    assert_eq!(post(addr, "/v2/models/none/infer", "{}").status, 404);
    for (method, path, allow) in
        [("GET", IRIS, "POST"), ("DELETE", "/v2/models/iris", "GET"), ("POST", "/v2", "GET")]
    {
        let response = send(addr, method, path, "", "");
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(send(addr, "POST", IRIS, "Content-Type: image/png\r\n", flowers().to_string()).status, 415);
    assert_eq!(send(addr, "POST", IRIS, "Content-Encoding: gzip\r\n", flowers().to_string()).status, 415);
    let response = post(addr, "/v2/repository/index", "");
    assert_eq!(response.status, 400);
    assert!(response.body.contains("--repository DIR"), "{}", response.body);
}

/// A deployment that waits at a gate, with one number for a tensor.
pub fn one_number() -> (crate::gate::Gate, Deployment<crate::gate::Gated>) {
    struct Number(Signature);
    impl air_serve::v2::TensorCodec<i64, i64> for Number {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn decode(&self, inputs: Vec<Tensor>) -> Result<i64, air_serve::CallError> {
            Ok(inputs[0].elements::<i64>().unwrap()[0])
        }
        fn encode(&self, output: i64) -> Result<Vec<Tensor>, BoxError> {
            Ok(vec![Tensor::new("y", [1], &[output])?])
        }
    }
    let signature = Signature::new().input("x", DataType::Int64, [1]).output("y", DataType::Int64, [1]);
    let (gate, deployment) = gated("model");
    (gate, deployment.tensors(Number(signature)))
}

fn number(x: i64) -> String {
    json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [x] }] }).to_string()
}

#[test]
fn a_full_queue_is_503_a_late_answer_504_and_a_panic_500() {
    let (gate, deployment) = one_number();
    let deployment = deployment.with(|config| {
        config.execution = Execution::Thread;
        config.max_queued_requests = 1;
        config.request_timeout_s = 20.0;
    });
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let addr = server.addr();
    let path = "/v2/models/model/infer";
    let handle = server.handle::<i64, i64>("model").unwrap();
    let running = handle.call(1);
    gate.started.recv().unwrap();
    let queued = handle.call(2);
    let busy = post(addr, path, &number(3));
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")), "{}", busy.body);
    drop(queued);
    // The request's own limit, in microseconds, is far below the deployment's.
    let mut late: Value = serde_json::from_str(&number(4)).unwrap();
    late["parameters"] = json!({ "timeout": 10_000 });
    let late = post(addr, path, &late.to_string());
    assert_eq!(late.status, 504, "{}", late.body);
    gate.open.send(()).unwrap();
    assert_eq!(futures::executor::block_on(running).unwrap(), 1);
    gate.open.send(()).unwrap();
    let failed = post(addr, path, &number(crate::gate::PANIC));
    assert_eq!(failed.status, 500);
    assert!(failed.body.contains("replica model#0 panicked: told to panic"), "{}", failed.body);
    gate.open.send(()).unwrap();
    assert_eq!(json_of(&post(addr, path, &number(5)))["outputs"][0]["data"], json!([5]));
    assert_eq!(gate.seen.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn an_answer_that_is_not_what_the_signature_says_is_the_servers_error() {
    let signature = Signature::new().output("y", DataType::Int64, [1]);
    let wrong =
        |_: Vec<Tensor>| -> Result<Vec<Tensor>, BoxError> { Ok(vec![Tensor::new("z", [1], &[1i64])?]) };
    let deployment = Deployment::new("wrong", move || Ok(each(wrong))).tensors(signature);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let response = post(server.addr(), "/v2/models/wrong/infer", r#"{"inputs": []}"#);
    assert_eq!(response.status, 500);
    assert!(response.body.contains("gave the outputs"), "{}", response.body);
}

#[test]
fn a_body_that_came_as_gzip_is_read_where_compression_is_configured() {
    let server = run(super::app().with_http(|http| http.compression.gzip = true)).unwrap();
    let packed = crate::policy::gzip(flowers().to_string().as_bytes());
    let response = send(server.addr(), "POST", IRIS, "Content-Encoding: gzip\r\n", packed);
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(json_of(&response)["outputs"][0]["data"], json!([1, 0]));
}

#[test]
fn the_openapi_document_has_every_route_and_model_and_its_pages_are_there() {
    let server = server();
    let addr = server.addr();
    let document = page(addr, "/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    for path in ["/iris", "/v2/models/iris/infer", "/v2/models/echo/infer"] {
        assert!(paths[path]["post"].is_object(), "{path}: {paths:?}");
    }
    let pages: Vec<&String> =
        paths.iter().filter(|(_, item)| item["get"].is_object()).map(|(path, _)| path).collect();
    assert!(pages.len() >= 12, "{pages:?}");
    for path in pages {
        assert_eq!(get(addr, path).status, 200, "{path}");
    }
    assert!(!paths.contains_key("/v2/repository/index"));
}

#[test]
fn a_model_that_is_named_like_a_path_is_reached_by_escapes() {
    let signature = Signature::new().output("y", DataType::Int64, [1]);
    let one = |_: Vec<Tensor>| -> Result<Vec<Tensor>, BoxError> { Ok(vec![Tensor::new("y", [1], &[1i64])?]) };
    let deployment = Deployment::new("a/ä b", move || Ok(each(one))).tensors(signature);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    assert_eq!(get(server.addr(), "/v2/models/a%2F%C3%A4%20b/ready").status, 200);
}
