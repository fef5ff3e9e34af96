//! Several objectives, and stoppers.

use air_tune::schedule::{HyperBandConfig, StopReason};
use air_tune::search::{BohbConfig, SearchConfig};
use air_tune::space::{Space, grid, uniform};
use air_tune::stop::{Seen, StopperConfig};
use air_tune::{Mode, Objective, ResultGrid, RunConfig, Status, TuneConfig, TuneError, Tuner};
use serde_json::json;

use crate::support::{python, python_with, text};

fn two() -> Vec<Objective> {
    vec![Objective { metric: "speed".into(), mode: Mode::Max }]
}

const OPTUNA: &str = r#"
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="tune", storage="sqlite:///" + sys.argv[1])
print(json.dumps({
    "directions": [d.name for d in study.directions], "names": study.metric_names,
    "best": sorted(t.number for t in study.best_trials), "values": [t.values for t in study.trials],
}))
"#;

#[test]
fn the_pareto_front_is_what_none_beats_in_everything_and_optuna_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new().with("n", grid(0..5));
    let results = Tuner::new(space, |trial, config| {
        // Loss, speed: trial 2 is beaten by 1, trial 4 leaves the speed out.
        let (loss, speed) =
            [(3.0, 9.0), (2.0, 5.0), (2.0, 4.0), (1.0, 1.0), (0.0, 0.0)][config.usize("n")?];
        let all = [("loss", loss), ("speed", speed)];
        let _ = trial.report(if config.usize("n")? == 4 { &all[..1] } else { &all })?;
        Ok(())
    })
    .tune_config(TuneConfig { also: two(), ..TuneConfig::default() })
    .run_config(RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() })
    .fit()
    .unwrap();
    for grid in [&results, &ResultGrid::load(dir.path()).unwrap()] {
        let front: Vec<u64> = grid.pareto_front().iter().map(|trial| trial.trial).collect();
        assert_eq!(front, [0, 1, 3]);
        assert_eq!(grid.values(grid.iter().nth(1).unwrap()), Some(vec![2.0, 5.0]));
        let failed = grid.iter().nth(4).unwrap();
        assert_eq!((failed.status, grid.values(failed)), (Status::Failed, None));
        assert_eq!(grid.errors().next().unwrap().1.to_string(), "never reported `speed`");
    }
    let Some(optuna) = python_with("optuna") else { return };
    let study = dir.path().join("study.db");
    let seen: serde_json::Value = serde_json::from_str(&python(&optuna, OPTUNA, &[text(&study)])).unwrap();
    assert_eq!(seen["directions"], json!(["MINIMIZE", "MAXIMIZE"]));
    assert_eq!(seen["names"], json!(["loss", "speed"]));
    assert_eq!(seen["best"], json!([0, 1, 3]));
    assert_eq!(seen["values"][1], json!([2.0, 5.0]));
}

#[test]
fn several_objectives_are_searched_by_default() {
    let space = Space::new().with("x", uniform(-1.0, 3.0));
    let results = Tuner::new(space, |trial, config| {
        let x = config.f64("x")?;
        let _ = trial.report(&[("loss", x * x), ("speed", -(x - 2.0).powi(2))])?;
        Ok(())
    })
    .tune_config(TuneConfig {
        also: two(),
        num_samples: 300,
        max_concurrent_trials: Some(1),
        ..TuneConfig::default()
    })
    .fit()
    .unwrap();
    // The front is 0 <= x <= 2. Of 300 at random half would lie there.
    let late = results.iter().skip(200).filter(|t| (0.0..=2.0).contains(&t.config.f64("x").unwrap())).count();
    assert!(late > 75, "{late} of the last hundred lie on the front");
    assert!(results.pareto_front().len() > 50);
}

#[test]
fn bohb_learns_under_hyperband() {
    let hyperband = HyperBandConfig { max_t: 9, reduction_factor: 3 };
    let dir = tempfile::tempdir().unwrap();
    let results = Tuner::new(Space::new().with("x", uniform(0.0, 1.0)), |trial, config| {
        while trial.iteration() < 9 {
            let at = trial.iteration() as f64 + 1.0;
            let signal = trial.report(&[("loss", (config.f64("x")? - 0.3).abs() + 1.0 / at)])?;
            trial.save(&[("at", b"")])?;
            if signal.is_stop() {
                break;
            }
        }
        Ok(())
    })
    .tune_config(TuneConfig {
        num_samples: 34,
        search: BohbConfig::of(&hyperband).into(),
        scheduler: hyperband.into(),
        max_concurrent_trials: Some(1),
        ..TuneConfig::default()
    })
    .run_config(RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() })
    .fit()
    .unwrap();
    assert_eq!(results.len(), 34);
    assert!(results.iter().all(|trial| trial.status.is_over()));
    assert!((results.best().unwrap().config.f64("x").unwrap() - 0.3).abs() < 0.1);
}

#[test]
fn stoppers_complete_trials() {
    let fit = |tuner: fn(Tuner) -> Tuner, stop| {
        let tune = Tuner::new(Space::new().with("n", grid([1, 2])), |trial, config| {
            while !trial.report(&[("loss", config.f64("n")? / (trial.iteration() + 1) as f64)])?.is_stop() {}
            Ok(())
        });
        let results = tuner(tune).tune_config(TuneConfig { stop, ..TuneConfig::default() }).fit().unwrap();
        results.iter().map(|t| (t.status, t.iterations, t.stop)).collect::<Vec<_>>()
    };
    let target = StopperConfig::Target { metric: "loss".into(), at_least: None, at_most: Some(0.25) };
    let most = StopperConfig::MaxIterations { iterations: 6 };
    let ended = |iterations, reason| (Status::Complete, iterations, Some(reason));
    let finished = StopReason::Finished { iterations: 6 };
    assert_eq!(fit(|t| t, vec![most, target]), [ended(4, StopReason::Target), ended(6, finished)]);
    let function = |t: Tuner| t.stopper(|seen: &Seen<'_>| seen.iteration == 3 + seen.trial);
    assert_eq!(fit(function, vec![]), [ended(3, StopReason::Stopper), ended(4, StopReason::Stopper)]);
}

#[test]
fn objectives_and_stoppers_are_checked() {
    let fit = |config: TuneConfig| -> TuneError {
        Tuner::new(Space::new().with("n", 1), |_, _| panic!("must not run"))
            .tune_config(config)
            .fit()
            .unwrap_err()
    };
    let also = |metric: &str| vec![Objective { metric: metric.into(), mode: Mode::Min }];
    let error = |also| fit(TuneConfig { also, ..TuneConfig::default() }).to_string();
    assert_eq!(error(also("loss")), "`also`: `loss` is given twice");
    assert_eq!(error(also("")), "`also`: must name what the trials report");
    let stop = vec![StopperConfig::MaxIterations { iterations: 0 }];
    assert!(fit(TuneConfig { stop, ..TuneConfig::default() }).to_string().starts_with("`stop.iterations`"));
    let search = SearchConfig::Bohb(BohbConfig { rungs: vec![], ..BohbConfig::default() });
    assert!(fit(TuneConfig { search, ..TuneConfig::default() }).to_string().starts_with("`search.rungs`"));
}
