//! The command line.

mod key;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use air_core::cli::{self, CliError};
use air_core::{CoreError, config, log, outln};
use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::deploy::{Deployment, DeploymentConfig};
use crate::http::HttpConfig;
use crate::load::Load;
use crate::onnx::OnnxModel;
use crate::{App, run};

/// Serve machine-learning models over HTTP.
#[derive(Debug, Parser)]
#[command(name = "air-serve", version, arg_required_else_help = true)]
struct Cli {
    /// What the log on stderr looks like; AIR_LOG chooses what is in it.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
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
    Run(Box<Run>),
    /// Print what an ONNX model takes and gives, or why it cannot be served.
    Check {
        /// The model file.
        model: PathBuf,
    },
    /// Send requests at a fixed rate and print how long the answers took.
    ///
    /// The rate does not depend on the answers (an open loop), and each latency counts from when its request was due: a server that stalls
    /// cannot hide the requests that would have waited. One thread sends; it stays awake while requests are due more often than every 0.2 ms.
    #[command(
        after_help = "Example:\n  air-serve load http://127.0.0.1:8000/iris --rate 5000 --duration 10 \
        --body '{\"vector\": [1.2, 1.0, 1.1, 0.9]}'"
    )]
    Load(Box<Load>),
    /// Make API keys.
    #[command(subcommand)]
    Key(key::Key),
}

#[derive(Args, Debug)]
struct Run {
    /// The model file.
    #[arg(required_unless_present = "repository")]
    model: Option<PathBuf>,
    /// A directory of ONNX models to serve by the Open Inference Protocol V2, by their names; they can be loaded and unloaded while it runs.
    ///
    /// A model is NAME.onnx, NAME/model.onnx, or NAME/VERSION/model.onnx, of which the highest version counts.
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// Path of the route [default: / and the file's name without its ending].
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Names of the classes, in the model's order [default: the model's own].
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    labels: Option<Vec<String>>,
    /// Put the score of each class into the answers.
    #[arg(long)]
    scores: bool,
    /// Address to listen on; 0.0.0.0 for every network this machine is on [default: 127.0.0.1].
    #[arg(long, value_name = "ADDR")]
    host: Option<IpAddr>,
    /// Port to listen on; 0 for any that is free [default: 8000].
    #[arg(long)]
    port: Option<u16>,
    /// Replicas of the model; they share its memory [default: one a thread].
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// Threads that handle connections [default: one a core, at most 8].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Most requests in one call of the model [default: 1, no batching].
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
    /// How long the oldest request waits for company, in milliseconds [default: 0].
    #[arg(long, value_name = "MS")]
    batch_wait_ms: Option<f64>,
    /// Requests that may wait before more are refused with 503 [default: 1000].
    #[arg(long, value_name = "N")]
    max_queued: Option<usize>,
    /// How long a request may take, in seconds [default: 30].
    #[arg(long, value_name = "S")]
    timeout: Option<f64>,
    /// Largest request body, in bytes [default: 16777216].
    #[arg(long, value_name = "BYTES")]
    max_body: Option<usize>,
    /// A TOML file with the tables [http] and [deployment]; the environment (AIR_SERVE_HTTP__PORT=…) and flags override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting of the file, as in --set http.max_connections=100; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What `--config` holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    http: HttpConfig,
    deployment: DeploymentConfig,
}

impl Run {
    /// The model of a file, as the flags say, and its route.
    fn model(&self, path: &Path) -> Result<(String, OnnxModel), CliError> {
        let from_name = || format!("/{}", path.file_stem().unwrap_or_default().to_string_lossy());
        let mut model = OnnxModel::load(path)?.with_scores(self.scores);
        if let Some(labels) = &self.labels {
            model = model.with_names(labels)?;
        }
        Ok((self.route.clone().unwrap_or_else(from_name), model))
    }

    /// The settings: file, then environment, then `--set`, then the flags with names of their own.
    fn settings(&self) -> Result<Settings, CoreError> {
        let mut sets = self.set.clone();
        let mut flag =
            |key: &str, value: Option<String>| sets.extend(value.map(|value| format!("{key}={value}")));
        flag("http.host", self.host.map(|host| host.to_string()));
        flag("http.port", self.port.map(|port| port.to_string()));
        flag("http.threads", self.threads.map(|threads| threads.to_string()));
        flag("http.max_body_bytes", self.max_body.map(|bytes| bytes.to_string()));
        flag("deployment.num_replicas", self.replicas.map(|replicas| replicas.to_string()));
        flag("deployment.max_batch_size", self.max_batch.map(|size| size.to_string()));
        flag("deployment.batch_wait_timeout_s", self.batch_wait_ms.map(|ms| format!("{:?}", ms / 1e3)));
        flag("deployment.max_queued_requests", self.max_queued.map(|queued| queued.to_string()));
        flag("deployment.request_timeout_s", self.timeout.map(|seconds| format!("{seconds:?}")));
        let file = self.config.as_deref();
        let mut settings: Settings = config::load(file, "AIR_SERVE", &sets)?;
        let given: toml::Table = config::load(file, "AIR_SERVE", &sets)?;
        if given.get("deployment").and_then(|table| table.get("num_replicas")).is_none() {
            // Replicas of an ONNX model share its memory, so that each thread may as well have its own.
            settings.deployment.num_replicas = settings.http.thread_count();
        }
        Ok(settings)
    }
}

/// Runs the command line (the program's name first).
pub fn main(args: Vec<OsString>) -> Result<(), CliError> {
    let Cli { log_format, command } = cli::parse(args)?;
    log::init_as(match log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    });
    match command {
        Command::Run(command) => serve(&command),
        Command::Check { model } => check(&model),
        Command::Load(command) => command.execute(),
        Command::Key(command) => key::run(command),
    }
}

fn serve(command: &Run) -> Result<(), CliError> {
    let Settings { http, deployment } = command.settings()?;
    let scheme = http.scheme();
    let mut app = App::new().http(http);
    let mut served = Vec::new();
    if let Some(path) = &command.model {
        let (route, model) = command.model(path)?;
        let name = route.trim_matches('/').replace('/', "-");
        let name = if name.is_empty() { "model".to_owned() } else { name };
        served.push((path, route.clone()));
        app = app.route(route, Deployment::onnx(name, model).config(deployment.clone()));
    }
    if let Some(directory) = &command.repository {
        served.push((directory, "/v2".to_owned()));
        app = app.repository(directory, deployment);
    }
    let server = run(app)?;
    for (path, route) in served {
        outln!("serving {} at {scheme}://{}{route}", path.display(), server.addr())?;
    }
    Ok(server.wait()?)
}

fn check(path: &Path) -> Result<(), CliError> {
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
