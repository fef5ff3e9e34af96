//! The command line: `train`, `sweep`, `eval`, `enjoy`, `record`, `export`, `curve`, `bench`, `list`.

mod bench;
mod curve;
mod enjoy;
mod export;
mod external;
mod python;
mod seeds;
mod setup;
mod sweep;
mod watch;

use std::ffi::OsString;

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::cli::{self, CliError};
use air_core::outln;
use air_core::storage::Storage;
use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value, json};

use self::setup::{Setup, cast, environment, options, plan, settings, told};
use crate::env::rng::NumpyRng;
use crate::envs::{MULTI_ENVS, Registry};
use crate::error::RlError;
use crate::saved::checkpoint::Saved;
use crate::train::algorithm::{Algorithm, Iteration, Reason, Stop, WINDOW};
use crate::train::learner::Learner;
use crate::{
    AppoLearner, BcLearner, CqlLearner, DqnLearner, ExternalPpo, ExternalPpoConfig, ImpalaLearner,
    IqlLearner, MarwilLearner, MultiPpo, MultiPpoConfig, OfflineLearner, OfflineSettings as _,
    OfflineTrainer, OwnedAction, PpoLearner, PqnLearner, RecurrentPpoLearner, SacLearner, Space, Td3Learner,
    Trainer, offline_data, presets,
};

/// Trains one kind of learner.
type Run = fn(&Train) -> Result<(), CliError>;
/// Every setting of one kind of learner, as told on the command line or by default.
type Told = fn(&Setup) -> Result<Value, CliError>;

/// Every algorithm there is.
const ALGORITHMS: &[(&str, Run, Told)] = &[
    (PpoLearner::NAME, train::<PpoLearner>, told::<<PpoLearner as Learner>::Config>),
    (
        RecurrentPpoLearner::NAME,
        train::<RecurrentPpoLearner>,
        told::<<RecurrentPpoLearner as Learner>::Config>,
    ),
    (ImpalaLearner::NAME, train::<ImpalaLearner>, told::<<ImpalaLearner as Learner>::Config>),
    (AppoLearner::NAME, train::<AppoLearner>, told::<<AppoLearner as Learner>::Config>),
    (PqnLearner::NAME, train::<PqnLearner>, told::<<PqnLearner as Learner>::Config>),
    (DqnLearner::NAME, train::<DqnLearner>, told::<<DqnLearner as Learner>::Config>),
    (SacLearner::NAME, train::<SacLearner>, told::<<SacLearner as Learner>::Config>),
    (Td3Learner::NAME, train::<Td3Learner>, told::<<Td3Learner as Learner>::Config>),
    (MultiPpo::NAME, train_multi, told::<MultiPpoConfig>),
    (ExternalPpo::NAME, external::train, told::<ExternalPpoConfig>),
    (BcLearner::NAME, train_offline::<BcLearner>, told::<<BcLearner as OfflineLearner>::Config>),
    (MarwilLearner::NAME, train_offline::<MarwilLearner>, told::<<MarwilLearner as OfflineLearner>::Config>),
    (CqlLearner::NAME, train_offline::<CqlLearner>, told::<<CqlLearner as OfflineLearner>::Config>),
    (IqlLearner::NAME, train_offline::<IqlLearner>, told::<<IqlLearner as OfflineLearner>::Config>),
];

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
    Train(Box<Train>),
    /// Search for settings: trials are `train` commands that `air-tune` runs
    Sweep(Box<sweep::Sweep>),
    /// Play episodes with a trained policy, without exploring
    Eval(Eval),
    /// Look at episodes played with a trained policy: in the terminal, or as an animated GIF
    Enjoy(enjoy::Enjoy),
    /// Play episodes with a trained policy and write them down, to learn from with bc, marwil, cql or iql
    Record(Record),
    /// Write a trained policy as ONNX or safetensors
    Export(export::Export),
    /// Draw the learning curve of logged runs, with the confidence over their seeds
    Curve(curve::Curve),
    /// Step an environment with random actions, as fast as it goes
    Bench(bench::Bench),
    /// Show the algorithms and environments there are
    List {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        /// What `sweep` searches of this algorithm's settings, as a file for --space
        #[arg(long, value_name = "ALGORITHM", conflicts_with = "json")]
        space: Option<String>,
    },
}

