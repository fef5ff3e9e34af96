//! The command line: `train`, `eval`, `list`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::cli::{self, CliError};
use air_core::outln;
use air_core::storage::Storage;
use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value, json};

use crate::algorithm::{Algorithm as _, Iteration, Reason, Stop};
use crate::checkpoint::Saved;
use crate::envs::Registry;
use crate::error::RlError;
use crate::learner::Learner;
use crate::{DqnLearner, PpoLearner, SacLearner, Space, Td3Learner, Trainer, presets};

/// Trains one kind of learner.
type Run = fn(&Train) -> Result<(), CliError>;

/// Every algorithm there is.
const ALGORITHMS: &[(&str, Run)] = &[
    (PpoLearner::NAME, train::<PpoLearner>),
    (DqnLearner::NAME, train::<DqnLearner>),
    (SacLearner::NAME, train::<SacLearner>),
    (Td3Learner::NAME, train::<Td3Learner>),
];
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(500);

/// Reinforcement learning from the command line
#[derive(Parser)]
#[command(name = "air-rl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train an algorithm on an environment
    Train(Train),
    /// Play episodes with a trained policy, without exploring
    Eval(Eval),
    /// Show the algorithms and environments there are
    List {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Train {
    /// The algorithm; `air-rl list` shows them
    algorithm: String,
    /// The environment; `air-rl list` shows them
    env: String,
    /// An option of the environment, such as length=10; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// The run repeats to the bit for one seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Stop once the mean return of the last 100 training episodes is at least this; failing that is exit code 1
    #[arg(long, value_name = "RETURN", allow_negative_numbers = true)]
    until_return: Option<f64>,
    /// Stop after this many environment steps
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
    /// Stop after this many iterations
    #[arg(long)]
    iterations: Option<u64>,
    /// Begin from the algorithm's defaults, even if there is a preset for the environment
    #[arg(long)]
    no_preset: bool,
    /// A TOML file with the algorithm's settings
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// One of the algorithm's settings, such as lr=0.001; may be repeated, and goes before the file's
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Save the trained policy there, as a checkpoint
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// One JSON object instead of a sentence
    #[arg(long)]
    json: bool,
    /// No progress on stderr
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct Eval {
    /// A checkpoint that `train --out` wrote, or the directory of several
    checkpoint: String,
    /// Episodes to play
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    episodes: u64,
    /// Seed of the first states
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// An environment other than the one it was trained in
    #[arg(long)]
    env: Option<String>,
    /// An option of the environment, such as length=10; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// Break off an episode after this many steps
    #[arg(long, default_value_t = 100_000)]
    max_steps: u64,
    /// One JSON object instead of a sentence
    #[arg(long)]
    json: bool,
}

/// Runs the command line.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let args: Cli = cli::parse(args)?;
    match args.command {
        Command::Train(args) => match ALGORITHMS.iter().find(|(name, _)| *name == args.algorithm) {
            Some((_, run)) => run(&args),
            None => {
                Err(CliError::usage(RlError::UnknownAlgorithm { name: args.algorithm, known: algorithms() }))
            }
        },
        Command::Eval(args) => eval(&args),
        Command::List { json } => list(json),
    }
}

fn algorithms() -> Vec<String> {
    ALGORITHMS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn train<L: Learner>(args: &Train) -> Result<(), CliError> {
    let env = Registry::default().spec_with(&args.env, options(&args.env_set)?).map_err(usage)?;
    let config = settings::<L>(args)?;
    let store = args.out.as_deref().map(open_store).transpose()?;
    let stop = Stop {
        mean_return: args.until_return,
        steps: Some(args.steps),
        iterations: args.iterations,
        ..Stop::default()
    };
    let mut trainer = Trainer::<L>::new(config, env, args.seed).map_err(usage)?;
    let mut shown = Instant::now();
    let outcome = trainer.train_with(&stop, |iteration| {
        if !args.quiet && shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            progress(iteration);
        }
    })?;
    let saved = store.map(|store| trainer.save(&store)).transpose()?.map(|c| c.location());

    let last = outcome.last;
    let reached = outcome.reason == Reason::MeanReturn;
    // The mean at the episode that reached the target; the iteration may have gone a little beyond it.
    let mean_return = if reached { last.peak_return } else { last.mean_return };
    if args.json {
        outln!(
            "{}",
            json!({
                "algorithm": args.algorithm, "env": args.env, "seed": args.seed, "reason": outcome.reason,
                "steps": last.steps, "seconds": last.seconds, "steps_per_second": last.steps as f64 / last.seconds,
                "iterations": last.iteration, "episodes": last.episodes, "mean_return": mean_return,
                "mean_length": last.mean_length, "learner": last.learner, "checkpoint": saved,
            })
        )?;
    } else {
        let mean = mean_return
            .map_or("no episode ended".into(), |r| format!("mean return {r:.2} over 100 episodes"));
        outln!("{} steps, {:.2} s, {mean}", last.steps, last.seconds)?;
        if let Some(saved) = saved {
            outln!("saved {saved}")?;
        }
    }
    match args.until_return {
        Some(target) if !reached => {
            let got = mean_return.map_or("no episode ended".into(), |r| format!("it is {r:.2}"));
            Err(CliError::failed(format!("mean return {target} not reached in {} steps: {got}", last.steps)))
        }
        _ => Ok(()),
    }
}

fn progress<S: std::fmt::Display>(now: &Iteration<S>) {
    let mean = now.mean_return.map_or("-".into(), |r| format!("{r:.1}"));
    let rate = now.steps as f64 / now.seconds;
    eprintln!(
        "steps {:>9}  episodes {:>6}  return {mean:>7}  {}  {rate:.0} steps/s",
        now.steps, now.episodes, now.learner
    );
}

fn eval(args: &Eval) -> Result<(), CliError> {
    let saved = Saved::read(&args.checkpoint)?;
    let (name, mut env_options) = match &args.env {
        Some(env) => (env, Map::new()),
        None => (&saved.run.env, saved.run.env_options.clone()),
    };
    env_options.extend(options(&args.env_set)?);
    let env = Registry::default().spec_with(name, env_options).map_err(usage)?;
    let played = saved.policy()?.evaluate(&env, args.episodes, args.seed, args.max_steps)?;

    let n = played.len() as f64;
    let mean = played.iter().map(|p| p.total).sum::<f64>() / n;
    let deviation = (played.iter().map(|p| (p.total - mean).powi(2)).sum::<f64>() / n).sqrt();
    let min = played.iter().map(|p| p.total).fold(f64::INFINITY, f64::min);
    let max = played.iter().map(|p| p.total).fold(f64::NEG_INFINITY, f64::max);
    let length = played.iter().map(|p| p.length as f64).sum::<f64>() / n;
    if args.json {
        return outln!(
            "{}",
            json!({
                "env": name, "checkpoint": args.checkpoint, "episodes": played.len(), "seed": args.seed,
                "mean_return": mean, "std_return": deviation, "min_return": min, "max_return": max,
                "mean_length": length,
            })
        );
    }
    outln!(
        "{} episodes: return {mean:.2} ± {deviation:.2} ({min:.2} to {max:.2}), length {length:.1}",
        played.len()
    )
}

fn list(as_json: bool) -> Result<(), CliError> {
    let registry = Registry::default();
    let mut envs = Vec::new();
    for name in registry.names() {
        let made = registry.spec(&name)?.make(1)?;
        envs.push((name, made.observation_space().clone(), made.action_space().clone()));
    }
    if as_json {
        let text = |space: &Space| space.to_string();
        let envs: Vec<Value> = envs
            .iter()
            .map(|(name, o, a)| json!({"name": name, "observations": text(o), "actions": text(a)}))
            .collect();
        let presets: Vec<Value> =
            presets::names().map(|(algorithm, env)| json!({"algorithm": algorithm, "env": env})).collect();
        return outln!("{}", json!({"algorithms": algorithms(), "environments": envs, "presets": presets}));
    }
    outln!("algorithms: {}", algorithms().join(", "))?;
    outln!("environments:")?;
    for (name, observations, actions) in envs {
        outln!("  {name:<16} observes {observations}, acts in {actions}")?;
    }
    outln!("presets:")?;
    for (algorithm, env) in presets::names() {
        outln!("  {algorithm:<8} {env}")?;
    }
    Ok(())
}

/// The settings of the preset, then those of the file, then those of the command line.
fn settings<L: Learner>(args: &Train) -> Result<L::Config, CliError> {
    let mut table = match presets::find(&args.algorithm, &args.env)? {
        Some(preset) if !args.no_preset => preset.settings,
        _ => toml::Table::new(),
    };
    if let Some(path) = &args.config {
        let why =
            |e: &dyn std::fmt::Display| CliError::failed(format!("cannot read {}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| why(&e))?;
        table.extend(text.parse::<toml::Table>().map_err(|e| why(&e))?);
    }
    for setting in &args.set {
        let (key, value) = pair(setting)?;
        table.insert(key.into(), toml_value(value));
    }
    presets::settings(table).map_err(usage)
}

fn options(pairs: &[String]) -> Result<Map<String, Value>, CliError> {
    let one = |text: &String| {
        let (key, value) = pair(text)?;
        let value = serde_json::to_value(toml_value(value)).map_err(CliError::usage)?;
        Ok((key.to_owned(), value))
    };
    pairs.iter().map(one).collect()
}

fn pair(text: &str) -> Result<(&str, &str), CliError> {
    text.split_once('=').ok_or_else(|| CliError::usage(format!("`{text}` is not KEY=VALUE")))
}

/// A TOML value; what is none is taken as text.
fn toml_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| text.into())
}

fn open_store(dir: &str) -> Result<CheckpointStore, CliError> {
    Ok(CheckpointStore::open(Storage::open(dir)?, Retention::default())?)
}

/// What the user asked for wrongly is usage; everything else is failure.
fn usage(error: RlError) -> CliError {
    match error {
        RlError::UnknownEnv { .. } | RlError::Space { .. } => CliError::usage(error),
        RlError::Config { .. } => CliError::usage(error.to_string().trim_end()),
        RlError::EnvOptions { ref source, .. } => CliError::usage(format!("{error}: {source}")),
        other => other.into(),
    }
}
