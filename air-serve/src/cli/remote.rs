//! `air-serve deploy`, `status`, `config`, `shutdown`: a server that runs, over its REST API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use air_core::cli::CliError;
use air_core::{config, outln};
use clap::Args;
use serde_json::Value;

use crate::config::ServeConfig;

/// How long a deploy may take: models are loaded, old versions drained.
const LONGEST: Duration = Duration::from_hours(1);
/// No answer is larger.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Args, Debug)]
pub(super) struct Remote {
    /// Where the server listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    address: String,
    /// A file with an API key of the scope `admin` [default: the environment variable AIR_SERVE_KEY, if it is set].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) fn deploy(file: &Path, remote: &Remote) -> Result<(), CliError> {
    // Read twice: as what it must be, for errors with lines, and as it is, to be sent.
    config::load::<ServeConfig>(Some(file), "AIR_SERVE", &[])?;
    let given: toml::Table = config::load(Some(file), "AIR_SERVE", &[])?;
    let answer = remote.send("PUT", Some(serde_json::to_vec(&given)?))?;
    for note in answer["notes"].as_array().into_iter().flatten() {
        outln!("note: {}", note.as_str().unwrap_or_default())?;
    }
    outln!("deployed")
}

pub(super) fn status(remote: &Remote, json: bool) -> Result<(), CliError> {
    let answer = remote.send("GET", None)?;
    if json {
        return outln!("{}", serde_json::to_string_pretty(&answer["applications"])?);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let with = |message: &Value| match message.as_str() {
        Some(message) if !message.is_empty() => format!(" ({message})"),
        _ => String::new(),
    };
    for (name, app) in answer["applications"].as_object().into_iter().flatten() {
        let (route, state) = (text(&app["route_prefix"]), text(&app["status"]));
        outln!("{name}  {route}  {state}{}", with(&app["message"]))?;
        for (name, it) in app["deployments"].as_object().into_iter().flatten() {
            let running = it["replica_states"]["RUNNING"].as_u64().unwrap_or(0);
            let (target, queued) = (&it["target_num_replicas"], &it["queued"]);
            let (state, version) = (text(&it["status"]), text(&it["version"]));
            outln!(
                "  {name}  {state}{}  version {version}, {running} of {target} replicas, {queued} queued",
                with(&it["message"])
            )?;
        }
    }
    Ok(())
}

pub(super) fn show_config(remote: &Remote) -> Result<(), CliError> {
    outln!("{}", serde_json::to_string_pretty(&remote.send("GET", None)?["config"])?)
}

pub(super) fn shutdown(remote: &Remote) -> Result<(), CliError> {
    remote.send("DELETE", None)?;
    outln!("the server finishes what is under way and ends")
}

impl Remote {
    fn key(&self) -> Result<Option<String>, CliError> {
        let Some(file) = &self.key_file else { return Ok(std::env::var("AIR_SERVE_KEY").ok()) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            CliError::failed(format!("cannot read the key in {}: {error}", file.display()))
        })?;
        Ok(Some(text.trim().to_owned()))
    }

    /// The answer, if it is a good one.
    fn send(&self, method: &str, body: Option<Vec<u8>>) -> Result<Value, CliError> {
        let url = format!("{}/api/serve/applications/", self.address.trim_end_matches('/'));
        if !url.starts_with("http://") {
            return Err(CliError::usage(format!(
                "--address is {}, it must be http://HOST:PORT",
                self.address
            )));
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LONGEST))
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if let Some(key) = self.key()? {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.header("content-type", "application/json").body(body.unwrap_or_default())?;
        let failed =
            |error: ureq::Error| CliError::failed(format!("no answer from {}: {error}", self.address));
        let mut response = agent.run(request).map_err(failed)?;
        let text = response.body_mut().with_config().limit(MAX_BYTES).read_to_string().map_err(failed)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if response.status().is_success() {
            return Ok(answer);
        }
        let reason = answer["error"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
        Err(CliError::failed(format!("{} says {}: {reason}", self.address, response.status())))
    }
}
