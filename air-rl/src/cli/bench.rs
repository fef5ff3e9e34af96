//! `bench`: how fast an environment steps.

use std::time::{Duration, Instant};

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;
use serde_json::json;

use super::setup::options;
use super::{python, usage};
use crate::env::actions::ActionRows;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;

/// Batches of actions drawn before the clock starts.
const DRAWN: usize = 64;

#[derive(Args)]
pub(super) struct Bench {
    #[command(flatten)]
    python: python::Python,
    /// The environment; `air-rl list` shows them
    env: String,
    /// An option of the environment, such as length=10; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// Environments stepped together, on one thread
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    envs: u64,
    /// Seconds to step for, at least
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seed of first states and actions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One JSON object instead of a sentence
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Bench) -> Result<(), CliError> {
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err(CliError::usage("--seconds must be more than 0 and at most 86400"));
    }
    let n = args.envs as usize;
    let spec = args.python.registry()?.spec_with(&args.env, options(&args.env_set)?).map_err(usage)?;
    let mut envs = spec.make(n)?;
    envs.reset(&(0..args.envs).map(|i| args.seed.wrapping_add(i)).collect::<Vec<_>>())?;
    let drawn = draw(&envs.action_space().clone(), n, args.seed);
    for actions in &drawn {
        envs.step(actions.actions())?;
    }
    let (begin, mut batches) = (Instant::now(), 0_u64);
    while begin.elapsed() < Duration::from_secs_f64(args.seconds) {
        for actions in &drawn {
            envs.step(actions.actions())?;
        }
        batches += DRAWN as u64;
    }
    let (steps, seconds) = (batches * args.envs, begin.elapsed().as_secs_f64());
    let rate = steps as f64 / seconds;
    if args.json {
        return outln!(
            "{}",
            json!({"env": args.env, "envs": args.envs, "steps": steps, "seconds": seconds, "steps_per_second": rate})
        );
    }
    outln!("{} environments: {steps} steps in {seconds:.2} s, {rate:.0} steps/s", args.envs)
}

/// Random actions of `n` environments, a few batches of them.
fn draw(space: &Space, n: usize, seed: u64) -> Vec<ActionRows> {
    let (mut rng, width) = (NumpyRng::new(seed), space.row_len());
    let mut batch = || {
        let mut rows = ActionRows::new(space, n);
        let mut row = vec![0.0; width];
        for i in 0..n {
            space.sample(&mut rng, &mut row);
            let at = i * width..(i + 1) * width;
            match space {
                Space::Box { .. } => rows.reals[at].copy_from_slice(&row),
                _ => rows.choices[at].iter_mut().zip(&row).for_each(|(choice, &x)| *choice = x as u32),
            }
        }
        rows
    };
    (0..DRAWN).map(|_| batch()).collect()
}
