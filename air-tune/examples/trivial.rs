//! What a trial costs before it does any work: random search over one parameter, one report a trial, everything stored on disk.
//!
//! `cargo run --release -p air-tune --example trivial -- [--trials 1000] [--json]`

use std::time::Instant;

use air_tune::search::SearchConfig;
use air_tune::space::{Space, uniform};
use air_tune::{RunConfig, TuneConfig, Tuner};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let num_samples = match args.iter().position(|arg| arg == "--trials") {
        Some(at) => args.get(at + 1).ok_or("--trials needs a number")?.parse()?,
        None => 1000,
    };
    let folder = tempfile::tempdir()?;

    let tuner = Tuner::new(Space::new().with("x", uniform(0.0, 1.0)), |trial, config| {
        let _ = trial.report(&[("loss", config.f64("x")?)])?;
        Ok(())
    })
    .tune_config(TuneConfig { num_samples, search: SearchConfig::Variants, ..TuneConfig::default() })
    .run_config(RunConfig { dir: Some(folder.path().join("trivial")), ..RunConfig::default() })
    .quiet();

    let start = Instant::now();
    let results = tuner.fit()?;
    let seconds = start.elapsed().as_secs_f64();
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", serde_json::json!({ "seconds": seconds, "trials": results.len() }));
    } else {
        println!("{} trials in {seconds:.3} s, the best with {:?}", results.len(), results.best()?.config);
    }
    Ok(())
}
