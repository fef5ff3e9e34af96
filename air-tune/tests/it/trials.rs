//! What trials may do, and what becomes of the rest when one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use air_tune::schedule::{AshaConfig, StopReason};
use air_tune::search::SearchConfig;
use air_tune::space::{Space, grid, uniform};
use air_tune::{Cause, FailureConfig, RunConfig, Status, TuneConfig, TuneError, Tuner};

fn numbers(count: i64) -> Space {
    Space::new().with("n", grid(0..count))
}

#[test]
fn a_trial_that_errs_or_panics_is_recorded_with_its_cause_and_the_rest_goes_on() {
    let results = Tuner::new(numbers(6), |trial, config| {
        match config.i64("n")? {
            1 => return Err("no luck".into()),
            2 => panic!("out of {}", "range"),
            3 => return Ok(()),
            4 => config.f64("missing").map(drop)?,
            n => {
                let _ = trial.report(&[("loss", n as f64)])?;
            }
        }
        Ok(())
    })
    .fit()
    .unwrap();
    let causes: Vec<String> =
        results.errors().map(|(trial, cause)| format!("{}: {cause}", trial.trial)).collect();
    assert_eq!(
        causes,
        [
            "1: no luck",
            "2: panicked: out of range",
            "3: never reported `loss`",
            "4: configuration `missing`: expected a number, found nothing",
        ]
    );
    assert_eq!(results.best().unwrap().trial, 0);
    assert!(results.table().contains("trial 2 failed: panicked: out of range"));
}

#[test]
fn without_a_usable_value_there_is_no_best() {
    let results = Tuner::new(numbers(2), |trial, _| {
        let _ = trial.report(&[("loss", f64::NAN)])?;
        Ok(())
    })
    .fit()
    .unwrap();
    let error = results.best().unwrap_err().to_string();
    assert_eq!(error, "no trial reported a usable `loss` (2 trials, 2 failed)");
    assert_eq!(results.errors().next().unwrap().1, &Cause::NotANumber { metric: "loss".into() });
}

#[test]
fn no_more_trials_run_at_once_than_allowed() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let results = Tuner::new(numbers(200), move |trial, _| {
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        std::thread::yield_now();
        let _ = trial.report(&[("loss", 1.0)])?;
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    })
    .tune_config(TuneConfig { max_concurrent_trials: Some(3), ..TuneConfig::default() })
    .fit()
    .unwrap();
    assert_eq!(results.len(), 200);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn one_seed_gives_one_search_whatever_the_concurrency() {
    let run = |concurrency, seed| {
        let space = Space::new().with("x", uniform(0.0, 1.0)).with("y", uniform(0.0, 1.0));
        let results = Tuner::new(space, |trial, config| {
            use rand::RngExt;
            let noise: f64 = trial.seed().rng().random();
            let _ = trial.report(&[("loss", config.f64("x")? + noise)])?;
            Ok(())
        })
        .tune_config(TuneConfig {
            num_samples: 30,
            max_concurrent_trials: Some(concurrency),
            search: SearchConfig::Variants,
            seed,
            ..TuneConfig::default()
        })
        .fit()
        .unwrap();
        results.iter().map(|t| (t.config.clone(), t.value)).collect::<Vec<_>>()
    };
    assert_eq!(run(1, 5), run(4, 5));
    assert_ne!(run(1, 5), run(1, 6));
}

#[test]
fn asha_stops_the_hopeless_and_completes_the_best() {
    let scheduler = AshaConfig { max_t: 64, ..AshaConfig::default() }.into();
    let results = Tuner::new(numbers(32), |trial, config| {
        // Later trials are worse: all but the first few are behind at once.
        let floor = config.f64("n")?;
        for step in 1..=1000 {
            if trial.report(&[("loss", floor + 1.0 / f64::from(step))])?.is_stop() {
                assert!(trial.signal().is_stop(), "a trial that was told to stop stays told");
                return Ok(());
            }
        }
        Err("never stopped".into())
    })
    .tune_config(TuneConfig { scheduler, max_concurrent_trials: Some(1), ..TuneConfig::default() })
    .fit()
    .unwrap();
    let best = results.best().unwrap();
    assert_eq!((best.trial, best.status, best.iterations), (0, Status::Complete, 64));
    assert_eq!(best.stop, Some(StopReason::Finished { iterations: 64 }));
    let behind = results.iter().filter(|t| t.stop == Some(StopReason::Behind { rung: 1 })).count();
    assert!(behind >= 24, "{behind} were stopped at the first rung");
    let reports: u64 = results.iter().map(|t| t.iterations).sum();
    assert!(reports < 32 * 64 / 4, "{reports} iterations were run");
}

