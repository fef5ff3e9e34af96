//! Other people's tools read what we write.

use air_tune::space::{Space, choice, grid, int_uniform, log_uniform, uniform};
use air_tune::{RunConfig, TuneConfig, Tuner};
use serde_json::json;

use crate::support::{python, python_with, text};

const OPTUNA: &str = r#"
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="demo", storage="sqlite:///" + sys.argv[1])
trials = study.trials
best = study.best_trial
# Optuna goes on where we stopped.
extra = study.ask()
extra.suggest_float("lr", 1e-4, 1e-1, log=True)
study.tell(extra, 0.0)
print(json.dumps({
    "best": best.value, "number": best.number, "params": best.params,
    "states": [t.state.name for t in trials], "steps": {k: str(v) for k, v in best.intermediate_values.items()},
    "causes": [t.user_attrs.get("cause") for t in trials], "direction": study.direction.name,
    "log": best.distributions["lr"].log, "step": best.distributions["even"].step, "names": study.metric_names,
    "after": len(study.trials), "timed": all(t.datetime_complete >= t.datetime_start for t in trials),
}))
"#;

fn python_float(value: f64) -> String {
    format!("{value:?}")
}

#[test]
fn optuna_opens_the_study_and_goes_on_with_it() {
    let Some(optuna) = python_with("optuna") else { return };
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new()
        .with("lr", log_uniform(1e-4, 1e-1))
        .with("case", grid(["good", "infinite", "failed", "nan"]))
        .with("net", Space::new().with("units", choice([16, 32])))
        .with("layers", choice([json!([8, 8]), json!(null), json!(true)]))
        .with("even", int_uniform(0..=10).step(2.0))
        .with("q", uniform(0.0, 1.0).step(0.3))
        .with("epochs", 3);
    let run = RunConfig { name: "demo".into(), dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    let results = Tuner::new(space, |trial, config| {
        let last = match config.str("case")? {
            "failed" => return Err("no luck".into()),
            "infinite" => f64::INFINITY,
            "nan" => f64::NAN,
            _ => config.f64("lr")?,
        };
        for value in [2.0, f64::NAN, f64::NEG_INFINITY, last] {
            let _ = trial.report(&[("loss", value)])?;
        }
        Ok(())
    })
    .tune_config(TuneConfig { max_concurrent_trials: Some(1), ..TuneConfig::default() })
    .run_config(run)
    .fit()
    .unwrap();
    let best = results.best().unwrap();

    let study = dir.path().join("study.db");
    let seen: serde_json::Value = serde_json::from_str(&python(&optuna, OPTUNA, &[text(&study)])).unwrap();
    assert_eq!(seen["best"].as_f64(), best.value);
    assert_eq!(seen["number"], 0);
    assert_eq!(seen["params"]["lr"], *best.config.get("lr").unwrap());
    assert_eq!(seen["params"]["net.units"], *best.config.get("net.units").unwrap());
    assert_eq!(seen["params"]["even"], *best.config.get("even").unwrap());
    assert_eq!(seen["params"]["epochs"], 3);
    assert_eq!(seen["states"], json!(["COMPLETE", "COMPLETE", "FAIL", "FAIL"]));
    let steps = json!({"1": "2.0", "2": "nan", "3": "-inf", "4": python_float(best.value.unwrap())});
    assert_eq!(seen["steps"], steps);
    assert_eq!(seen["causes"], json!([null, null, "no luck", "its last `loss` is not a number"]));
    assert_eq!(
        (seen["direction"].as_str(), seen["log"].as_bool(), seen["step"].as_i64()),
        (Some("MINIMIZE"), Some(true), Some(2))
    );
    assert_eq!(seen["names"], json!(["loss"]));
    assert_eq!((seen["after"].as_i64(), seen["timed"].as_bool()), (Some(5), Some(true)));
    // What Optuna added does not confuse us.
    assert_eq!(air_tune::ResultGrid::load(dir.path()).unwrap().len(), 4);
}

const TENSORBOARD: &str = r#"
import json, sys, glob
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
out = {}
for run in sorted(glob.glob(sys.argv[1] + "/trial_*")):
    events = EventAccumulator(run).Reload()
    out[run[-5:]] = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
print(json.dumps(out))
"#;

#[test]
fn tensorboard_reads_every_run() {
    let Some(tensorboard) = python_with("tensorboard") else { return };
    let dir = tempfile::tempdir().unwrap();
    let run = RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    Tuner::new(Space::new().with("n", grid(0..3)), |trial, config| {
        for step in 1..=200 {
            let loss = config.f64("n")? + 1.0 / f64::from(step);
            let _ = trial.report(&[("loss", loss), ("größe", -1.0)])?;
        }
        Ok(())
    })
    .run_config(run)
    .fit()
    .unwrap();
    let seen: serde_json::Value =
        serde_json::from_str(&python(&tensorboard, TENSORBOARD, &[text(dir.path())])).unwrap();
    assert_eq!(seen.as_object().unwrap().len(), 3);
    for (n, run) in ["00000", "00001", "00002"].into_iter().enumerate() {
        let loss = seen[run]["loss"].as_array().unwrap();
        assert_eq!(loss.len(), 200);
        assert_eq!(loss[199], json!([200, f64::from((n as f64 + 0.005) as f32)]));
        assert_eq!(seen[run]["größe"][0], json!([1, -1.0]));
    }
}
