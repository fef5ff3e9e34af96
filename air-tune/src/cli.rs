//! The `air-tune` command line.

mod bench;
mod look;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use air_core::BoxError;
use air_core::cli::CliError;
use air_core::outln;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::command::Command;
use crate::config::Config;
use crate::error::TuneError;
use crate::log::{Callback, Event, LogConfig, MlflowConfig};
use crate::result::{ResultGrid, TrialResult};
use crate::schedule::{AshaConfig, HyperBandConfig, MedianConfig, SchedulerConfig};
use crate::search::{
    BohbConfig, CmaConfig, DifferentialConfig, GpConfig, Mode, Nsga2Config, SearchConfig, TpeConfig,
};
use crate::space::{Constraint, Domain, Space, parse_param};
use crate::stop::StopperConfig;
use crate::trial::Trainable;
use crate::tuner::{FailureConfig, Objective, RunConfig, TuneConfig, Tuner};

const AFTER_HELP: &str = "\
Examples:
  air-tune run --param 'lr=loguniform(1e-4,1e-1)' --param 'units=choice(16,32)' \\
      --metric loss --mode min --trials 20 --scheduler asha --out runs/mnist -- python train.py --lr {lr} --units {units}
  air-tune best runs/mnist
  air-tune resume runs/mnist
  air-tune report runs/mnist
  air-tune export runs/mnist --format json --out trials.jsonl

Exit code: 0 if all went well, 1 if a trial failed or nothing was found, 2 if the command line is wrong.";

/// Hyper-parameter search over any command: durable, resumable, readable by Optuna and TensorBoard.
#[derive(Parser)]
#[command(name = "air-tune", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Search for the best parameters of a command
    Run(Box<RunArgs>),
    /// Show the best trial so far, of a running, finished or killed experiment
    Best(BestArgs),
    /// Go on with an experiment that was interrupted
    Resume(ResumeArgs),
    /// List the trials of an experiment, or the experiments in a folder
    List(ListArgs),
    /// Show one trial: parameters, reports, cause of failure
    Show(ShowArgs),
    /// Write a report as one HTML file: history, importance of parameters, learning curves, slices
    Report(ReportArgs),
    /// Write the trials as a table
    Export(ExportArgs),
    /// Measure what a trial costs here before it does any work, and what a proposal of each searcher costs
    Bench(bench::BenchArgs),
}

