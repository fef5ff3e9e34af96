//! Many trials that sleep or do nothing: how near they come to the ideal, and what they leave in memory.
//!
//! `cargo run --release -p air-tune --example bench_many -- --trials 10000 --at-once 64 --seconds 1 [--stored FOLDER]`
//!
//! Prints `{"trials", "seconds", "ideal_seconds", "of_ideal", "tenth_mib", "end_mib"}`: the last two are what the process holds after a tenth of the trials and at their end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use air_tune::search::SearchConfig;
use air_tune::space::{Space, uniform};
use air_tune::{RunConfig, TuneConfig, Tuner};
use clap::Parser;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 10_000)]
    trials: u64,
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// What each trial sleeps
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// A folder to store the experiment in
    #[arg(long)]
    stored: Option<PathBuf>,
}

/// What the process holds in memory, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let (nap, tenth) = (Duration::from_secs_f64(options.seconds), options.trials / 10);
    let early = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&early);
    let tuner = Tuner::new(Space::new().with("x", uniform(0.0, 1.0)), move |trial, config| {
        if trial.id() == tenth {
            seen.store(resident_kib(), Ordering::Relaxed);
        }
        if !nap.is_zero() {
            std::thread::sleep(nap);
        }
        let _ = trial.report(&[("loss", config.f64("x")?)])?;
        Ok(())
    });
    let tune = TuneConfig {
        num_samples: options.trials,
        max_concurrent_trials: Some(options.at_once),
        search: SearchConfig::Variants,
        ..TuneConfig::default()
    };
    let log = air_tune::log::LogConfig::none();
    let run = RunConfig { dir: options.stored.clone(), log, ..RunConfig::default() };
    let began = Instant::now();
    let grid = tuner.tune_config(tune).run_config(run).quiet().fit()?;
    let seconds = began.elapsed().as_secs_f64();
    let ideal = options.trials as f64 * options.seconds / options.at_once as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let told = serde_json::json!({
        "trials": grid.len(), "seconds": seconds, "ideal_seconds": ideal, "of_ideal": ideal / seconds,
        "tenth_mib": mib(early.load(Ordering::Relaxed)), "end_mib": mib(resident_kib()),
    });
    println!("{told}");
    Ok(())
}
