//! `sweep`: a search for settings. Trials are `air-rl train` commands, and `air-tune` is the program that runs them: it decides what is tried,
//! stops what does not pay, keeps a record and goes on after a crash.

mod command;
mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use air_core::cli::CliError;
use air_core::outln;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::algorithm;
use super::setup::{Plan, Setup, cast, environment, plan, read_table, set};
use crate::algorithms::multi_agent::MultiPpo;
use crate::presets;
use crate::train::algorithm::Algorithm as _;

#[derive(Args)]
pub(super) struct Sweep {
    #[command(flatten)]
    setup: Setup,
    /// A setting and where its value may lie, such as 'lr=loguniform(1e-4,1e-2)'; may be repeated, and goes before the file's. `air-tune run
    /// --help` has the domains
    #[arg(long = "param", value_name = "NAME=DOMAIN")]
    params: Vec<String>,
    /// A TOML file of settings and domains, such as lr = "loguniform(1e-4,1e-2)" [default, without --param: what is worth searching of the
    /// algorithm, which `air-rl list --space ALGORITHM` shows]
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// How many trials; with grids, how often their combinations are gone through [default: 20 without grids]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    trials: Option<u64>,
    /// Environment steps of a trial that is not stopped early
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Which trials are stopped early [default: asha, none with several seeds]
    #[arg(long, value_enum)]
    scheduler: Option<Scheduler>,
    /// Train each trial with this many seeds, one after another, and judge it by the median
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Seed of what is tried; every trial trains with it, too
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the results [default: the first free one of air-results/sweep-1, sweep-2, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The program `air-tune`; $AIR_TUNE unless given, or else the one beside this program or in PATH
    #[arg(long = "air-tune", value_name = "PATH")]
    air_tune: Option<PathBuf>,
    /// Show the command line of `air-tune` instead of running it
    #[arg(long)]
    print: bool,
    /// One JSON object a trial, then the best
    #[arg(long)]
    json: bool,
    /// Further arguments of `air-tune run`, such as --search gp, --max-concurrent 1 or --mlflow URL
    #[arg(last = true, value_name = "ARGS")]
    further: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheduler {
    /// Asynchronous successive halving
    Asha,
    /// Stops what is worse than the median of the others
    Median,
    /// Every trial runs to its end
    None,
}

pub(super) fn run(args: &Sweep) -> Result<(), CliError> {
    let space = space(args)?;
    let dir = args.out.clone().unwrap_or_else(free_dir);
    let line = command::line(args, &space, &dir)?;
    if args.print {
        return outln!("{}", command::shell(&line));
    }
    let program = program::find(args.air_tune.as_deref())?;
    let why =
        |e: &dyn std::fmt::Display| CliError::failed(format!("cannot start {}: {e}", program.display()));
    let status = Command::new(&program).args(&line[1..]).status().map_err(|e| why(&e))?;
    // A search in which a trial failed has a best one nevertheless.
    let found = if matches!(status.code(), Some(0 | 1)) { best(&program, &dir)? } else { None };
    if let Some(found) = found {
        let file = dir.join("best.toml");
        write_settings(args, &found, &file)?;
        if args.json {
            outln!("{}", json!({"settings": file}))?;
        } else {
            outln!("to train so again: {}", command::shell(&command::again(args, &file)?))?;
        }
    }
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(CliError::usage("air-tune does not take this search: it says why above")),
        _ => Err(CliError::failed(format!(
            "the search ended with {status}: air-tune says why above; `air-tune resume {}` goes on",
            dir.display()
        ))),
    }
}

/// Names of settings and their domains; what cannot be trained so is an error here, not one of each trial.
fn space(args: &Sweep) -> Result<Vec<(String, String)>, CliError> {
    let setup = &args.setup;
    let (_, told) = algorithm(&setup.algorithm)?;
    let known = told(setup)?;
    if setup.algorithm == MultiPpo::NAME {
        cast(setup)?;
    } else {
        environment(setup)?;
    }
    let mut space = Vec::new();
    if let Some(path) = &args.space {
        flatten("", &read_table(path)?, &mut space)?;
    } else if args.params.is_empty() {
        flatten("", &presets::space(&setup.algorithm)?, &mut space)?;
    }
    for param in &args.params {
        let (name, domain) = super::setup::pair(param)?;
        let (name, domain) = (name.trim().to_owned(), domain.trim().to_owned());
        space.retain(|(other, _)| *other != name);
        space.push((name, domain));
    }
    for (name, _) in &space {
        let pointer = format!("/{}", name.replace('.', "/"));
        if known.pointer(&pointer).is_none_or(Value::is_object) {
            let names = names("", &known).join(", ");
            let algorithm = &setup.algorithm;
            return Err(CliError::usage(format!("`{name}` is no setting of {algorithm}; known: {names}")));
        }
        if setup.set.iter().any(|set| set.split_once('=').is_some_and(|(key, _)| key == name)) {
            return Err(CliError::usage(format!("`{name}` is both searched and set: leave one of them out")));
        }
    }
    if space.is_empty() {
        return Err(CliError::usage("the space is empty: name a setting with --param NAME=DOMAIN"));
    }
    Ok(space)
}

/// Settings in tables have the names of their tables before theirs: `ppo.lr`.
fn flatten(prefix: &str, table: &toml::Table, space: &mut Vec<(String, String)>) -> Result<(), CliError> {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{name}."), inner, space)?,
            toml::Value::String(domain) => space.push((name, domain.clone())),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                space.push((name, value.to_string()));
            }
            _ => {
                let why = "has no domain: one is text, such as \"choice(16,32)\"";
                return Err(CliError::usage(format!("`{name}` of the space {why}")));
            }
        }
    }
    Ok(())
}

fn names(prefix: &str, known: &Value) -> Vec<String> {
    let fields = known.as_object().into_iter().flatten();
    fields
        .flat_map(|(key, value)| match value {
            Value::Object(_) => names(&format!("{prefix}{key}."), value),
            _ => vec![format!("{prefix}{key}")],
        })
        .collect()
}

fn free_dir() -> PathBuf {
    let candidates = (1_u32..).map(|n| Path::new("air-results").join(format!("sweep-{n}")));
    candidates.into_iter().find(|dir| !dir.exists()).unwrap_or_default()
}

/// The parameters of the best trial; none if no trial came to anything.
fn best(program: &Path, dir: &Path) -> Result<Option<Value>, CliError> {
    let output = Command::new(program)
        .arg("best")
        .arg(dir)
        .arg("--json")
        .output()
        .map_err(|e| CliError::failed(format!("cannot start {}: {e}", program.display())))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let object = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    let trial: Value = serde_json::from_str(object)
        .map_err(|e| CliError::failed(format!("cannot read what `{} best` says: {e}", program.display())))?;
    Ok(trial.get("config").cloned())
}

/// What the best trial was trained with, as a file for `--config`.
fn write_settings(args: &Sweep, found: &Value, file: &Path) -> Result<(), CliError> {
    let Plan { mut settings, wrap } = plan(&args.setup)?;
    overlay(&mut settings, "", found)?;
    if !wrap.is_empty() {
        settings.insert("wrap".into(), wrap.into());
    }
    std::fs::write(file, settings.to_string())
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}", file.display())))
}

fn overlay(settings: &mut toml::Table, prefix: &str, found: &Value) -> Result<(), CliError> {
    for (key, value) in found.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        if value.is_object() {
            overlay(settings, &format!("{name}."), value)?;
        } else {
            // As the trial was told it.
            set(settings, &name, super::setup::toml_value(&command::text(value)))?;
        }
    }
    Ok(())
}
