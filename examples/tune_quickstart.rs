//! Tune in two small experiments: a score reported once, and a loss reported step by step into a folder that TensorBoard opens.
//!
//!     cargo run --release -p air-tune --example tune_quickstart -- [FOLDER]
//!
//! FOLDER must not hold an experiment yet; without it a temporary one is used.

use std::path::PathBuf;

use air_core::BoxError;
use air_tune::space::{Space, choice, grid};
use air_tune::{Mode, RunConfig, TuneConfig, Tuner};

fn main() -> Result<(), BoxError> {
    // A. The score is known at once.
    let space = Space::new().with("a", grid([0.001, 0.01, 0.1, 1.0])).with("b", choice([1, 2, 3]));
    let results = Tuner::new(space, |trial, config| {
        let score = config.f64("a")?.powi(2) + config.f64("b")?;
        let _ = trial.report(&[("score", score)])?;
        Ok(())
    })
    .tune_config(TuneConfig { metric: "score".into(), mode: Mode::Min, ..TuneConfig::default() })
    .fit()?;
    println!("best config: {}\n", results.best()?.config.to_value());

    // B. The loss falls step by step; everything is stored.
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args().nth(1).map_or_else(|| temporary.path().join("mean_loss"), PathBuf::from);
    let space = Space::new().with("alpha", grid([0.001, 0.01, 0.1])).with("beta", choice([1, 2, 3]));
    let results = Tuner::new(space, |trial, config| {
        let (alpha, beta) = (config.f64("alpha")?, config.f64("beta")?);
        for step in 0..10 {
            let loss = 1.0 / (0.1 + alpha * f64::from(step) / 100.0) + 0.1 * beta;
            if trial.report(&[("mean_loss", loss)])?.is_stop() {
                break;
            }
        }
        Ok(())
    })
    .tune_config(TuneConfig { metric: "mean_loss".into(), mode: Mode::Min, ..TuneConfig::default() })
    .run_config(RunConfig { name: "mean_loss".into(), dir: Some(dir.clone()), ..RunConfig::default() })
    .fit()?;
    println!("{results}");
    let best = results.best()?;
    println!("best config: {} with mean_loss {:.4}", best.config.to_value(), best.value.unwrap_or(f64::NAN));
    println!("tensorboard --logdir {}", dir.display());
    Ok(())
}
