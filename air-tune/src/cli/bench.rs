//! `bench`: what a trial costs here before it does any work, and what a proposal costs.
//!
//! Every figure is the median of several rounds in which the workloads take turns, so what slows the machine down for a while slows down all of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use air_core::cli::CliError;
use air_core::outln;
use air_core::seed::Seed;
use clap::{Args, ValueEnum};
use serde_json::{Map, json};

use crate::error::TuneError;
use crate::log::LogConfig;
use crate::schedule::{AshaConfig, SchedulerConfig};
use crate::search::{
    BohbConfig, CmaConfig, DifferentialConfig, GpConfig, Mode, Nsga2Config, Outcome, SearchConfig, TpeConfig,
};
use crate::space::{Space, uniform};
use crate::tuner::{RunConfig, TuneConfig, Tuner};
use crate::{ResultGrid, TrialId};

/// Most reports of a trial under ASHA.
const REPORTS: u64 = 100;
/// Numbers of the space in which proposals are asked for.
const NUMBERS: usize = 10;
/// Proposals a round.
const ASKS: u64 = 20;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Trials of an experiment, and trials that a searcher knows of; of gp and asha at most a fifth and a tenth of it
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    trials: u64,
    /// Rounds whose median is the figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Measure only this; may be given several times
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Vec<Workload>,
    /// Where experiments are stored meanwhile [default: the system's folder for temporary files, which may lie in memory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave them there: ext4 is slow to make files for some minutes after many were deleted
    #[arg(long, requires = "dir")]
    keep: bool,
    /// Print one JSON object: {"figures": {what: {"count", "seconds", "microseconds_each"}}}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Trials that report one number, nothing stored
    Memory,
    /// The same in SQLite
    Sqlite,
    /// The same in SQLite with CSV, JSON lines and TensorBoard files beside it: what an experiment with a folder writes
    Durable,
    /// Trials of up to 100 reports that ASHA stops, stored with all files
    Asha,
    /// Asking a searcher for ten numbers, and telling it how good they are
    Random,
    /// As random
    Quasi,
    /// As random
    Tpe,
    /// As random
    Bohb,
    /// As random
    Cma,
    /// As random
    De,
    /// As random
    Nsga2,
    /// As random
    Gp,
}

/// What one round of a workload took, and of how many things.
#[derive(Clone, Copy)]
struct Round {
    seconds: f64,
    count: u64,
}

impl Workload {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What there are `count` of.
    fn unit(self) -> &'static str {
        match self {
            Workload::Memory | Workload::Sqlite | Workload::Durable | Workload::Asha => "trials",
            _ => "proposals",
        }
    }

    fn round(self, trials: u64, dir: &Path) -> Result<Round, CliError> {
        let stored = |log| RunConfig { dir: Some(dir.to_owned()), log, ..RunConfig::default() };
        match self {
            Workload::Memory => experiment(trials, None, RunConfig::default()),
            Workload::Sqlite => experiment(trials, None, stored(LogConfig::none())),
            Workload::Durable => experiment(trials, None, stored(LogConfig::default())),
            Workload::Asha => {
                let asha = AshaConfig { reduction_factor: 3, max_t: REPORTS, ..AshaConfig::default() };
                experiment(trials.div_ceil(10), Some(asha), stored(LogConfig::default()))
            }
            Workload::Random => proposals(&SearchConfig::Variants, trials),
            Workload::Quasi => proposals(&SearchConfig::Quasi, trials),
            Workload::Tpe => proposals(&TpeConfig::default().into(), trials),
            Workload::Bohb => proposals(&BohbConfig::default().into(), trials),
            Workload::Cma => proposals(&CmaConfig::default().into(), trials),
            Workload::De => proposals(&DifferentialConfig::default().into(), trials),
            Workload::Nsga2 => proposals(&Nsga2Config::default().into(), trials),
            Workload::Gp => proposals(&GpConfig::default().into(), trials.div_ceil(5)),
        }
    }
}

/// An experiment whose trials do nothing but report: once, or as often as ASHA lets them.
fn experiment(trials: u64, asha: Option<AshaConfig>, run: RunConfig) -> Result<Round, CliError> {
    let reports = asha.as_ref().map_or(1, |asha| asha.max_t);
    let scheduler = asha.map_or(SchedulerConfig::Fifo, SchedulerConfig::from);
    let tuner = Tuner::new(Space::new().with("x", uniform(0.0, 1.0)), move |trial, config| {
        let x = config.f64("x")?;
        for step in 1..=reports {
            if trial.report(&[("loss", x / step as f64)])?.is_stop() {
                break;
            }
        }
        Ok(())
    });
    let tune = TuneConfig {
        num_samples: trials,
        search: SearchConfig::Variants,
        scheduler,
        ..TuneConfig::default()
    };
    let tuner = tuner.tune_config(tune).run_config(run).quiet();
    let began = Instant::now();
    let grid: ResultGrid = tuner.fit()?;
    let seconds = began.elapsed().as_secs_f64();
    match grid.errors().next() {
        None => Ok(Round { seconds, count: grid.len() as u64 }),
        Some((trial, cause)) => Err(CliError::failed(format!("trial {}: {cause}", trial.trial))),
    }
}

/// Asks and tells of a searcher that knows of so many trials.
fn proposals(config: &SearchConfig, known: u64) -> Result<Round, CliError> {
    let space = (0..NUMBERS).fold(Space::new(), |space, at| space.with(&format!("x{at}"), uniform(0.0, 1.0)));
    let mut searcher = config.build(&space, &[Mode::Min], known + ASKS, Seed::new(0))?;
    let mut step = |trial: TrialId| {
        if let Some(point) = searcher.ask(trial) {
            let numbers = point.iter().filter_map(|(_, value)| value.as_f64());
            searcher.tell(trial, Outcome::Complete(numbers.map(|x| (x - 0.3).powi(2)).sum()));
        }
    };
    (0..known).for_each(&mut step);
    let began = Instant::now();
    (known..known + ASKS).for_each(&mut step);
    Ok(Round { seconds: began.elapsed().as_secs_f64(), count: ASKS })
}

pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    let workloads: Vec<Workload> = Workload::value_variants()
        .iter()
        .copied()
        .filter(|it| args.only.is_empty() || args.only.contains(it))
        .collect();
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); workloads.len()];
    for _ in 0..args.rounds {
        for (workload, rounds) in workloads.iter().zip(&mut rounds) {
            let mut folder = tempfile::tempdir_in(&parent).map_err(TuneError::io(&parent))?;
            folder.disable_cleanup(args.keep);
            rounds.push(workload.round(args.trials, &folder.path().join("bench"))?);
        }
    }
    let medians: Vec<(Workload, Round)> =
        workloads.into_iter().zip(rounds).map(|(workload, rounds)| (workload, median(rounds))).collect();
    if args.json {
        let figures: Map<_, _> =
            medians.iter().map(|(workload, round)| (workload.name(), figure(*round))).collect();
        return outln!("{}", json!({ "figures": figures }));
    }
    outln!("{:8} {:>10} {:>10} {:>12}", "", "", "seconds", "µs each")?;
    for (workload, round) in medians {
        let count = format!("{} {}", round.count, workload.unit());
        outln!("{:8} {count:>14} {:>10.5} {:>10.1}", workload.name(), round.seconds, each(round))?;
    }
    Ok(())
}

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    rounds[rounds.len() / 2]
}

fn each(round: Round) -> f64 {
    1e6 * round.seconds / round.count as f64
}

fn figure(round: Round) -> serde_json::Value {
    json!({"count": round.count, "seconds": round.seconds, "microseconds_each": each(round)})
}
