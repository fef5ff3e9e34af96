//! Our side of the comparison: every workload as a route of one server, which has everything on that a server ships with.
//!
//!     cargo run --release -p air-serve --example bench_serve -- --port 8100

use std::path::Path;
use std::time::Duration;

use air_core::BoxError;
use air_serve::onnx::OnnxModel;
use air_serve::{
    App, AutoscalingConfig, Deployment, DeploymentConfig, Execution, HttpConfig, Model, each, run,
};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// As in the `air-serve` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 8100)]
    port: u16,
    /// HTTP threads, and replicas of the iris model.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Deserialize)]
struct Number {
    x: f64,
}

#[derive(Serialize)]
struct Doubled {
    y: f64,
}

/// A device that is busy for 5 ms with a batch, whatever its size.
struct Device;

impl Model for Device {
    type In = Number;
    type Out = Doubled;

    fn predict(&mut self, batch: Vec<Number>) -> Result<Vec<Doubled>, BoxError> {
        std::thread::sleep(Duration::from_millis(5));
        Ok(batch.into_iter().map(|number| Doubled { y: 2.0 * number.x }).collect())
    }
}

fn device(name: &str, change: impl FnOnce(&mut DeploymentConfig)) -> Deployment<Device> {
    Deployment::new(name, || Ok(Device)).with(|config| config.max_batch_size = 32).with(change)
}

fn scaled(config: &mut DeploymentConfig) {
    let mut scaling = AutoscalingConfig::default();
    (scaling.min_replicas, scaling.max_replicas, scaling.downscale_delay_s) = (1, 8, 1.0);
    config.autoscaling_config = Some(scaling);
    config.max_batch_size = 1;
    config.max_queued_requests = 10_000;
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/iris_gbc.onnx");
    let iris = OnnxModel::load(file)?.with_names(["setosa", "versicolor", "virginica"])?;
    let replicas = |config: &mut DeploymentConfig| config.num_replicas = options.threads;

    let mut http = HttpConfig::default();
    http.port = options.port;
    http.threads = options.threads;
    let app = App::new()
        .http(http)
        .route("/hello", Deployment::new("hello", || Ok(each(|()| Ok("Hello world!")))).with(replicas))
        .route("/echo", Deployment::new("echo", || Ok(each(|value: Value| Ok(value)))).with(replicas))
        .route("/bytes", Deployment::new("bytes", || Ok(each(|text: String| Ok(text.len())))).with(replicas))
        .route("/iris", Deployment::onnx("iris", iris.clone()).with(replicas))
        .route(
            "/thread",
            Deployment::onnx("thread", iris).with(|config| config.execution = Execution::Thread),
        )
        .route("/batch", device("batch", |_| ()))
        // Its callers wait for at most 100 ms, and far more of them come than it can serve.
        .route("/overload", device("overload", |config| config.request_timeout_s = 0.1))
        // One at a time, on as many replicas as its load asks for.
        .route("/scale", device("scale", scaled));
    let server = run(app)?;
    println!("serving http://{}", server.addr());
    Ok(server.wait()?)
}
