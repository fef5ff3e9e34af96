//! `air-serve run`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use air_core::cli::CliError;
use air_core::{CoreError, config, log, outln};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{is_config, llm, load};
use crate::admin::Source;
use crate::config::{Encoding, LLM, Place, Registry};
use crate::deploy::{Deployment, DeploymentConfig};
use crate::http::HttpConfig;
use crate::onnx::OnnxModel;
use crate::{App, run as start};

#[derive(Args, Debug)]
pub(super) struct Run {
    /// The model file, a configuration (.yaml, .yml, .toml), or llm://DIR: the directory of a language model.
    #[arg(required_unless_present = "repository")]
    file: Option<PathBuf>,
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
pub(super) struct Settings {
    pub http: HttpConfig,
    pub deployment: DeploymentConfig,
    /// The limits of a language model.
    pub llm: Map<String, Value>,
}

impl Run {
    /// What the flags set in a configuration; those of a model mean nothing there.
    fn sets_of_config(&self, file: &Path) -> Result<Vec<String>, CliError> {
        let models = [
            ("--repository", self.repository.is_some()),
            ("--route", self.route.is_some()),
            ("--labels", self.labels.is_some()),
            ("--scores", self.scores),
            ("--replicas", self.replicas.is_some()),
            ("--max-batch", self.max_batch.is_some()),
            ("--batch-wait-ms", self.batch_wait_ms.is_some()),
            ("--max-queued", self.max_queued.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--config", self.config.is_some()),
        ];
        if let Some((flag, _)) = models.iter().find(|(_, given)| *given) {
            let file = file.display();
            return Err(CliError::usage(format!(
                "{flag} is for a model; {file} is a configuration, set it there"
            )));
        }
        let mut sets = self.set.clone();
        let mut flag = |key: &str, value: Option<String>| {
            sets.extend(value.map(|value| format!("http_options.{key}={value}")));
        };
        flag("host", self.host.map(|host| host.to_string()));
        flag("port", self.port.map(|port| port.to_string()));
        flag("threads", self.threads.map(|threads| threads.to_string()));
        flag("max_body_bytes", self.max_body.map(|bytes| bytes.to_string()));
        Ok(sets)
    }

    /// The model of a file, as the flags say, and its route.
    fn model(&self, path: &Path) -> Result<(String, OnnxModel), CliError> {
        let from_name = || format!("/{}", path.file_stem().unwrap_or_default().to_string_lossy());
        let mut model = OnnxModel::load(path)?.with_scores(self.scores);
        if let Some(labels) = &self.labels {
            model = model.with_names(labels)?;
        }
        Ok((self.route.clone().unwrap_or_else(from_name), model))
    }

    /// The settings: file, then environment, then `--set`, then the flags with names of their own; and which of the deployment's are given.
    pub(super) fn settings(&self) -> Result<(Settings, impl Fn(&str) -> bool + use<>), CoreError> {
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
        let settings: Settings = config::load(file, "AIR_SERVE", &sets)?;
        let given: toml::Table = config::load(file, "AIR_SERVE", &sets)?;
        let gives = move |key: &str| given.get("deployment").is_some_and(|table| table.get(key).is_some());
        Ok((settings, gives))
    }

    /// Refuses the flags that mean nothing for a language model.
    #[cfg(feature = "llm")]
    pub(super) fn is_of_llm(&self) -> Result<(), CliError> {
        let others = [
            ("--repository", self.repository.is_some()),
            ("--route", self.route.is_some()),
            ("--labels", self.labels.is_some()),
            ("--scores", self.scores),
        ];
        match others.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(CliError::usage(format!("{flag} is not for a language model"))),
            None => Ok(()),
        }
    }
}

pub(super) fn run(
    command: &Run,
    format: Option<log::Format>,
    registry: &Arc<Registry>,
) -> Result<(), CliError> {
    match &command.file {
        Some(file) if is_config(file) => configured(file, command, format, registry),
        Some(file) if file.to_str().is_some_and(|file| file.starts_with(LLM)) => {
            log::init_as(format.unwrap_or_default());
            llm::run(command, &file.to_string_lossy()[LLM.len()..], registry)
        }
        _ => {
            log::init_as(format.unwrap_or_default());
            models(command, registry)
        }
    }
}

fn configured(
    file: &Path,
    command: &Run,
    format: Option<log::Format>,
    registry: &Arc<Registry>,
) -> Result<(), CliError> {
    let sets = command.sets_of_config(file)?;
    let plan = load(file, &sets, registry)?;
    let given: toml::Table = config::load(Some(file), "AIR_SERVE", &sets)?;
    let said = match plan.encoding {
        Encoding::Text => log::Format::Text,
        Encoding::Json => log::Format::Json,
    };
    log::init_as(format.unwrap_or(said));
    for note in &plan.notes {
        tracing::warn!("{}: {note}", file.display());
    }
    let scheme = plan.http.scheme();
    let places = plan.places();
    let source = Source {
        registry: Arc::clone(registry),
        config: serde_json::to_value(given)?,
        places: places.clone(),
    };
    let server = start(plan.into_app().source(source))?;
    for place in places {
        outln!("serving {place} at {scheme}://{}{}", server.addr(), place.route)?;
    }
    Ok(server.wait()?)
}

fn models(command: &Run, registry: &Arc<Registry>) -> Result<(), CliError> {
    let (Settings { http, mut deployment, .. }, gives) = command.settings()?;
    if !gives("num_replicas") && !gives("autoscaling_config") {
        // Replicas of an ONNX model share its memory, so that each thread may as well have its own.
        deployment.num_replicas = http.thread_count();
    }
    let scheme = http.scheme();
    let mut app = App::new().http(http);
    let mut source = Source { registry: Arc::clone(registry), ..Source::default() };
    let mut served = Vec::new();
    if let Some(path) = &command.file {
        let (route, model) = command.model(path)?;
        let name = route.trim_matches('/').replace('/', "-");
        let name = if name.is_empty() { "model".to_owned() } else { name };
        served.push((path, route.clone()));
        source.places.push(Place {
            name: name.clone(),
            route: route.clone(),
            import_path: format!("onnx://{}", path.display()),
            deployment: name.clone(),
        });
        app = app.route(route, Deployment::onnx(name, model).config(deployment.clone()));
    }
    if let Some(directory) = &command.repository {
        served.push((directory, "/v2".to_owned()));
        app = app.repository(directory, deployment);
    }
    let server = start(app.source(source))?;
    for (path, route) in served {
        outln!("serving {} at {scheme}://{}{route}", path.display(), server.addr())?;
    }
    Ok(server.wait()?)
}