#[derive(Args)]
struct Train {
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    watching: watch::Watching,
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
    #[command(flatten)]
    python: python::Python,
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

#[derive(Args)]
struct Record {
    #[command(flatten)]
    python: python::Python,
    /// A checkpoint that `train --out` wrote, or the directory of several
    checkpoint: String,
    /// The file to write, JSON lines, one episode each
    #[arg(long, value_name = "FILE")]
    out: std::path::PathBuf,
    /// Episodes to play
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    episodes: u64,
    /// Seed of the first states and of random actions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Chance of a random action instead of the policy's (not where actions are masked)
    #[arg(long, default_value_t = 0.0)]
    random: f64,
    /// Break off an episode after this many steps
    #[arg(long, default_value_t = 10_000)]
    max_steps: u64,
}

/// Runs the command line.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let args: Cli = cli::parse(args)?;
    match args.command {
        Command::Train(args) => {
            let (train, _) = algorithm(&args.setup.algorithm)?;
            seeds::run(*args, train)
        }
        Command::Sweep(args) => sweep::run(&args),
        Command::Eval(args) => eval(&args),
        Command::Enjoy(args) => enjoy::run(&args),
        Command::Record(args) => record(&args),
        Command::Export(args) => export::run(&args),
        Command::Curve(args) => curve::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::List { space: Some(algorithm), .. } => {
            outln!("{}", presets::space(&algorithm).map_err(usage)?.to_string().trim_end())
        }
        Command::List { json, .. } => list(json),
    }
}

fn algorithms() -> Vec<String> {
    ALGORITHMS.iter().map(|(name, ..)| (*name).to_owned()).collect()
}

fn algorithm(name: &str) -> Result<(Run, Told), CliError> {
    let found = ALGORITHMS.iter().find(|(known, ..)| *known == name);
    found.map(|(_, run, told)| (*run, *told)).ok_or_else(|| {
        CliError::usage(RlError::UnknownAlgorithm { name: name.to_owned(), known: algorithms() })
    })
}

fn train<L: Learner>(args: &Train) -> Result<(), CliError> {
    if args.setup.data.is_some() {
        return Err(CliError::usage(format!(
            "{} plays for itself; --data is for those that do not",
            L::NAME
        )));
    }
    let env = environment(&args.setup)?;
    let trainer = Trainer::<L>::new(settings(&args.setup)?, env, args.seed).map_err(usage)?;
    run_to_end(args, trainer, WINDOW as u64)
}

fn train_offline<L: OfflineLearner>(args: &Train) -> Result<(), CliError> {
    let env = environment(&args.setup)?;
    let config: L::Config = settings(&args.setup)?;
    let Some(path) = &args.setup.data else {
        let name = L::NAME;
        return Err(CliError::usage(format!(
            "{name} learns from recorded episodes: give a file with --data"
        )));
    };
    let episodes = offline_data::read(path)?;
    let window = config.drawing().evaluate_episodes;
    let trainer = OfflineTrainer::<L>::new(config, env, &episodes, args.seed).map_err(usage)?;
    run_to_end(args, trainer, window)
}

fn train_multi(args: &Train) -> Result<(), CliError> {
    let alone = args.setup.data.is_none() && plan(&args.setup)?.wrap.is_empty();
    if !alone || args.watching.evaluate_every.is_some() {
        return Err(CliError::usage(
            "--data, --wrap and --evaluate-every do not apply to environments of several agents",
        ));
    }
    let env = cast(&args.setup)?;
    let trainer = MultiPpo::new(settings(&args.setup)?, env, args.seed).map_err(usage)?;
    run_to_end(args, trainer, WINDOW as u64)
}

