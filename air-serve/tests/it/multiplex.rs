//! Many models behind one deployment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use air_core::BoxError;
use air_serve::v2::{DataType, Signature, Tensor, TensorCodec};
use air_serve::{App, CallError, Deployment, DeploymentHandle, Model, Multiplexed, Server, run};
use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::executor::block_on;

use crate::client::{post, send};
use crate::wait::until;

/// Says who it is and where it ran; tells the test when it goes, and on which thread.
struct Named {
    id: String,
    gone: Sender<(String, thread::ThreadId)>,
}

impl Model for Named {
    type In = i64;
    type Out = (String, i64, String);

    fn predict(&mut self, batch: Vec<i64>) -> Result<Vec<Self::Out>, BoxError> {
        assert!(!batch.contains(&-1), "told to panic");
        let here = format!("{:?}", thread::current().id());
        Ok(batch.into_iter().map(|x| (self.id.clone(), x, here.clone())).collect())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.gone.send((self.id.clone(), thread::current().id()));
    }
}

/// One number as a tensor, and the name of the model that answered as another.
struct Numbers(Signature);

impl Default for Numbers {
    fn default() -> Self {
        let signature = Signature::new().input("x", DataType::Int64, [1]);
        Numbers(signature.output("id", DataType::Bytes, [1]).output("y", DataType::Int64, [1]))
    }
}

impl TensorCodec<i64, (String, i64, String)> for Numbers {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn decode(&self, inputs: Vec<Tensor>) -> Result<i64, CallError> {
        Ok(inputs[0].elements::<i64>().unwrap()[0])
    }

    fn encode(&self, (id, x, _): (String, i64, String)) -> Result<Vec<Tensor>, BoxError> {
        Ok(vec![Tensor::of_strings("id", [1], [id])?, Tensor::new("y", [1], &[x])?])
    }
}

