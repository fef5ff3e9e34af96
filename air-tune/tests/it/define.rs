//! Spaces beyond a list of ranges: named while running, given points, constraints.

use air_tune::schedule::SchedulerConfig;
use air_tune::search::SearchConfig;
use air_tune::space::{Space, grid, int_uniform, normal, uniform};
use air_tune::{Config, ResultGrid, RunConfig, Status, Trial, TuneConfig, Tuner};
use serde_json::json;

use crate::support::{python, python_with, text};

const OPTUNA: &str = r#"
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="tune", storage="sqlite:///" + sys.argv[1])
print(json.dumps([[t.params, t.distributions["lr"].log] for t in study.trials]))
"#;

fn objective(trial: &mut Trial) -> Result<(), air_core::BoxError> {
    let lr = trial.float("lr", 1e-4..=1.0).log().get()?;
    let units = trial.int("net.units", 8..=64).step(8.0).get()?;
    let momentum = match trial.choice("optimizer", ["sgd", "adam"]).get()?.as_str() {
        Some("sgd") => trial.float("momentum", 0.0..=1.0).get()?,
        _ => 0.5,
    };
    let _ = trial.report(&[("loss", (lr.log10() + 2.0).abs() + units as f64 / 64.0 + momentum)])?;
    Ok(())
}

#[test]
fn parameters_are_named_where_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let results = Tuner::define(objective)
        .tune_config(TuneConfig { num_samples: 60, max_concurrent_trials: Some(1), ..TuneConfig::default() })
        .run_config(RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() })
        .fit()
        .unwrap();
    assert_eq!((results.len(), results.counts()), (60, vec![(Status::Complete, 60)]));
    let momenta = results.iter().filter(|t| t.config.get("momentum").is_some()).count();
    assert!((5..60).contains(&momenta), "the parameter exists where it was asked for: {momenta}");
    assert!(results.best().unwrap().value.unwrap() < 0.8, "{results}");
    assert!(results.iter().all(|t| t.config.i64("net.units").unwrap() % 8 == 0));
    let stored = ResultGrid::load(dir.path()).unwrap();
    let configs = |grid: &ResultGrid| grid.iter().map(|t| t.config.clone()).collect::<Vec<_>>();
    assert_eq!(configs(&stored), configs(&results));
    assert_eq!(stored.space().params().len(), 4);

    let resumed = Tuner::resume(dir.path(), |trial, _| objective(trial)).unwrap().fit().unwrap();
    assert_eq!(configs(&resumed), configs(&results));

    let Some(optuna) = python_with("optuna") else { return };
    let study = dir.path().join("study.db");
    let seen: serde_json::Value = serde_json::from_str(&python(&optuna, OPTUNA, &[text(&study)])).unwrap();
    for (trial, seen) in results.iter().zip(seen.as_array().unwrap()) {
        assert_eq!((&seen[0]["lr"], &seen[1]), (trial.config.get("lr").unwrap(), &json!(true)));
        assert_eq!(seen[0].get("momentum"), trial.config.get("momentum"));
    }
}

#[test]
fn a_bad_name_fails_the_trial_that_gave_it() {
    let results = Tuner::define(|trial| {
        trial.float("x", 2.0..=1.0).get()?;
        Ok(())
    })
    .fit()
    .unwrap();
    let (_, cause) = results.errors().next().unwrap();
    assert_eq!(cause.to_string(), "parameter `x`: the lower bound 2 is above the upper bound 1");
}

fn config(value: serde_json::Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn fit(space: Space, tune: TuneConfig) -> air_tune::Result<Vec<Config>> {
    let results = Tuner::new(space, |trial, _| {
        let _ = trial.report(&[("loss", 0.0)])?;
        Ok(())
    })
    .tune_config(TuneConfig { max_concurrent_trials: Some(1), scheduler: SchedulerConfig::Fifo, ..tune })
    .fit()?;
    Ok(results.iter().map(|trial| trial.config.clone()).collect())
}

#[test]
fn given_points_are_tried_first() {
    let space = Space::new().with("x", uniform(0.0, 1.0)).with("noise", normal(0.0, 1.0));
    let points_to_evaluate = vec![config(json!({"x": 0.125, "noise": 0.5})), config(json!({"x": 0.25}))];
    let tune = TuneConfig { num_samples: 15, points_to_evaluate, ..TuneConfig::default() };
    let configs = fit(space.clone(), tune.clone()).unwrap();
    assert_eq!((configs.len(), &configs[0]), (15, &config(json!({"x": 0.125, "noise": 0.5}))));
    assert_eq!(configs[1].f64("x").unwrap(), 0.25);
    let outside = vec![config(json!({"x": 7}))];
    let error = fit(space, TuneConfig { points_to_evaluate: outside, ..tune }).unwrap_err();
    assert_eq!(error.to_string(), "parameter `x`: 7 of a given point lies outside its domain");
}

#[test]
fn constraints_hold_in_every_trial() {
    let space = Space::new()
        .with("a", int_uniform(0..=9))
        .with("b", int_uniform(0..=9))
        .at_most([("a", 1.0), ("b", 1.0)], 6.0);
    for search in [SearchConfig::Auto, SearchConfig::Variants, SearchConfig::Quasi] {
        let tune = TuneConfig { num_samples: 25, search, ..TuneConfig::default() };
        let configs = fit(space.clone(), tune).unwrap();
        assert_eq!(configs.len(), 25);
        assert!(configs.iter().all(|c| c.i64("a").unwrap() + c.i64("b").unwrap() <= 6));
    }
    let grids = Space::new()
        .with("a", grid([1, 2, 3]))
        .with("b", grid([1, 2, 3]))
        .at_most([("a", 1.0), ("b", -1.0)], 0.0);
    assert_eq!(fit(grids, TuneConfig::default()).unwrap().len(), 6);
}