/// Trains until a rule holds, saves, and says how it went.
fn run_to_end<A: Algorithm>(args: &Train, mut algorithm: A, window: u64) -> Result<(), CliError> {
    let stop = Stop {
        mean_return: args.until_return,
        steps: Some(args.steps),
        iterations: args.iterations,
        ..Stop::default()
    };
    stop.validate().map_err(usage)?;
    let store = args.out.as_deref().map(open_store).transpose()?;
    let mut watch = watch::Watch::new(args)?;
    let outcome = algorithm.train_watching(&stop, |algorithm, iteration| watch.see(algorithm, iteration))?;
    let saved = store.map(|store| algorithm.save(&store)).transpose()?.map(|c| c.location());

    let last = outcome.last;
    let reached = outcome.reason == Reason::MeanReturn;
    // The mean at the episode that reached the target; the iteration may have gone a little beyond it.
    let mean_return = if reached { last.peak_return } else { last.mean_return };
    let ran = watch::Ran { steps: last.steps, seconds: last.seconds, mean_return, reached };
    args.watching.ran.set(Some(ran));
    if args.json {
        outln!(
            "{}",
            json!({
                "algorithm": args.setup.algorithm, "env": args.setup.env, "seed": args.seed, "reason": outcome.reason,
                "best_evaluation": watch.best(),
                "steps": last.steps, "seconds": last.seconds, "steps_per_second": last.steps as f64 / last.seconds,
                "iterations": last.iteration, "episodes": last.episodes, "mean_return": mean_return,
                "mean_length": last.mean_length, "learner": last.learner, "checkpoint": saved,
            })
        )?;
    } else {
        let mean = mean_return
            .map_or("no episode ended".into(), |r| format!("mean return {r:.2} over {window} episodes"));
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
        None => (python::named(&saved)?, saved.run.env_options.clone()),
    };
    env_options.extend(options(&args.env_set)?);
    let env = args.python.registry()?.spec_with(name, env_options).map_err(usage)?;
    let played = saved.policy()?.evaluate(&env, args.episodes, args.seed, args.max_steps);
    let played = played.map_err(|error| misfit(error, &saved, name))?;

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

fn record(args: &Record) -> Result<(), CliError> {
    if !(0.0..=1.0).contains(&args.random) {
        return Err(CliError::usage("--random must be between 0 and 1"));
    }
    let saved = Saved::read(&args.checkpoint)?;
    let registry = args.python.registry()?;
    let env = registry.spec_with(python::named(&saved)?, saved.run.env_options.clone()).map_err(usage)?;
    let policy = saved.policy()?;
    policy.fits(&saved.run.task.observation_space, &saved.run.task.action_space)?;
    let (space, mut rng) = (policy.action_space().clone(), NumpyRng::new(args.seed));
    let mut row = vec![0.0; space.row_len()];
    let act = |obs: &[f32], mask: &[bool]| {
        if !mask.is_empty() || rng.random() >= args.random {
            return policy.act_masked(obs, mask);
        }
        space.sample(&mut rng, &mut row);
        Ok(match space {
            Space::Discrete { .. } => OwnedAction::Discrete(row[0] as u32),
            Space::MultiDiscrete { .. } => {
                OwnedAction::MultiDiscrete(row.iter().map(|&x| x as u32).collect())
            }
            Space::Box { .. } => OwnedAction::Continuous(row.clone()),
        })
    };
    let episodes = offline_data::record(&env, args.episodes, args.seed, args.max_steps, act)?;
    let why =
        |e: &dyn std::fmt::Display| CliError::failed(format!("cannot write {}: {e}", args.out.display()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&args.out).map_err(|e| why(&e))?);
    offline_data::write(&mut file, &episodes).map_err(|e| why(&e))?;
    std::io::Write::flush(&mut file).map_err(|e| why(&e))?;
    let mean = episodes.iter().flat_map(|e| &e.rewards).sum::<f64>() / episodes.len() as f64;
    let steps: usize = episodes.iter().map(|e| e.actions.len()).sum();
    outln!("{} episodes, {steps} steps, mean return {mean:.2}", episodes.len())
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
        return outln!(
            "{}",
            json!({"algorithms": algorithms(), "environments": envs, "multi_environments": MULTI_ENVS, "presets": presets})
        );
    }
    outln!("algorithms: {}", algorithms().join(", "))?;
    outln!("environments:")?;
    for (name, observations, actions) in envs {
        outln!("  {name:<16} observes {observations}, acts in {actions}")?;
    }
    outln!("  gym:NAME         any environment of Gymnasium, py:MODULE:CLASS any class with its methods")?;
    outln!("environments of several agents, for {}: {}", MultiPpo::NAME, MULTI_ENVS.join(", "))?;
    outln!("presets:")?;
    for (algorithm, env) in presets::names() {
        outln!("  {algorithm:<8} {env}")?;
    }
    Ok(())
}

/// Where a policy does not fit an environment, it helps to know which it was trained in.
fn misfit(error: RlError, saved: &Saved, env: &str) -> CliError {
    match error {
        RlError::Space { .. } => CliError::failed(format!(
            "{error}: that was `{}`, and this is `{env}`{}",
            saved.run.env,
            if saved.run.env == env { " with other options or wrappers" } else { "" }
        )),
        other => other.into(),
    }
}

fn open_store(dir: &str) -> Result<CheckpointStore, CliError> {
    Ok(CheckpointStore::open(Storage::open(dir)?, Retention::default())?)
}

/// What the user asked for wrongly is usage; everything else is failure.
fn usage(error: RlError) -> CliError {
    match error {
        RlError::UnknownEnv { .. }
        | RlError::UnknownAlgorithm { .. }
        | RlError::NotDrawn { .. }
        | RlError::Space { .. }
        | RlError::Python { .. } => CliError::usage(error),
        RlError::Config { .. } => CliError::usage(error.to_string().trim_end()),
        RlError::EnvOptions { ref source, .. } => CliError::usage(format!("{error}: {source}")),
        other => other.into(),
    }
}
