//! furnace-server, a model server in Rust (axum, KServe V2), with the models of the comparison: POST `/predict` with `{"input": [numbers]}`.
//!
//!     CARGO_TARGET_DIR=target cargo run --release --manifest-path bench/serve/furnace/Cargo.toml -- --port 8100 [--batch]

use std::path::Path;
use std::time::Duration;

use air_core::BoxError;
use air_serve::onnx::{OnnxModel, Prediction, Vector};
use clap::Parser;
use furnace::error::ModelError;
use furnace::{HostTensor, IoSpec, Model, Server, TensorModel, Values};

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 8100)]
    port: u16,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Serve the device that is busy for 5 ms with a batch of up to 32, instead of iris.
    #[arg(long)]
    batch: bool,
}

/// The same trees as ours, evaluated by the same code; it answers with the number of the class.
#[derive(Debug)]
struct Iris(OnnxModel);

impl TensorModel for Iris {
    fn name(&self) -> &str {
        "iris"
    }

    fn backend(&self) -> &str {
        "cpu"
    }

    fn inputs(&self) -> Vec<IoSpec> {
        vec![IoSpec::fp32("input", &[4])]
    }

    fn outputs(&self) -> Vec<IoSpec> {
        vec![IoSpec::fp32("output", &[1])]
    }

    fn run(&self, inputs: Vec<HostTensor>) -> furnace::Result<Vec<HostTensor>> {
        let Values::F32(values) = &inputs[0].values else { unreachable!("checked against inputs()") };
        let vectors: Vec<_> =
            values.chunks(4).map(|row| Vector { vector: row.iter().map(|x| f64::from(*x)).collect() }).collect();
        let failed = |error: &dyn std::fmt::Display| ModelError::InferenceFailed(error.to_string());
        let answers = self.0.predict(&vectors).map_err(|error| failed(&error))?;
        let class = |answer: &air_serve::onnx::Answer| match answer.result {
            Prediction::Class(class) => Ok(class as f32),
            _ => Err(failed(&"not a class")),
        };
        let classes = answers.iter().map(class).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![HostTensor { shape: vec![classes.len(), 1], values: Values::F32(classes) }])
    }
}

#[derive(Debug)]
struct Device;

impl TensorModel for Device {
    fn name(&self) -> &str {
        "device"
    }

    fn backend(&self) -> &str {
        "cpu"
    }

    fn inputs(&self) -> Vec<IoSpec> {
        vec![IoSpec::fp32("input", &[1])]
    }

    fn outputs(&self) -> Vec<IoSpec> {
        vec![IoSpec::fp32("output", &[1])]
    }

    fn run(&self, inputs: Vec<HostTensor>) -> furnace::Result<Vec<HostTensor>> {
        std::thread::sleep(Duration::from_millis(5));
        let Values::F32(values) = &inputs[0].values else { unreachable!("checked against inputs()") };
        let doubled = values.iter().map(|x| 2.0 * x).collect();
        Ok(vec![HostTensor { shape: inputs[0].shape.clone(), values: Values::F32(doubled) }])
    }
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let server = Server::new().port(options.port);
    let server = if options.batch {
        // One batch at a time, as on one device; while it runs the next one fills.
        server.model(Model::custom(Device)).max_batch_size(32).configure(|config| config.batching.workers = 1)
    } else {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/data/iris_gbc.onnx");
        server.model(Model::custom(Iris(OnnxModel::load(file)?)))
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?;
    Ok(runtime.block_on(server.serve())?)
}
