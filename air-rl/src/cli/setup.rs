//! What is trained, in what and with which settings: what the preset, a file and the command line say together.

use air_core::cli::CliError;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{python, usage};
use crate::envs::EnvSpec;
use crate::train::algorithm::Algorithm as _;
use crate::train::learner::{Learner as _, Settings};
use crate::{ExternalPpo, MultiEnvSpec, MultiPpo, PpoLearner, presets};

/// What is trained, in what, and with which settings.
#[derive(Args)]
pub(super) struct Setup {
    #[command(flatten)]
    pub(super) python: python::Python,
    /// The algorithm; `air-rl list` shows them
    pub(super) algorithm: String,
    /// The environment; `air-rl list` shows them
    pub(super) env: String,
    /// An option of the environment, such as length=10; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) env_set: Vec<String>,
    /// A wrapper around the environment, such as frame_stack=4; may be repeated, the first is the innermost. Goes instead of those of the
    /// file and the preset; `none` leaves those out
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) wrap: Vec<String>,
    /// Recorded episodes, JSON lines, for algorithms that learn from them (`air-rl record` writes such files)
    #[arg(long, value_name = "FILE")]
    pub(super) data: Option<String>,
    /// Begin from the algorithm's defaults, even if there is a preset for the environment
    #[arg(long)]
    pub(super) no_preset: bool,
    /// A TOML file with the algorithm's settings, and maybe a list of wrappers named `wrap`
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<std::path::PathBuf>,
    /// One of the algorithm's settings, such as lr=0.001; may be repeated, and goes before the file's
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

/// The settings of one kind of learner.
pub(super) fn settings<C: Settings>(args: &Setup) -> Result<C, CliError> {
    presets::settings(plan(args)?.settings).map_err(usage)
}

/// [`settings`], written out.
pub(super) fn told<C: Settings>(args: &Setup) -> Result<Value, CliError> {
    serde_json::to_value(settings::<C>(args)?).map_err(CliError::failed)
}

/// What the preset, the file and the command line say together.
pub(super) struct Plan {
    pub(super) settings: toml::Table,
    /// Wrappers of the environment, the innermost first.
    pub(super) wrap: Vec<String>,
}

/// The settings of the preset, then those of the file, then those of the command line; the wrappers of the last of them that names any.
pub(super) fn plan(args: &Setup) -> Result<Plan, CliError> {
    let (mut settings, mut wrap) = match presets::find(&args.algorithm, &args.env)? {
        Some(preset) if !args.no_preset => (preset.settings, preset.wrap),
        _ => (toml::Table::new(), Vec::new()),
    };
    if let Some(path) = &args.config {
        let mut table = read_table(path)?;
        if let Some(list) = table.remove("wrap") {
            let why = |e| CliError::usage(format!("wrap in {} is no list of wrappers: {e}", path.display()));
            wrap = list.try_into().map_err(why)?;
        }
        settings.extend(table);
    }
    match &args.wrap[..] {
        [] => {}
        [none] if none == "none" => wrap.clear(),
        told => wrap = told.to_vec(),
    }
    normalise(&args.algorithm, &mut wrap, &mut settings)?;
    for setting in &args.set {
        let (key, value) = pair(setting)?;
        set(&mut settings, key, toml_value(value))?;
    }
    Ok(Plan { settings, wrap })
}

/// Wrappers that are settings of the algorithm, because their statistics belong to the policy and are saved with it. They stand outside of
/// all others, as the algorithm does.
fn normalise(algorithm: &str, wrap: &mut Vec<String>, settings: &mut toml::Table) -> Result<(), CliError> {
    const NORMALISE: [&str; 2] = ["normalize_observations", "normalize_rewards"];
    let is = |text: &String| NORMALISE.contains(&text.as_str());
    let Some(first) = wrap.iter().position(is) else { return Ok(()) };
    if let Some(inner) = wrap[first..].iter().find(|text| !is(text)) {
        return Err(CliError::usage(format!(
            "the wrapper `{}` stands inside `{inner}`: statistics are kept by the algorithm, outside of all wrappers, so it must be \
             among the last",
            wrap[first]
        )));
    }
    let prefix = match algorithm {
        PpoLearner::NAME => "",
        MultiPpo::NAME | ExternalPpo::NAME => "ppo.",
        other => {
            return Err(CliError::usage(format!(
                "the wrapper `{}` is kept by the algorithm, and {other} has no such setting; {} and {} have",
                wrap[first],
                PpoLearner::NAME,
                MultiPpo::NAME
            )));
        }
    };
    for text in wrap.drain(first..) {
        set(settings, &format!("{prefix}{text}"), true.into())?;
    }
    Ok(())
}

pub(super) fn read_table(path: &std::path::Path) -> Result<toml::Table, CliError> {
    let why = |e: &dyn std::fmt::Display| CliError::failed(format!("cannot read {}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| why(&e))?;
    text.parse::<toml::Table>().map_err(|e| why(&e))
}

pub(super) fn options(pairs: &[String]) -> Result<Map<String, Value>, CliError> {
    let one = |text: &String| {
        let (key, value) = pair(text)?;
        let value = serde_json::to_value(toml_value(value)).map_err(CliError::usage)?;
        Ok((key.to_owned(), value))
    };
    pairs.iter().map(one).collect()
}

pub(super) fn pair(text: &str) -> Result<(&str, &str), CliError> {
    text.split_once('=').ok_or_else(|| CliError::usage(format!("`{text}` is not KEY=VALUE")))
}

/// Sets one key, which may lie in tables: `ppo.lr`.
pub(super) fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), CliError> {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Table::new().into());
            let inner =
                inner.as_table_mut().ok_or_else(|| CliError::usage(format!("`{first}` is not a table")))?;
            set(inner, rest, value)
        }
    }
}

/// A TOML value; what is none is taken as text.
pub(super) fn toml_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| text.into())
}

/// The environment that is asked for, in its wrappers.
pub(super) fn environment(args: &Setup) -> Result<EnvSpec, CliError> {
    let mut options = options(&args.env_set)?;
    let Plan { wrap, .. } = plan(args)?;
    if !wrap.is_empty() {
        if options.contains_key("wrap") {
            return Err(CliError::usage(
                "wrappers are named by both --env-set wrap and --wrap, the file or the preset: leave one out",
            ));
        }
        options.insert("wrap".into(), json!(wrap));
    }
    args.python.registry()?.spec_with(&args.env, options).map_err(usage)
}

/// An environment of several agents.
pub(super) fn cast(args: &Setup) -> Result<MultiEnvSpec, CliError> {
    args.python.registry()?.multi_spec_with(&args.env, options(&args.env_set)?).map_err(usage)
}
