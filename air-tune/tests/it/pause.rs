//! Schedulers that pause trials, and clone them from checkpoints.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use air_core::BoxError;
use air_core::resource::Resources;
use air_tune::schedule::{HyperBandConfig, PbtConfig, ResourceConfig, SchedulerConfig};
use air_tune::search::SearchConfig;
use air_tune::space::{Space, uniform};
use air_tune::{Config, ResultGrid, RunConfig, Status, Trial, TuneConfig, TuneError, Tuner};

/// Walks from 0 by `step` an iteration, and keeps where it is in its checkpoint. The loss is how far it is from 100.
fn walk(trial: &mut Trial, config: &Config, iterations: u64) -> Result<f64, BoxError> {
    let mut place = match trial.checkpoint() {
        Some(checkpoint) => f64::from_le_bytes(checkpoint.read("place")?[..].try_into()?),
        None => 0.0,
    };
    while trial.iteration() < iterations {
        place += config.f64("step")?;
        let signal = trial.report(&[("loss", (100.0 - place).abs())])?;
        trial.save(&[("place", &place.to_le_bytes())])?;
        if signal.is_stop() {
            break;
        }
    }
    Ok(place)
}

fn tune(scheduler: impl Into<SchedulerConfig>, trials: u64, slots: usize) -> TuneConfig {
    TuneConfig {
        num_samples: trials,
        search: SearchConfig::Variants,
        scheduler: scheduler.into(),
        max_concurrent_trials: Some(slots),
        ..TuneConfig::default()
    }
}

fn space() -> Space {
    Space::new().with("step", uniform(0.0, 10.0))
}

fn run_in(dir: &std::path::Path) -> RunConfig {
    RunConfig { dir: Some(dir.to_owned()), ..RunConfig::default() }
}

#[test]
fn hyperband_pauses_and_goes_on_from_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let starts: Arc<Mutex<BTreeMap<u64, Vec<u64>>>> = Arc::default();
    let seen = Arc::clone(&starts);
    let hyperband = HyperBandConfig { max_t: 9, reduction_factor: 3 };
    let grid = Tuner::new(space(), move |trial, config| {
        seen.lock().unwrap().entry(trial.id()).or_default().push(trial.iteration());
        walk(trial, &config, 9).map(drop)
    })
    .tune_config(tune(hyperband, 9, 2))
    .run_config(run_in(dir.path()))
    .fit()
    .unwrap();
    // One bracket: nine trials go to 1, three to 3, one to 9.
    let mut iterations: Vec<u64> = grid.iter().map(|trial| trial.iterations).collect();
    iterations.sort_unstable();
    assert_eq!(iterations, [1, 1, 1, 1, 1, 1, 3, 3, 9]);
    let best = grid.best().unwrap();
    let largest = grid.iter().map(|trial| trial.config.f64("step").unwrap()).fold(0.0, f64::max);
    assert_eq!((best.status, best.config.f64("step").unwrap()), (Status::Complete, largest));
    let value = 100.0 - 9.0 * largest;
    assert!((best.value.unwrap() - value).abs() < 1e-9, "it went on from where it was");
    assert_eq!(starts.lock().unwrap()[&best.trial], [0, 1, 3]);
    assert_eq!(starts.lock().unwrap().values().map(Vec::len).sum::<usize>(), 9 + 3 + 1);
    assert_eq!(grid.counts(), [(Status::Complete, 1), (Status::Stopped, 8)]);
    let stored = ResultGrid::load(dir.path()).unwrap();
    assert!(stored.iter().zip(&grid).all(|(a, b)| a.value == b.value && a.status == b.status));
}

fn population(dir: &std::path::Path, slots: usize, pbt: PbtConfig) -> ResultGrid {
    Tuner::new(space(), |trial, config| walk(trial, &config, 12).map(drop))
        .tune_config(tune(pbt, 8, slots))
        .run_config(run_in(dir))
        .fit()
        .unwrap()
}

