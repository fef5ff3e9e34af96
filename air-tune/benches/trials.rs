//! The cost of a trial that does nothing: a thousand of them, kept in memory and stored durably.

use air_tune::log::LogConfig;
use air_tune::schedule::AshaConfig;
use air_tune::search::SearchConfig;
use air_tune::space::{Space, uniform};
use air_tune::{ResultGrid, RunConfig, TuneConfig, Tuner};
use divan::Bencher;

fn main() {
    divan::main();
}

fn fit(run: RunConfig, tune: TuneConfig, reports: u32) -> ResultGrid {
    Tuner::new(Space::new().with("x", uniform(0.0, 1.0)), move |trial, config| {
        let x = config.f64("x")?;
        for step in 1..=reports {
            if trial.report(&[("loss", x / f64::from(step))])?.is_stop() {
                break;
            }
        }
        Ok(())
    })
    .tune_config(tune)
    .run_config(run)
    .quiet()
    .fit()
    .expect("the experiment runs")
}

fn trivial() -> TuneConfig {
    TuneConfig { num_samples: 1000, search: SearchConfig::Variants, ..TuneConfig::default() }
}

fn stored(bencher: Bencher, log: LogConfig, tune: TuneConfig, reports: u32) {
    bencher.with_inputs(|| tempfile::tempdir().expect("a folder")).bench_refs(|folder| {
        let dir = Some(folder.path().join("bench"));
        fit(RunConfig { dir, log: log.clone(), ..RunConfig::default() }, tune.clone(), reports)
    });
}

/// 1 000 trials, one report each, nothing stored.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn trivial_in_memory(bencher: Bencher) {
    bencher.bench(|| fit(RunConfig::default(), trivial(), 1));
}

/// The same in SQLite, with CSV, JSON lines and TensorBoard files beside it.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn trivial_durable(bencher: Bencher) {
    stored(bencher, LogConfig::default(), trivial(), 1);
}

/// The same in SQLite alone.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn trivial_durable_without_logs(bencher: Bencher) {
    stored(bencher, LogConfig::none(), trivial(), 1);
}

/// 100 trials of up to 100 reports under ASHA, in SQLite with all logs.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn asha_durable(bencher: Bencher) {
    let scheduler = AshaConfig { reduction_factor: 3, ..AshaConfig::default() }.into();
    stored(
        bencher,
        LogConfig::default(),
        TuneConfig { num_samples: 100, scheduler, ..TuneConfig::default() },
        100,
    );
}
