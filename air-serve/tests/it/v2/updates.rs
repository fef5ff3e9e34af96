//! Updates that change what a model takes: each request is checked against the version that answers it.

use std::thread;

use air_core::BoxError;
use air_serve::v2::{DataType, Signature, Tensor};
use air_serve::{App, Deployment, Execution, Model, Server, each, run};
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};

use crate::client::{Response, get, post};
use crate::wait::until;

const PATH: &str = "/v2/models/model/infer";

/// Gives back its one number, of the version's own type and under the version's own name.
struct Named {
    output: &'static str,
    started: Sender<()>,
    open: Receiver<()>,
}

impl Model for Named {
    type In = Vec<Tensor>;
    type Out = Vec<Tensor>;

    fn predict(&mut self, batch: Vec<Vec<Tensor>>) -> Result<Vec<Vec<Tensor>>, BoxError> {
        // The test may have ended already.
        let _ = self.started.send(());
        let _ = self.open.recv();
        let answer = |mut inputs: Vec<Tensor>| -> Result<Vec<Tensor>, BoxError> {
            let input = inputs.remove(0);
            Ok(vec![Tensor::from_bytes(self.output, input.datatype(), input.shape(), input.bytes().clone())?])
        };
        batch.into_iter().map(answer).collect()
    }
}

/// The test's side of a version.
struct Version {
    started: Receiver<()>,
    /// Dropped, it lets every request through.
    open: Sender<()>,
}

/// A version that takes a number of that type as `x`, and gives it back under that name.
fn version(label: &str, datatype: DataType, output: &'static str) -> (Version, Deployment<Named>) {
    let ((started, seen), (open, opened)) = (unbounded(), unbounded());
    let build = move || Ok(Named { output, started: started.clone(), open: opened.clone() });
    let signature = Signature::new().input("x", datatype, [1]).output(output, datatype, [1]);
    let deployment = Deployment::new("model", build).version(label).tensors(signature).with(|config| {
        config.execution = Execution::Thread;
        config.request_timeout_s = 60.0;
    });
    (Version { started: seen, open }, deployment)
}

fn serve(deployment: Deployment<impl Model>) -> Server {
    run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap()
}

fn ask(server: &Server, datatype: &str, x: i64) -> Response {
    let input = json!({ "name": "x", "datatype": datatype, "shape": [1], "data": [x] });
    post(server.addr(), PATH, &json!({ "inputs": [input] }).to_string())
}

/// The name of the output and its value.
fn answer(response: &Response) -> (String, i64) {
    assert_eq!(response.status, 200, "{}", response.body);
    let body: Value = serde_json::from_str(&response.body).unwrap();
    let output = &body["outputs"][0];
    (output["name"].as_str().unwrap().to_owned(), output["data"][0].as_f64().unwrap() as i64)
}

fn serving(server: &Server) -> String {
    server.status().applications["default"].deployments["model"].version.clone()
}

fn queued(server: &Server) -> usize {
    server.status().applications["default"].deployments["model"].queued
}

#[test]
fn what_was_let_in_is_answered_by_the_version_that_it_was_checked_against() {
    let (old, deployment) = version("old", DataType::Fp32, "y");
    let (new, next) = version("new", DataType::Int64, "z");
    let server = serve(deployment);
    thread::scope(|scope| {
        let running = scope.spawn(|| ask(&server, "FP32", 1));
        old.started.recv().unwrap();
        let waiting = scope.spawn(|| ask(&server, "FP32", 2));
        until("the second waits", || queued(&server) == 1);
        drop(new.open);
        server.update(next).unwrap();
        assert_eq!(serving(&server), "new");
        // The new version is what there is to new requests, and to who asks what it takes.
        assert_eq!(answer(&ask(&server, "INT64", 3)), ("z".to_owned(), 3));
        let refused = ask(&server, "FP32", 4);
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.body.contains("expected INT64 [1]"), "{}", refused.body);
        let described = get(server.addr(), "/v2/models/model").body;
        assert!(described.contains(r#""datatype":"INT64""#) && !described.contains("FP32"), "{described}");
        drop(old.open);
        assert_eq!(answer(&running.join().unwrap()), ("y".to_owned(), 1));
        assert_eq!(answer(&waiting.join().unwrap()), ("y".to_owned(), 2));
    });
}

#[test]
fn where_nothing_changes_for_them_requests_that_wait_go_to_the_new_version() {
    let (old, deployment) = version("old", DataType::Fp32, "y");
    let (new, next) = version("new", DataType::Fp32, "y");
    let server = serve(deployment);
    thread::scope(|scope| {
        let running = scope.spawn(|| ask(&server, "FP32", 1));
        old.started.recv().unwrap();
        let waiting = scope.spawn(|| ask(&server, "FP32", 2));
        until("the second waits", || queued(&server) == 1);
        drop(new.open);
        server.update(next).unwrap();
        // The old version is still at the first.
        assert_eq!(answer(&waiting.join().unwrap()), ("y".to_owned(), 2));
        drop(old.open);
        assert_eq!(answer(&running.join().unwrap()), ("y".to_owned(), 1));
    });
}

#[test]
fn while_both_versions_run_each_request_goes_to_one_that_it_fits() {
    let (old, deployment) = version("old", DataType::Fp32, "y");
    let (new, next) = version("new", DataType::Int64, "z");
    drop((old.open, new.open));
    let server = serve(deployment);
    server.canary(next, 0.5).unwrap();
    for x in 0..8 {
        assert_eq!(answer(&ask(&server, "FP32", x)), ("y".to_owned(), x));
        assert_eq!(answer(&ask(&server, "INT64", x)), ("z".to_owned(), x));
        assert_eq!(ask(&server, "BOOL", x % 2).status, 422);
    }
    server.roll_back("model", "it is no better").unwrap();
    assert_eq!(answer(&ask(&server, "FP32", 1)), ("y".to_owned(), 1));
    assert_eq!(ask(&server, "INT64", 1).status, 422);
}

#[test]
fn what_no_version_is_left_to_answer_is_told_to_come_again() {
    let (old, deployment) = version("old", DataType::Fp32, "y");
    let (new, next) = version("new", DataType::Int64, "z");
    let server = serve(deployment.with(|config| config.graceful_shutdown_timeout_s = 0.05));
    thread::scope(|scope| {
        let running = scope.spawn(|| ask(&server, "FP32", 1));
        old.started.recv().unwrap();
        let waiting = scope.spawn(|| ask(&server, "FP32", 2));
        until("the second waits", || queued(&server) == 1);
        drop(new.open);
        server.update(next).unwrap();
        let (running, waiting) = (running.join().unwrap(), waiting.join().unwrap());
        assert_eq!(running.status, 500, "{}", running.body);
        assert!(running.body.contains("replica model#0 was given up"), "{}", running.body);
        assert_eq!((waiting.status, waiting.header("retry-after")), (503, Some("1")), "{}", waiting.body);
        assert!(waiting.body.contains("takes other tensors now"), "{}", waiting.body);
        drop(old.open);
    });
}

#[test]
fn a_version_that_says_nothing_of_tensors_reads_them_as_the_one_before() {
    let (old, deployment) = version("old", DataType::Fp32, "y");
    drop(old.open);
    let server = serve(deployment);
    let negative = |mut inputs: Vec<Tensor>| {
        let x = inputs.remove(0).elements::<f32>()?[0];
        Ok(vec![Tensor::new("y", [1], &[-x])?])
    };
    server.update(Deployment::new("model", move || Ok(each(negative))).version("new")).unwrap();
    assert_eq!(answer(&ask(&server, "FP32", 3)), ("y".to_owned(), -3));
}