#[test]
fn a_population_takes_over_what_the_best_have() {
    let pbt = PbtConfig { interval: 3, synchronous: true, ..PbtConfig::default() };
    let values = |grid: &ResultGrid| grid.iter().map(|t| (t.config.clone(), t.value)).collect::<Vec<_>>();
    let (one, four) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let grid = population(one.path(), 1, pbt.clone());
    assert_eq!(values(&grid), values(&population(four.path(), 4, pbt)), "in step, slots change nothing");
    assert_eq!(values(&grid), values(&ResultGrid::load(one.path()).unwrap()));
    assert_eq!(grid.counts(), [(Status::Complete, 8)]);

    let changed: Vec<serde_json::Value> = std::fs::read_to_string(one.path().join("reports.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "changed")
        .collect();
    assert_eq!(changed.len(), 2 * 4, "two of eight, at 3, 6, 9 and 12");

    // What a trial went through, run again as one trial, comes out where the trial did.
    let cloned = changed.iter().find(|event| event["iteration"] == 9).unwrap()["trial"].as_u64().unwrap();
    let policy = grid.policy(cloned).unwrap();
    assert!(policy.segments.len() > 1, "{policy:?}");
    let lasts: u64 = policy.segments.iter().map(|segment| segment.iterations).sum();
    assert_eq!(lasts, 12);
    let again = tempfile::tempdir().unwrap();
    let replayed = Tuner::new(policy.space(), |trial, config| walk(trial, &config, 12).map(drop))
        .tune_config(tune(policy, 1, 1))
        .run_config(run_in(again.path()))
        .fit()
        .unwrap();
    let (replayed, original) =
        (replayed.best().unwrap().value.unwrap(), grid.iter().nth(cloned as usize).unwrap().value.unwrap());
    assert!((replayed - original).abs() < 1e-9, "{replayed} is not {original}");
    assert!(matches!(grid.policy(99), Err(TuneError::NoTrial { trial: 99, trials: 8 })));
}

#[test]
fn out_of_step_a_population_runs_beside_itself() {
    let dir = tempfile::tempdir().unwrap();
    let pbt = PbtConfig { interval: 2, quantile: 0.5, ..PbtConfig::default() };
    let grid = population(dir.path(), 8, pbt);
    assert_eq!(grid.counts(), [(Status::Complete, 8)]);
    assert!(grid.iter().all(|trial| trial.iterations == 12 && trial.value.is_some()));
}

#[test]
fn clones_need_a_folder() {
    let error = Tuner::new(space(), |trial, config| walk(trial, &config, 1).map(drop))
        .tune_config(tune(PbtConfig::default(), 2, 1))
        .fit()
        .unwrap_err();
    assert!(error.to_string().contains("set `RunConfig::dir`"), "{error}");
}

#[test]
fn the_last_trial_has_the_machine_for_itself_and_goes_on_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let seen: Arc<Mutex<Vec<(u64, u64, f64)>>> = Arc::default();
    let starts = Arc::clone(&seen);
    let dealt = ResourceConfig { total: Resources::new().cpu(6.0), ..ResourceConfig::default() };
    let grid = Tuner::new(space(), move |trial, _| {
        let cpus = trial.resources().unwrap_or_default().cpu;
        starts.lock().unwrap().push((trial.id(), trial.iteration(), cpus));
        let saved = trial.checkpoint().map(|saved| saved.read("at")).transpose()?;
        let saved = saved.map(|at| at[..].try_into().map(u64::from_le_bytes)).transpose()?;
        assert_eq!(saved, (trial.iteration() > 0).then(|| trial.iteration()));
        // The others report once; the first one goes on until it has everything.
        while trial.iteration() == 0 || (trial.id() == 0 && cpus < 6.0) {
            let signal = trial.report(&[("loss", 1.0)])?;
            if signal.is_stop() {
                trial.save(&[("at", &trial.iteration().to_le_bytes())])?;
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    })
    .tune_config(tune(dealt, 3, 3))
    .run_config(run_in(dir.path()))
    .fit()
    .unwrap();
    assert_eq!(grid.counts(), [(Status::Complete, 3)]);
    let seen = seen.lock().unwrap();
    let of = |trial| seen.iter().filter(|(id, _, _)| *id == trial).copied().collect::<Vec<_>>();
    let first = of(0);
    assert_eq!((first[0], first.last().map(|(_, _, cpus)| *cpus)), ((0, 0, 2.0), Some(6.0)), "{first:?}");
    assert!(first.windows(2).all(|pair| pair[0].1 < pair[1].1 && pair[0].2 < pair[1].2), "{first:?}");
    assert!(seen.iter().all(|(_, _, cpus)| *cpus >= 2.0));
}

#[test]
fn there_are_no_more_slots_than_there_is_of_the_machine() {
    let dealt = ResourceConfig {
        total: Resources::new().custom("licence", 2.0),
        per_trial: Resources::new().custom("licence", 1.0),
        ..ResourceConfig::default()
    };
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let grid = Tuner::new(space(), move |trial, _| {
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let done = trial.report(&[("loss", 1.0)]).map(drop);
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(done?)
    })
    .tune_config(tune(dealt, 20, 8))
    .fit()
    .unwrap();
    assert_eq!(grid.counts(), [(Status::Complete, 20)]);
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn a_command_finds_what_it_has_in_its_environment() {
    let space = Space::new().with("x", 1);
    let say = r#"echo "{\"loss\": $AIR_CPUS, \"gpus\": $AIR_GPUS, \"device\": ${CUDA_VISIBLE_DEVICES:-9}}""#;
    for (total, expected) in [
        (Resources::new().cpu(3.0), [3.0, 0.0, 9.0]),
        // Books are kept of devices that are said to be there.
        (Resources::new().cpu(1.0).gpu(1.0), [1.0, 1.0, 0.0]),
    ] {
        let per_trial = Resources::new().cpu(1.0).gpu(total.gpu);
        let dealt = ResourceConfig { total, per_trial, ..ResourceConfig::default() };
        let command = air_tune::command::Command::new(["sh", "-c", say], "loss", &space).unwrap();
        let grid = Tuner::with(space.clone(), command).tune_config(tune(dealt, 1, 1)).fit().unwrap();
        let trial = grid.best().unwrap();
        assert_eq!(["loss", "gpus", "device"].map(|name| trial.metrics.get(name).unwrap()), expected);
    }
}