#[derive(Args)]
struct RunArgs {
    /// A parameter: name=domain, where domain is grid(a,b,…), choice(a,b,…), uniform(low,high), loguniform(low,high),
    /// quniform(low,high,step), randint(low,high), lograndint(low,high), qrandint(low,high,step) or a constant.
    /// randint and lograndint leave out `high`
    #[arg(long = "param", value_name = "NAME=DOMAIN", required = true)]
    params: Vec<String>,
    /// The number to optimise: a key of the JSON objects that the command prints, one a line
    #[arg(long, default_value = "loss")]
    metric: String,
    /// Whether small or large values are good
    #[arg(long, value_enum, default_value = "min")]
    mode: ModeArg,
    /// A further number to optimise: name:min or name:max. Then the best are those that no other trial beats in everything
    #[arg(long, value_name = "NAME:MODE")]
    also: Vec<String>,
    /// A trial is complete once this holds: name>=number, name<=number, or iterations>=number
    #[arg(long, value_name = "RULE")]
    stop: Vec<String>,
    /// What parameters must hold to together: 'a + 2*b <= 10'
    #[arg(long, value_name = "RULE")]
    require: Vec<String>,
    /// Parameters to try first, as JSON: {"lr": 0.01}; what is left out is drawn at random
    #[arg(long = "try", value_name = "JSON")]
    points: Vec<String>,
    /// How many trials; with grids, how often their combinations are gone through [default: 10, or 1 if all parameters are grids]
    #[arg(long, value_name = "N")]
    trials: Option<u64>,
    /// Who proposes parameters
    #[arg(long, value_enum, default_value = "auto")]
    search: SearchArg,
    /// Which trials are stopped early
    #[arg(long, value_enum, default_value = "fifo")]
    scheduler: SchedulerArg,
    /// asha, hyperband, median: reports after which a trial is complete [default: 100 of asha, 81 of hyperband]
    #[arg(long)]
    max_t: Option<u64>,
    /// asha, median: reports before a trial may be stopped
    #[arg(long, default_value_t = AshaConfig::default().grace_period)]
    grace_period: u64,
    /// asha, hyperband: one trial of this many goes on at each rung [default: 4 of asha, 3 of hyperband]
    #[arg(long)]
    reduction_factor: Option<u64>,
    /// Most trials at once [default: the number of CPUs]
    #[arg(long, value_name = "N")]
    max_concurrent: Option<usize>,
    /// All random choices follow from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// No trial starts after this time, and running ones are stopped
    #[arg(long, value_name = "SECONDS")]
    time_budget: Option<f64>,
    /// How often a failed trial is run again
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_failures: u32,
    /// Folder for the results [default: the first free one of air-results/tune-1, tune-2, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show the trials as runs of the MLflow server at this address: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    mlflow: Option<String>,
    /// Write the trials as runs of this Weights & Biases project; `wandb sync DIR/wandb/offline-run-*` uploads them
    #[arg(long, value_name = "PROJECT")]
    wandb: Option<String>,
    /// Print one JSON object for each trial as it ends, then {"best": …}
    #[arg(long)]
    json: bool,
    /// The command of a trial; {name} stands for a parameter, which is also in the environment as AIR_PARAM_<NAME>
    #[arg(last = true, value_name = "CMD", required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct BestArgs {
    /// The experiment's folder
    dir: PathBuf,
    /// Print the trial as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ListArgs {
    /// The experiment's folder, or one with experiments in it
    dir: PathBuf,
    /// Only trials that stand so: waiting, running, complete, stopped or failed
    #[arg(long)]
    status: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowArgs {
    /// The experiment's folder
    dir: PathBuf,
    /// The trial's number
    trial: u64,
    /// Print the trial as one JSON object, with all its reports
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ReportArgs {
    /// The experiment's folder
    dir: PathBuf,
    /// The file [default: report.html in the experiment's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct ExportArgs {
    /// The experiment's folder
    dir: PathBuf,
    /// The form of the table
    #[arg(long, value_enum, default_value = "csv")]
    format: FormatArg,
    /// The file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file, if this was built with the feature `parquet`
    Parquet,
}

#[derive(Args)]
struct ResumeArgs {
    /// The experiment's folder
    dir: PathBuf,
    /// Most trials at once [default: as before]
    #[arg(long, value_name = "N")]
    max_concurrent: Option<usize>,
    /// Print one JSON object for each trial as it ends, then {"best": …}
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    Min,
    Max,
}

#[derive(Clone, Copy, ValueEnum)]
enum SearchArg {
    /// Grids are gone through; without one, tpe
    Auto,
    /// Grids, and the rest at random
    Random,
    /// Tree-structured Parzen estimator: learns where good trials are
    Tpe,
    /// CMA-ES with restarts: for many numbers and hundreds of trials
    Cma,
    /// Gaussian process: for few and dear trials
    Gp,
    /// Spread evenly over the space
    Quasi,
    /// Differential evolution
    De,
    /// A genetic algorithm, for several objectives
    Nsga2,
    /// tpe for trials that hyperband stops
    Bohb,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchedulerArg {
    /// None: every trial runs to its end
    Fifo,
    /// Asynchronous successive halving
    Asha,
    /// HyperBand: a trial pauses at each rung; it finds what it saved in $AIR_CHECKPOINT when it goes on
    Hyperband,
    /// Stops what is worse than the median of the others
    Median,
}

/// Runs one command line, the program's name first.
///
/// # Errors
/// [`CliError::Usage`] if the command line is wrong, [`CliError::Failed`] if the work failed.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let cli: Cli = air_core::cli::parse(args)?;
    let done = match cli.verb {
        Verb::Run(args) => search(*args),
        Verb::Best(args) => best(&args),
        Verb::Resume(args) => resume(&args),
        Verb::List(args) => look::list(&args),
        Verb::Show(args) => look::show(&args),
        Verb::Report(args) => look::report(&args),
        Verb::Export(args) => look::export(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    done.map_err(|error| match error {
        CliError::Failed(error) => match error.downcast::<TuneError>() {
            Ok(error) if is_usage(&error) => CliError::usage(error),
            Ok(error) => CliError::failed(*error),
            Err(error) => CliError::Failed(error),
        },
        other => other,
    })
}

/// Whether the user asked for something that cannot be, rather than something going wrong.
fn is_usage(error: &TuneError) -> bool {
    matches!(
        error,
        TuneError::InvalidSpace { .. }
            | TuneError::InvalidConfig { .. }
            | TuneError::Placeholder { .. }
            | TuneError::Command { .. }
            | TuneError::NoStudy { .. }
            | TuneError::StudyExists { .. }
            | TuneError::NoTrial { .. }
    )
}

fn search(args: RunArgs) -> Result<(), CliError> {
    let mut space = Space::new();
    for param in &args.params {
        let (name, domain) = parse_param(param)?;
        space = space.with(&name, domain);
    }
    for rule in &args.require {
        space = space.require(Constraint::parse(rule)?);
    }
    space.validate()?;
    let all_listed =
        space.params().iter().all(|p| matches!(p.domain, Domain::Grid { .. } | Domain::Fixed { .. }));
    let (asha, hyperband) = (AshaConfig::default(), HyperBandConfig::default());
    let scheduler = match args.scheduler {
        SchedulerArg::Fifo => SchedulerConfig::Fifo,
        SchedulerArg::Asha => SchedulerConfig::Asha(AshaConfig {
            max_t: args.max_t.unwrap_or(asha.max_t),
            grace_period: args.grace_period,
            reduction_factor: args.reduction_factor.unwrap_or(asha.reduction_factor),
            ..asha
        }),
        SchedulerArg::Hyperband => SchedulerConfig::HyperBand(HyperBandConfig {
            max_t: args.max_t.unwrap_or(hyperband.max_t),
            reduction_factor: args.reduction_factor.unwrap_or(hyperband.reduction_factor),
        }),
        SchedulerArg::Median => SchedulerConfig::Median(MedianConfig {
            grace_period: args.grace_period,
            max_t: args.max_t,
            ..MedianConfig::default()
        }),
    };
    let time_budget = match args.time_budget.map(Duration::try_from_secs_f64) {
        Some(Err(_)) => return Err(CliError::usage("--time-budget must be a number of seconds, at least 0")),
        Some(Ok(budget)) => Some(budget),
        None => None,
    };
    let tune = TuneConfig {
        metric: args.metric,
        mode: match args.mode {
            ModeArg::Min => Mode::Min,
            ModeArg::Max => Mode::Max,
        },
        also: args.also.iter().map(|text| objective(text)).collect::<Result<_, _>>()?,
        stop: args.stop.iter().map(|text| stopper(text)).collect::<Result<_, _>>()?,
        points_to_evaluate: args.points.iter().map(|text| point(text)).collect::<Result<_, _>>()?,
        num_samples: args.trials.unwrap_or(if all_listed { 1 } else { 10 }),
        max_concurrent_trials: args.max_concurrent,
        search: match args.search {
            SearchArg::Auto => SearchConfig::Auto,
            SearchArg::Random => SearchConfig::Variants,
            SearchArg::Tpe => TpeConfig::default().into(),
            SearchArg::Cma => CmaConfig::default().into(),
            SearchArg::Gp => GpConfig::default().into(),
            SearchArg::Quasi => SearchConfig::Quasi,
            SearchArg::De => DifferentialConfig::default().into(),
            SearchArg::Nsga2 => Nsga2Config::default().into(),
            SearchArg::Bohb => match &scheduler {
                SchedulerConfig::HyperBand(config) => BohbConfig::of(config).into(),
                _ => BohbConfig::default().into(),
            },
        },
        scheduler,
        seed: args.seed,
        time_budget,
    };
    tune.validate()?;
    let command = Command::new(args.command.clone(), &tune.metric, &space)?;
    let dir = args.out.unwrap_or_else(free_dir);
    let name = dir.file_name().map_or_else(|| "tune".into(), |name| name.to_string_lossy().into_owned());
    let failure = FailureConfig { max_failures: args.max_failures, fail_fast: false };
    let log =
        LogConfig { mlflow: args.mlflow.map(MlflowConfig::at), wandb: args.wandb, ..LogConfig::default() };
    let run = RunConfig { name, dir: Some(dir.clone()), failure, log };
    let tuner = Tuner::with(space, command).tune_config(tune).run_config(run).command(args.command);
    finish(tuner, &dir, args.json)
}

fn point(text: &str) -> Result<Config, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::usage(format!("--try {text}: {error}")))
}

fn objective(text: &str) -> Result<Objective, CliError> {
    let named = |mode| text.rsplit_once(':').map(|(name, _)| Objective { metric: name.to_owned(), mode });
    let found = match text.rsplit_once(':') {
        Some((_, "min")) => named(Mode::Min),
        Some((_, "max")) => named(Mode::Max),
        _ => None,
    };
    found.ok_or_else(|| CliError::usage(format!("--also {text}: expected NAME:min or NAME:max")))
}

fn stopper(text: &str) -> Result<StopperConfig, CliError> {
    let bad = || {
        CliError::usage(format!("--stop {text}: expected NAME>=NUMBER, NAME<=NUMBER or iterations>=NUMBER"))
    };
    let rule = text.split_once(">=").map(|(name, bound)| (name, bound, true));
    let (name, bound, up) =
        rule.or_else(|| text.split_once("<=").map(|(name, bound)| (name, bound, false))).ok_or_else(bad)?;
    let (name, bound) = (name.trim(), bound.trim());
    if name == "iterations" && up {
        return Ok(StopperConfig::MaxIterations { iterations: bound.parse().map_err(|_| bad())? });
    }
    let bound: f64 = bound.parse().map_err(|_| bad())?;
    let (at_least, at_most) = if up { (Some(bound), None) } else { (None, Some(bound)) };
    Ok(StopperConfig::Target { metric: name.to_owned(), at_least, at_most })
}

fn free_dir() -> PathBuf {
    let candidates = (1_u32..).map(|n| Path::new("air-results").join(format!("tune-{n}")));
    candidates.into_iter().find(|dir| !dir.exists()).unwrap_or_default()
}

fn resume(args: &ResumeArgs) -> Result<(), CliError> {
    let tuner = Tuner::resume_with(&args.dir, |meta| match &meta.command {
        Some(command) => {
            Ok(Arc::new(Command::new(command.clone(), &meta.tune.metric, &meta.space)?) as Arc<dyn Trainable>)
        }
        None => Err(TuneError::Command {
            program: args.dir.display().to_string(),
            reason: "its trials are code, not a command: resume it from the program that started it".into(),
        }),
    })?;
    finish(tuner.concurrency(args.max_concurrent), &args.dir, args.json)
}

fn finish(tuner: Tuner, dir: &Path, json: bool) -> Result<(), CliError> {
    eprintln!("results in {}", dir.display());
    let tuner = if json { tuner.callback(JsonTrials) } else { tuner };
    let grid = tuner.fit()?;
    if json {
        outln!("{}", json!({"best": grid.best().ok()}))?;
    } else {
        outln!("{}", grid.table().trim_end())?;
        if grid.objectives().len() > 1 {
            let front: Vec<String> =
                grid.pareto_front().iter().map(|trial| trial.trial.to_string()).collect();
            outln!("")?;
            outln!("no trial beats these in everything: {}", front.join(", "))?;
        } else if let Ok(best) = grid.best() {
            outln!("")?;
            describe(grid.metric(), best)?;
        }
    }
    grid.best()?;
    match grid.errors().next() {
        None => Ok(()),
        Some((trial, cause)) => Err(CliError::failed(format!(
            "{} of {} trials failed: trial {}: {cause}",
            grid.errors().count(),
            grid.len(),
            trial.trial
        ))),
    }
}

fn best(args: &BestArgs) -> Result<(), CliError> {
    let grid = ResultGrid::load(&args.dir)?;
    let best = grid.best()?;
    if args.json {
        return outln!("{}", serde_json::to_string(best)?);
    }
    describe(grid.metric(), best)?;
    let counts: Vec<String> = grid.counts().iter().map(|(status, n)| format!("{n} {status}")).collect();
    outln!("of {} trials: {}", grid.len(), counts.join(", "))
}

fn describe(metric: &str, best: &TrialResult) -> Result<(), CliError> {
    let value = best.value.unwrap_or(f64::NAN);
    outln!("best: trial {}, {metric} {value} after {} iterations", best.trial, best.iterations)?;
    for (path, value) in best.config.paths() {
        outln!("  {path} = {value}")?;
    }
    if let Some(dir) = &best.dir {
        outln!("  in {}", dir.display())?;
    }
    Ok(())
}

/// One JSON object for each trial that is over, once that is stored.
struct JsonTrials;

impl Callback for JsonTrials {
    fn name(&self) -> &'static str {
        "--json"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        for event in events {
            if let Event::Ended(result) = event {
                serde_json::to_writer(&mut out, result)?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
