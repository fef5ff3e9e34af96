//! What is done beside training: progress, logs, evaluations.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::cli::CliError;
use air_core::outln;
use air_core::storage::Storage;
use clap::Args;
use serde_json::json;

use super::Train;
use super::setup::environment;
use crate::envs::EnvSpec;
use crate::error::Result;
use crate::train::algorithm::{Algorithm, Iteration};
use crate::train::log::RunLog;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(500);
/// Longest episode of an evaluation.
const LONGEST: u64 = 100_000;

#[derive(Args)]
pub(super) struct Watching {
    /// Write progress.jsonl, progress.csv and an event file for TensorBoard there (with --seeds in a folder for each)
    #[arg(long, value_name = "DIR")]
    pub(super) log: Option<PathBuf>,
    /// Environment steps between two lines of the logs and of --report
    #[arg(long, value_name = "STEPS", default_value_t = 1000)]
    log_every: u64,
    /// Print a JSON object with mean_return, steps and training_iteration (steps / --log-every) every so often: what `air-tune run`
    /// reads
    #[arg(long)]
    report: bool,
    /// Play without exploring every so many steps; with --out the policy that did best is kept in OUT/best
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) evaluate_every: Option<u64>,
    /// Episodes of each evaluation
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    evaluate_episodes: u64,
    /// Train with this many seeds, from --seed on, one after another
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) seeds: u64,
    /// What the run came to, for the summary of several seeds.
    #[arg(skip)]
    pub(super) ran: Cell<Option<Ran>>,
}

/// What one run came to.
#[derive(Clone, Copy)]
pub(super) struct Ran {
    pub(super) steps: u64,
    pub(super) seconds: f64,
    pub(super) mean_return: Option<f64>,
    pub(super) reached: bool,
}

/// Looks at each iteration.
pub(super) struct Watch<'a> {
    args: &'a Train,
    /// After how many steps it is evaluated, and where, if it is.
    evaluations: Option<(u64, EnvSpec)>,
    log: Option<RunLog>,
    shown: Instant,
    reported: u64,
    evaluated: u64,
    best: Option<f64>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(args: &'a Train) -> Result<Self, CliError> {
        let log =
            args.watching.log.as_ref().map(|dir| RunLog::create(dir, args.watching.log_every)).transpose()?;
        let evaluations = match args.watching.evaluate_every {
            Some(every) => Some((every, environment(&args.setup)?)),
            None => None,
        };
        Ok(Self { args, evaluations, log, shown: Instant::now(), reported: 0, evaluated: 0, best: None })
    }

    /// The mean return of the best evaluation.
    pub(super) fn best(&self) -> Option<f64> {
        self.best
    }

    pub(super) fn see<A: Algorithm>(&mut self, algorithm: &mut A, now: &Iteration<A::Stats>) -> Result<()> {
        let watching = &self.args.watching;
        if !self.args.quiet && self.shown.elapsed() >= PROGRESS {
            self.shown = Instant::now();
            super::progress(now);
        }
        if watching.report && due(watching.log_every, self.reported, now.steps) {
            self.reported = now.steps;
            if let Some(mean_return) = now.mean_return {
                // Settings may change how long an iteration is: what is compared counts steps.
                let report = json!({
                    "training_iteration": now.steps / watching.log_every.max(1), "iteration": now.iteration,
                    "steps": now.steps, "mean_return": mean_return,
                });
                // Who reads has gone: the run is not for nothing, if it saves.
                let _ = outln!("{report}");
            }
        }
        let evaluation = self.evaluate(algorithm, now.steps)?;
        self.log.as_mut().map_or(Ok(()), |log| log.iteration(now, evaluation))
    }

    /// The mean return of an evaluation, if it is time for one; the best policy is kept.
    fn evaluate<A: Algorithm>(&mut self, algorithm: &mut A, steps: u64) -> Result<Option<f64>> {
        let Some((every, env)) =
            self.evaluations.as_ref().filter(|(every, _)| due(*every, self.evaluated, steps))
        else {
            return Ok(None);
        };
        self.evaluated = steps / every * every;
        let episodes = self.args.watching.evaluate_episodes;
        let played = algorithm.policy().evaluate(env, episodes, self.args.seed, LONGEST)?;
        let mean = played.iter().map(|p| p.total).sum::<f64>() / played.len() as f64;
        if self.best.is_none_or(|best| mean > best) {
            self.best = Some(mean);
            if let Some(out) = &self.args.out {
                let store =
                    CheckpointStore::open(Storage::open(&format!("{out}/best"))?, Retention::newest(1))?;
                algorithm.save(&store)?;
            }
        }
        Ok(Some(mean))
    }
}

/// Has a multiple of `every` been passed since `last`?
fn due(every: u64, last: u64, now: u64) -> bool {
    now / every.max(1) > last / every.max(1)
}
