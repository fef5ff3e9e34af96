//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use air_core::cli::{self, CliError};
use air_core::outln;
use clap::{Args, Parser, Subcommand};

use crate::deploy::{Deployment, DeploymentConfig};
use crate::http::HttpConfig;
use crate::onnx::OnnxModel;
use crate::{App, run};

/// Serve machine-learning models over HTTP.
#[derive(Debug, Parser)]
#[command(name = "air-serve", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an ONNX model until SIGTERM or Ctrl-C.
    ///
    /// Answers GET and POST with a JSON body {"vector": [numbers]} by {"result": class or numbers}. Beside the route: /-/healthz,
    /// /-/routes, /health/live, /health/ready, /metrics.
    #[command(
        after_help = "Example:\n  air-serve run iris.onnx --route /iris --labels setosa,versicolor,virginica\n  \
        curl -d '{\"vector\": [1.2, 1.0, 1.1, 0.9]}' http://127.0.0.1:8000/iris"
    )]
    Run(Run),
    /// Print what an ONNX model takes and gives, or why it cannot be served.
    Check {
        /// The model file.
        model: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Run {
    /// The model file.
    model: PathBuf,
    /// Path of the route [default: / and the file's name without its ending].
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Address to listen on; 0.0.0.0 for every network this machine is on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 for any that is free.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Names of the classes, in the model's order [default: the model's own].
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    labels: Option<Vec<String>>,
    /// Put the score of each class into the answers.
    #[arg(long)]
    scores: bool,
    /// Replicas of the model; they share its memory [default: one a thread].
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// Threads that handle connections [default: one a core, at most 8].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Most requests in one call of the model; 1 does not batch.
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_batch: usize,
    /// How long the oldest request waits for company, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    batch_wait_ms: f64,
    /// Requests that may wait before more are refused with 503.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_queued: usize,
    /// How long a request may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    timeout: f64,
    /// Largest request body, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_body: usize,
}

/// Runs the command line (the program's name first).
pub fn main(args: Vec<OsString>) -> Result<(), CliError> {
    match cli::parse::<Cli>(args)?.command {
        Command::Run(command) => serve(command),
        Command::Check { model } => check(&model),
    }
}

fn serve(command: Run) -> Result<(), CliError> {
    let route = match &command.route {
        Some(route) => route.clone(),
        None => format!("/{}", command.model.file_stem().unwrap_or_default().to_string_lossy()),
    };
    let mut model = OnnxModel::load(&command.model)?.with_scores(command.scores);
    if let Some(labels) = &command.labels {
        model = model.with_names(labels)?;
    }
    let http = HttpConfig {
        host: command.host,
        port: command.port,
        threads: command.threads,
        max_body_bytes: command.max_body,
        ..HttpConfig::default()
    };
    let config = DeploymentConfig {
        num_replicas: command.replicas.unwrap_or_else(|| http.thread_count()),
        max_batch_size: command.max_batch,
        batch_wait_timeout_s: command.batch_wait_ms / 1e3,
        max_queued_requests: command.max_queued,
        request_timeout_s: command.timeout,
        ..DeploymentConfig::default()
    };
    let name = route.trim_matches('/').replace('/', "-");
    let name = if name.is_empty() { "model".to_owned() } else { name };
    let app = App::new().http(http).route(route.as_str(), Deployment::onnx(name, model).config(config));
    let server = run(app)?;
    outln!("serving {} at http://{}{route}", command.model.display(), server.addr())?;
    Ok(server.wait()?)
}

fn check(path: &std::path::Path) -> Result<(), CliError> {
    let model = OnnxModel::load(path)?;
    let graph = model.graph();
    outln!("made by  {}", graph.producer())?;
    for input in graph.inputs() {
        outln!("input    {}: {input}", input.name)?;
    }
    for output in graph.outputs() {
        outln!("output   {}: {output}", output.name)?;
    }
    if let Some(labels) = graph.class_labels() {
        outln!("classes  {}", labels.join(", "))?;
    }
    Ok(())
}