#[test]
fn a_retried_trial_goes_on_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let failure = FailureConfig { max_failures: 2, ..FailureConfig::default() };
    let run = RunConfig { dir: Some(dir.path().to_owned()), failure, ..RunConfig::default() };
    let results = Tuner::new(numbers(2), |trial, _| {
        let from = match trial.checkpoint() {
            Some(checkpoint) => u64::from(checkpoint.read("step")?[0]),
            None => 0,
        };
        assert_eq!(from, trial.iteration());
        assert_eq!(from, 3 * u64::from(trial.attempt() - 1));
        for step in from + 1..=9 {
            let _ = trial.report(&[("loss", 10.0 - step as f64)])?;
            trial.save(&[("step", &[step as u8])])?;
            if step % 3 == 0 && step < 9 {
                return Err("interrupted".into());
            }
        }
        Ok(())
    })
    .run_config(run)
    .fit()
    .unwrap();
    for trial in &results {
        assert_eq!((trial.status, trial.attempts, trial.iterations), (Status::Complete, 3, 9));
        assert_eq!(trial.checkpoint().unwrap().unwrap().step(), 9);
        let progress = std::fs::read_to_string(trial.dir.as_ref().unwrap().join("progress.csv")).unwrap();
        assert_eq!(progress.lines().count(), 10, "each iteration once:\n{progress}");
    }
}

#[test]
fn checkpoints_need_a_folder() {
    let results = Tuner::new(numbers(1), |trial, _| Ok(trial.save(&[("a", b"b")])?)).fit().unwrap();
    assert!(results.errors().next().unwrap().1.to_string().starts_with("checkpoints need a folder"));
}

#[test]
fn bad_configurations_are_refused_before_anything_runs() {
    let fit = |config: TuneConfig| {
        Tuner::new(numbers(1), |_, _| panic!("must not run"))
            .tune_config(config)
            .fit()
            .unwrap_err()
            .to_string()
    };
    assert!(fit(TuneConfig { num_samples: 0, ..TuneConfig::default() }).starts_with("`num_samples`"));
    assert!(fit(TuneConfig { metric: String::new(), ..TuneConfig::default() }).starts_with("`metric`"));
    assert!(
        fit(TuneConfig { max_concurrent_trials: Some(0), ..TuneConfig::default() })
            .starts_with("`max_concurrent_trials`")
    );
    let scheduler = AshaConfig { grace_period: 0, ..AshaConfig::default() }.into();
    assert!(fit(TuneConfig { scheduler, ..TuneConfig::default() }).starts_with("`grace_period`"));
    let bad_space = Space::new().with("x", uniform(1.0, 0.0));
    let error = Tuner::new(bad_space, |_, _| Ok(())).fit().unwrap_err();
    assert!(matches!(error, TuneError::InvalidSpace { .. }));
}

#[test]
fn a_metric_that_appears_late_gets_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    let results = Tuner::new(numbers(1), |trial, _| {
        let _ = trial.report(&[("loss", 3.0)])?;
        let _ = trial.report(&[("loss", 2.0), ("accuracy", 0.5)])?;
        let _ = trial.report(&[("accuracy", 0.75)])?;
        Ok(())
    })
    .run_config(run)
    .fit()
    .unwrap();
    assert_eq!(results.best().unwrap().value, Some(2.0), "the last report that held the metric counts");
    let progress = std::fs::read_to_string(dir.path().join("trial_00000/progress.csv")).unwrap();
    let columns: Vec<Vec<&str>> = progress.lines().map(|line| line.split(',').skip(2).collect()).collect();
    assert_eq!(columns, [["loss", "accuracy"], ["3", ""], ["2", "0.5"], ["", "0.75"]]);
}

#[test]
fn a_time_budget_of_nothing_starts_nothing() {
    let config = TuneConfig { time_budget: Some(std::time::Duration::ZERO), ..TuneConfig::default() };
    let results = Tuner::new(numbers(5), |_, _| Ok(())).tune_config(config).fit().unwrap();
    assert!(results.is_empty());
}
