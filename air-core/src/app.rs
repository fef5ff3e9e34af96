//! The `air-core` binary's commands.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::cli::{self, CliError};
use crate::state::{State, client};
use crate::{bench, device, outln};

/// The compute layer of AIR: what devices there are, what a runtime does now, and what a call costs here.
#[derive(Parser)]
#[command(name = "air-core", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices that workers can compute on
    Devices {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show what a program's runtime does now: workers, resources, what supervision did lately
    Status {
        #[command(flatten)]
        endpoint: Endpoint,
        /// Print the state as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Save what a program's workers handled when, as a Chrome trace for ui.perfetto.dev or chrome://tracing
    Timeline {
        #[command(flatten)]
        endpoint: Endpoint,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Measure calls, starts and memory beside the bare libraries underneath
    Bench {
        /// Measure only this group; may be given several times
        #[arg(long, value_name = "GROUP", value_parser = bench::GROUPS)]
        only: Vec<String>,
        /// Print one JSON object: {name: {value, unit, floor}}
        #[arg(long)]
        json: bool,
    },
}

/// Where a program serves its runtime's state (`RuntimeHandle::serve_state`).
#[derive(ClapArgs)]
struct Endpoint {
    /// The address the program serves its state on, such as http://127.0.0.1:8265
    url: String,
    /// The endpoint's token, if it wants one; the environment variable AIR_TOKEN keeps it out of the list of processes
    #[arg(long)]
    token: Option<String>,
}

impl Endpoint {
    fn get(&self, path: &'static str) -> Result<Vec<u8>, client::ClientError> {
        let from_environment = || std::env::var("AIR_TOKEN").ok().filter(|token| !token.is_empty());
        let token = self.token.clone().or_else(from_environment);
        client::get(&self.url, path, token.as_deref())
    }
}

/// Runs the binary with these arguments (the first is the program's name).
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    match cli::parse::<Args>(args)?.command {
        Command::Devices { json } => devices(json),
        Command::Status { endpoint, json } => status(&endpoint, json),
        Command::Timeline { endpoint, output } => timeline(&endpoint, &output),
        Command::Bench { only, json } => measure(&only, json),
    }
}

fn devices(json: bool) -> Result<(), CliError> {
    let report = device::report();
    if json {
        return outln!("{}", serde_json::to_string(&report)?);
    }
    for device in &report.devices {
        let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
        outln!(
            "{:8} {}, {} wide, {:.1} of {:.1} GiB free",
            device.device.to_string(),
            device.name,
            device.parallelism,
            gib(device.free_memory_bytes),
            gib(device.memory_bytes)
        )?;
    }
    if let Some(why) = &report.cuda_unavailable {
        eprintln!("no CUDA device: {why}");
    }
    Ok(())
}

fn status(endpoint: &Endpoint, json: bool) -> Result<(), CliError> {
    let body = endpoint.get("/state")?;
    if json {
        return outln!("{}", String::from_utf8_lossy(&body).trim_end());
    }
    let state: State = serde_json::from_slice(&body)?;
    outln!("{}", state.summary().trim_end())
}

fn timeline(endpoint: &Endpoint, output: &Path) -> Result<(), CliError> {
    let trace = endpoint.get("/timeline")?;
    fs::write(output, &trace).map_err(|source| Unwritten { file: output.into(), source })?;
    let text: serde_json::Value = serde_json::from_slice(&trace)?;
    let spans = text["traceEvents"].as_array().map_or(0, |all| all.iter().filter(|e| e["ph"] == "X").count());
    if text["otherData"]["tracing"] == "off" {
        eprintln!("the program's timeline is off: `Timeline::start` starts it");
    }
    outln!("{spans} spans to {}", output.display())
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write `{file}`")]
struct Unwritten {
    file: PathBuf,
    source: std::io::Error,
}

fn measure(only: &[String], json: bool) -> Result<(), CliError> {
    let figures = bench::run(only)?;
    if json {
        return outln!("{}", serde_json::to_string(&figures)?);
    }
    for (name, figure) in &figures {
        let value = format!("{:.4e}", figure.value);
        match figure.floor {
            Some(floor) => {
                outln!("{name:26} {value:>12} {:8} {:.2} of the floor", figure.unit, figure.value / floor)?;
            }
            None => outln!("{name:26} {value:>12} {}", figure.unit)?,
        }
    }
    Ok(())
}
