//! What one request costs, layer by layer.
//!
//!     cargo bench -p air-serve
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;

use air_serve::onnx::{OnnxAnswer, OnnxModel, OnnxRequest, Vector};
use air_serve::{App, Deployment, DeploymentHandle, Execution, Server, each, each_async, run};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn iris() -> OnnxModel {
    let file =
        [env!("CARGO_MANIFEST_DIR"), "../examples/data/iris_gbc.onnx"].iter().collect::<std::path::PathBuf>();
    OnnxModel::load(file).unwrap().with_names(["setosa", "versicolor", "virginica"]).unwrap()
}

fn vectors(count: usize) -> Vec<Vector> {
    (0..count)
        .map(|row| Vector { vector: vec![1.2 + (row % 7) as f64, 1.0, 1.1 + (row % 5) as f64, 0.9] })
        .collect()
}

/// The 300 trees, a row at a time.
#[divan::bench(args = [1, 32, 1024])]
fn trees(bencher: Bencher<'_, '_>, rows: usize) {
    let (model, batch) = (iris(), vectors(rows));
    bencher.counter(ItemsCount::new(rows)).bench(|| model.predict(&batch).unwrap());
}

const BODY: &[u8] = br#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;

/// JSON in.
#[divan::bench]
fn json_in(bencher: Bencher<'_, '_>) {
    bencher.bench(|| serde_json::from_slice::<Vector>(divan::black_box(BODY)).unwrap());
}

/// JSON in, trees, JSON out: the work of a request without HTTP.
#[divan::bench]
fn json_to_json(bencher: Bencher<'_, '_>) {
    let model = iris();
    bencher.bench(|| {
        let input: Vector = serde_json::from_slice(divan::black_box(BODY)).unwrap();
        serde_json::to_vec(&model.predict(&[input]).unwrap()[0]).unwrap()
    });
}

fn served(execution: Execution) -> (Server, DeploymentHandle<u64, u64>) {
    let deployment =
        Deployment::new("echo", || Ok(each(|x: u64| Ok(x)))).with(|config| config.execution = execution);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle("echo").unwrap();
    (server, handle)
}

/// A call from within the process of a model that does nothing: in place, and on a replica's thread.
#[divan::bench(args = [Execution::Inline, Execution::Thread])]
fn call(bencher: Bencher<'_, '_>, execution: Execution) {
    let (_server, handle) = served(execution);
    bencher.bench(|| handle.call_blocking(1).unwrap());
}

/// JSON to JSON through a deployment whose model is called in place: what is left of a request is HTTP.
#[divan::bench]
fn json_to_json_deployed(bencher: Bencher<'_, '_>) {
    let deployment = Deployment::onnx("iris", iris()).with(|config| config.execution = Execution::Inline);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle::<OnnxRequest, OnnxAnswer>("iris").unwrap();
    bencher.bench(|| {
        let input: OnnxRequest = serde_json::from_slice(divan::black_box(BODY)).unwrap();
        serde_json::to_vec(&handle.call_blocking(input).unwrap()).unwrap()
    });
}

/// 64 calls under way at a time on one replica.
#[divan::bench]
fn calls_64_at_a_time(bencher: Bencher<'_, '_>) {
    let (_server, handle) = served(Execution::Thread);
    bencher.counter(ItemsCount::new(64usize)).bench(|| {
        let calls: Vec<_> = (0..64).map(|x| handle.call(x)).collect();
        futures::executor::block_on(futures::future::join_all(calls))
    });
}

/// A call of an async model that waits for nothing: one hop.
#[divan::bench]
fn async_call(bencher: Bencher<'_, '_>) {
    let deployment = Deployment::new("echo", || Ok(each_async(|x: u64| async move { Ok(x) })));
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle::<u64, u64>("echo").unwrap();
    bencher.bench(|| handle.call_blocking(1).unwrap());
}

/// 64 of them under way at a time.
#[divan::bench]
fn async_calls_64_at_a_time(bencher: Bencher<'_, '_>) {
    let deployment = Deployment::new("echo", || Ok(each_async(|x: u64| async move { Ok(x) })));
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle::<u64, u64>("echo").unwrap();
    bencher.counter(ItemsCount::new(64usize)).bench(|| {
        let calls: Vec<_> = (0..64).map(|x| handle.call(x)).collect();
        futures::executor::block_on(futures::future::join_all(calls))
    });
}

/// Two models in a chain, called by an async one, 64 at a time; the models in place or on threads of their own.
#[divan::bench(args = [Execution::Inline, Execution::Thread])]
fn chains_of_two_64_at_a_time(bencher: Bencher<'_, '_>, execution: Execution) {
    let link = |name: &'static str| {
        Deployment::new(name, || Ok(each(|x: u64| Ok(x + 1)))).with(|config| config.execution = execution)
    };
    let (first, second) = (link("first"), link("second"));
    let chain = Deployment::composed("chain", (first.handle(), second.handle()), |(first, second)| {
        Ok(each_async(move |x: u64| {
            let (first, second) = (first.clone(), second.clone());
            async move { Ok(second.call(first.call(x).await?).await?) }
        }))
    });
    let app = App::new().with_http(|http| http.port = 0).deploy(first).deploy(second).deploy(chain);
    let server = run(app).unwrap();
    let handle = server.handle::<u64, u64>("chain").unwrap();
    bencher.counter(ItemsCount::new(64usize)).bench(|| {
        let calls: Vec<_> = (0..64).map(|x| handle.call(x)).collect();
        futures::executor::block_on(futures::future::join_all(calls))
    });
}

/// A request and its answer on one open connection: the whole way.
#[divan::bench]
fn http_round_trip(bencher: Bencher<'_, '_>) {
    let server =
        run(App::new().with_http(|http| http.port = 0).route("/iris", Deployment::onnx("iris", iris())))
            .unwrap();
    assert_eq!(server.handle::<OnnxRequest, OnnxAnswer>("iris").unwrap().name(), "iris");
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!("POST /iris HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n", BODY.len());
    let request = [head.as_bytes(), BODY].concat();
    let mut answer = [0u8; 4096];
    bencher.bench_local(|| {
        stream.write_all(&request).unwrap();
        let mut read = 0;
        while !answer[..read].ends_with(b"}") {
            read += stream.read(&mut answer[read..]).unwrap();
        }
    });
}
