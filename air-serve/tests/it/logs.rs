//! What the program writes to its log.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::{post, send};
use crate::{examples, lines};

/// The lines on stderr of a server that answered four requests.
fn log_of(args: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-serve"));
    command.arg("run").arg(examples("iris_gbc.onnx")).args(["--route", "/iris", "--port", "0"]).args(args);
    command.env_remove("AIR_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = lines::Running(command.spawn().unwrap());
    let addr = server.addr();
    let body = r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;
    assert_eq!(send(addr, "POST", "/iris?secret=1", "x-request-id: first\r\n", body).status, 200);
    assert_eq!(post(addr, "/iris", "{}").status, 422);
    assert_eq!(post(addr, "/nowhere\"", "").status, 404);
    assert_eq!(post(addr, "/iris", body).status, 200);
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_line_is_json_and_tells_a_request() {
    let lines = log_of(&["--log-format", "json", "--set", "http.access_log=1"]);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["target"] == "air_serve::access").collect();
    let told: Vec<_> = requests
        .iter()
        .map(|line| {
            (
                line["method"].as_str().unwrap(),
                line["route"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("POST", "/iris", 200), ("POST", "/iris", 422), ("POST", "/nowhere\"", 404), ("POST", "/iris", 200)]
    );
    assert_eq!(requests[0]["request_id"], "first");
    assert!(requests.iter().all(|line| line["latency_ms"].as_f64().unwrap() > 0.0));
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("told to end")))
    );
}

#[test]
fn requests_get_no_line_unless_asked_for_and_then_as_many_as_asked_for() {
    let count = |args: &[&str]| log_of(args).iter().filter(|line| line.contains("air_serve::access")).count();
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&["--set", "http.access_log=0.5"]), 2);
}