#[test]
fn a_request_of_protocol_v2_chooses_by_header_or_by_parameter() {
    let bench = bench(2, 1);
    let infer = |headers: &str, parameters: &str| {
        let input = r#"{"name": "x", "datatype": "INT64", "shape": [1], "data": [7]}"#;
        let body = format!(r#"{{"parameters": {{{parameters}}}, "inputs": [{input}]}}"#);
        let response = send(bench.server.addr(), "POST", "/v2/models/model/infer", headers, body);
        (response.status, response.body)
    };
    let says = |(status, body): (u16, String), id: &str| {
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!(r#""data":["{id}"]"#)) && body.contains(r#""data":[7]"#), "{body}");
    };
    says(infer("serve_multiplexed_model_id: a\r\n", ""), "a");
    says(infer("", r#""serve_multiplexed_model_id": "b""#), "b");
    // What the request itself says counts.
    says(infer("serve_multiplexed_model_id: a\r\n", r#""serve_multiplexed_model_id": "b""#), "b");
    let (status, body) = infer("", "");
    assert!(status >= 400 && body.contains("serve_multiplexed_model_id"), "{status} {body}");
    let (status, body) = infer("x-request-timeout-seconds: soon\r\n", "");
    assert!(status == 400 && body.contains("x-request-timeout-seconds"), "{status} {body}");
}

struct Bench {
    server: Server,
    handle: DeploymentHandle<i64, (String, i64, String)>,
    /// The ids whose load has begun; those that begin with `slow` wait to be let through.
    loading: Receiver<String>,
    open: Sender<()>,
    gone: Receiver<(String, thread::ThreadId)>,
    loads: Arc<AtomicUsize>,
}

fn bench(most: usize, replicas: usize) -> Bench {
    let ((began, loading), (open, opened), (left, gone)) = (unbounded(), unbounded::<()>(), unbounded());
    let loads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&loads);
    let deployment: Deployment<Multiplexed<Named>> = Deployment::multiplexed("model", most, move |id| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = began.send(id.to_owned());
        if id.starts_with("slow") {
            opened.recv()?;
        }
        if id == "none" {
            return Err("no such weights".into());
        }
        Ok(Named { id: id.to_owned(), gone: left.clone() })
    });
    let app = App::new().with_http(|http| http.port = 0);
    let deployment = deployment.tensors(Numbers::default()).with(|config| config.num_replicas = replicas);
    let server = run(app.route("/model", deployment)).unwrap();
    let handle = server.handle("model").unwrap();
    Bench { server, handle, loading, open, gone, loads }
}

impl Bench {
    fn ask(&self, id: &str, x: i64) -> Result<(String, i64), CallError> {
        self.handle.multiplexed(id).call_blocking(x).map(|(id, x, _)| (id, x))
    }

    fn held(&self) -> Vec<BTreeSet<String>> {
        let status = self.server.status();
        let replicas = &status.applications["default"].deployments["model"].replicas;
        replicas.iter().map(|replica| replica.models.iter().cloned().collect()).collect()
    }
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn a_model_is_loaded_once_for_all_who_ask_and_holds_up_nobody_else() {
    let bench = bench(3, 1);
    assert_eq!(bench.ask("a", 1).unwrap(), ("a".to_owned(), 1));
    let waiting: Vec<_> = (0..5).map(|x| bench.handle.multiplexed("slow").call(x)).collect();
    assert_eq!((bench.loading.recv().unwrap(), bench.loading.recv().unwrap()), ("a".into(), "slow".into()));
    assert_eq!(bench.ask("a", 2).unwrap().1, 2, "while the other is loaded");
    assert_eq!(bench.ask("b", 3).unwrap().1, 3);
    assert_eq!(bench.held(), [set(&["a", "b", "slow"])]);
    bench.open.send(()).unwrap();
    for (x, call) in waiting.into_iter().enumerate() {
        let (id, answer, _) = block_on(call).unwrap();
        assert_eq!((id.as_str(), answer), ("slow", x as i64));
    }
    assert_eq!(bench.loads.load(Ordering::SeqCst), 3);
    let metrics = bench.server.metrics();
    for line in [
        "air_serve_multiplexed_loads_total{deployment=\"model\"} 3",
        "air_serve_multiplexed_hits_total{deployment=\"model\"} 1",
        "air_serve_multiplexed_evictions_total{deployment=\"model\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn the_least_recently_used_goes_and_not_on_the_thread_of_requests() {
    let bench = bench(2, 1);
    let (.., thread_of_requests) = bench.handle.multiplexed("a").call_blocking(1).unwrap();
    bench.ask("b", 1).unwrap();
    bench.ask("a", 2).unwrap();
    bench.ask("c", 1).unwrap();
    let (gone, thread_of_drop) = bench.gone.recv().unwrap();
    assert_eq!(gone, "b");
    assert_ne!(format!("{thread_of_drop:?}"), thread_of_requests);
    assert_eq!(bench.held(), [set(&["a", "c"])]);
    // While every place is loaded into, the next waits.
    let slow: Vec<_> =
        ["slow-1", "slow-2", "d"].iter().map(|id| bench.handle.multiplexed(*id).call(7)).collect();
    until("both are loaded", || bench.held() == [set(&["slow-1", "slow-2"])]);
    (0..2).for_each(|_| bench.open.send(()).unwrap());
    let ids: Vec<_> = slow.into_iter().map(|call| block_on(call).unwrap().0).collect();
    assert_eq!(ids, ["slow-1", "slow-2", "d"]);
}

#[test]
fn a_load_that_fails_is_told_to_those_who_asked_for_it_and_tried_again() {
    let bench = bench(2, 1);
    bench.ask("a", 1).unwrap();
    for loads in [2, 3] {
        let error = bench.ask("none", 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "replica model#0 failed: model `none` could not be loaded: no such weights"
        );
        assert_eq!(bench.loads.load(Ordering::SeqCst), loads);
        assert_eq!(bench.ask("a", 2).unwrap().1, 2);
    }
    assert_eq!(bench.held(), [set(&["a"])]);
    assert!(matches!(bench.ask("a", -1), Err(CallError::Panicked { .. })));
    assert_eq!(bench.gone.recv().unwrap().0, "a", "what a panic left behind is not used again");
    assert_eq!(bench.ask("a", 3).unwrap().1, 3);
    assert_eq!(bench.loads.load(Ordering::SeqCst), 4);
}

#[test]
fn requests_go_to_the_replica_that_holds_their_model() {
    let bench = bench(1, 3);
    for id in ["a", "b", "c"] {
        // While that one loads, it is left to others to load the next.
        bench.ask(id, 0).unwrap();
    }
    let held = bench.held();
    let all: BTreeSet<_> = held.iter().flatten().cloned().collect();
    let loads = bench.loads.load(Ordering::SeqCst);
    let ids: Vec<_> = all.iter().cycle().take(60).collect();
    for id in &ids {
        assert_eq!(bench.ask(id, 1).unwrap().0, **id);
    }
    assert_eq!(bench.loads.load(Ordering::SeqCst), loads, "{held:?}");
}

#[test]
fn the_header_says_which_and_without_it_the_request_does_not_fit() {
    let bench = bench(2, 1);
    let addr = bench.server.addr();
    let asked = send(addr, "POST", "/model", "serve_multiplexed_model_id: de\r\n", "4");
    assert!(asked.status == 200 && asked.body.starts_with("[\"de\",4,"), "{}", asked.body);
    let without = post(addr, "/model", "4");
    assert_eq!(without.status, 422);
    assert!(without.body.contains("the header `serve_multiplexed_model_id`"), "{}", without.body);
    let long = "x".repeat(129);
    assert_eq!(
        send(addr, "POST", "/model", &format!("serve_multiplexed_model_id: {long}\r\n"), "4").status,
        400
    );
    assert_eq!(bench.ask(&long, 1).unwrap_err().status(), 422);
    assert_eq!(bench.loads.load(Ordering::SeqCst), 1);
    let none = Deployment::multiplexed("model", 0, |_| Ok(air_serve::each(|x: i64| Ok(x))));
    let error = run(App::new().with_http(|http| http.port = 0).deploy(none)).unwrap_err().to_string();
    assert!(error.contains("let it hold one at the least"), "{error}");
}
