//! The command line.

mod check;
mod key;
mod llm;
mod remote;
mod run;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use air_core::cli::{self, CliError};
use air_core::{config, log, outln};
use clap::{Parser, Subcommand};

use crate::config::{Plan, Registry, template};
use crate::load::Load;

/// Serve machine-learning models over HTTP.
#[derive(Debug, Parser)]
#[command(name = "air-serve", version, arg_required_else_help = true)]
struct Cli {
    /// What the log on stderr looks like; AIR_LOG chooses what is in it [default: text, or what a configuration says].
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
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
    /// Serve an ONNX model, or what a configuration names, until SIGTERM or Ctrl-C.
    ///
    /// A model answers GET and POST with a JSON body {"vector": [numbers]} by {"result": class or numbers}. Beside the routes: /-/healthz,
    /// /-/routes, /health/live, /health/ready, /metrics.
    #[command(
        after_help = "Example:\n  air-serve run iris.onnx --route /iris --labels setosa,versicolor,virginica\n  \
        curl -d '{\"vector\": [1.2, 1.0, 1.1, 0.9]}' http://127.0.0.1:8000/iris\n  air-serve run serve.yaml"
    )]
    Run(Box<run::Run>),
    /// Print what an ONNX model takes and gives, or what a configuration would serve; or why it cannot be served.
    Check {
        /// The model file, or the configuration (.yaml, .yml, .toml).
        file: PathBuf,
    },
    /// Print a configuration, in YAML, that serves these models.
    Build {
        /// The model files.
        #[arg(required = true)]
        models: Vec<PathBuf>,
    },
    /// Make what a server serves what a configuration says, without failing a request; waits until that is so.
    Deploy {
        /// The configuration (.yaml, .yml, .toml).
        file: PathBuf,
        #[command(flatten)]
        remote: remote::Remote,
    },
    /// Print how the applications of a server are.
    Status {
        /// As JSON, with every replica.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: remote::Remote,
    },
    /// Print the configuration that a server was given last.
    Config {
        #[command(flatten)]
        remote: remote::Remote,
    },
    /// Let a server finish what is under way and end.
    Shutdown {
        #[command(flatten)]
        remote: remote::Remote,
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

/// Runs the command line (the program's name first).
pub fn main(args: Vec<OsString>) -> Result<(), CliError> {
    main_with(Registry::new(), args)
}

/// Runs the command line of a program that has applications of its own.
///
/// ```no_run
/// use air_serve::{Deployment, Registry, each};
///
/// fn main() -> std::process::ExitCode {
///     let registry = Registry::new().register("double:app", |_: serde_json::Value| {
///         Ok(Deployment::new("double", || Ok(each(|x: f64| Ok(2.0 * x)))))
///     });
///     air_core::cli::main_with(|args| air_serve::cli::main_with(registry, args))
/// }
/// ```
pub fn main_with(registry: Registry, args: Vec<OsString>) -> Result<(), CliError> {
    let registry = Arc::new(registry);
    let Cli { log_format, command } = cli::parse(args)?;
    let format = log_format.map(|format| match format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    });
    match command {
        Command::Run(command) => run::run(&command, format, &registry),
        Command::Check { file } if is_config(&file) => check::config(&file, &registry),
        Command::Check { file } => check::model(&file),
        Command::Build { models } => {
            // What cannot be served had better be told now.
            models.iter().try_for_each(|model| crate::onnx::OnnxModel::load(model).map(drop))?;
            outln!("{}", template(&models).trim_end())
        }
        Command::Deploy { file, remote } => remote::deploy(&file, &remote),
        Command::Status { json, remote } => remote::status(&remote, json),
        Command::Config { remote } => remote::show_config(&remote),
        Command::Shutdown { remote } => remote::shutdown(&remote),
        Command::Load(command) => command.execute(),
        Command::Key(command) => key::run(command),
    }
}

/// Reads a configuration, the environment and `sets`, each `key=value`, and builds what they name.
fn load(file: &Path, sets: &[String], registry: &Registry) -> Result<Plan, CliError> {
    Ok(Plan::new(config::load(Some(file), "AIR_SERVE", sets)?, registry)?)
}

/// Whether a file is a configuration, by its name; else it is a model.
fn is_config(file: &Path) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["yaml", "yml", "toml"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}
