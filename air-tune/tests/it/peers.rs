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

/// The dashboard's own application, asked without a socket.
const DASHBOARD: &str = r#"
import io, json, sys, optuna
from optuna_dashboard import wsgi
optuna.logging.set_verbosity(optuna.logging.ERROR)
app = wsgi(optuna.storages.RDBStorage("sqlite:///" + sys.argv[1]))
def get(path, query=""):
    status = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "SERVER_NAME": "x", "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "wsgi.version": (1, 0),
        "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }
    body = b"".join(app(environ, lambda s, h, e=None: status.append(s)))
    assert status[0].startswith("200"), (path, status, body)
    return json.loads(body)
studies = get("/api/studies")["study_summaries"]
study = get("/api/studies/1", "after=0")
print(json.dumps({
    "studies": [[s["study_name"], s["directions"]] for s in studies],
    "trials": [
        [t["number"], t["state"], t.get("values"), {p["name"]: p["param_external_value"] for p in t["params"]},
         len(t["intermediate_values"])]
        for t in study["trials"]
    ],
}))
"#;

#[test]
fn optuna_dashboard_serves_the_study() {
    let Some(dashboard) = python_with("optuna_dashboard") else { return };
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new().with("n", grid([1, 2, 3])).with("lr", log_uniform(1e-4, 1e-1));
    let run = RunConfig { name: "demo".into(), dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    let results = Tuner::new(space, |trial, config| {
        if config.usize("n")? == 2 {
            return Err("no luck".into());
        }
        for step in 1..=4 {
            let _ = trial.report(&[("loss", config.f64("lr")? / f64::from(step))])?;
        }
        Ok(())
    })
    .run_config(run)
    .fit()
    .unwrap();
    let study = dir.path().join("study.db");
    let seen: serde_json::Value =
        serde_json::from_str(&python(&dashboard, DASHBOARD, &[text(&study)])).unwrap();
    assert_eq!(seen["studies"].as_array().unwrap().len(), 1);
    assert_eq!(seen["studies"][0][0], "demo");
    assert!(seen["studies"][0][1][0].as_str().unwrap().eq_ignore_ascii_case("minimize"));
    let trials = seen["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
    for (trial, seen) in results.iter().zip(trials) {
        assert_eq!(seen[0], json!(trial.trial));
        let failed = trial.cause.is_some();
        let state = if failed { "Fail" } else { "Complete" };
        assert_eq!((&seen[1], &seen[4]), (&json!(state), &json!(if failed { 0 } else { 4 })));
        let lr: f64 = seen[3]["lr"].as_str().unwrap().parse().unwrap();
        assert_eq!(lr, trial.config.f64("lr").unwrap());
        if !failed {
            assert_eq!(seen[2][0].as_f64(), trial.value);
        }
    }
}

/// A binary of this workspace that was built beside ours, as the tests of the whole workspace do.
fn sibling(name: &str) -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_air-tune")).with_file_name(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not built");
    None
}

/// Tunes a training of another of our binaries, three trials; returns what they came to.
fn tuned(space: Space, metric: &str, mode: air_tune::Mode, command: &[&str]) -> Vec<f64> {
    let command = air_tune::command::Command::new(command.iter().copied(), metric, &space).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let results = Tuner::with(space, command)
        .tune_config(TuneConfig { metric: metric.into(), mode, num_samples: 3, ..TuneConfig::default() })
        .run_config(RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() })
        .fit()
        .unwrap();
    assert_eq!(results.errors().map(|(_, cause)| cause.to_string()).collect::<Vec<_>>(), [""; 0]);
    results.iter().map(|trial| trial.value.unwrap()).collect()
}

#[test]
fn a_run_of_air_rl_is_a_trial() {
    let Some(air_rl) = sibling("air-rl") else { return };
    let space = Space::new().with("lr", log_uniform(1e-4, 1e-2));
    let set = "lr={lr}";
    let command = [
        text(&air_rl),
        "train",
        "ppo",
        "CartPole-v1",
        "--steps",
        "8192",
        "--seed",
        "1",
        "--set",
        set,
        "--json",
    ];
    let values = tuned(space, "mean_return", air_tune::Mode::Max, &command);
    assert!(values.len() == 3 && values.iter().all(|value| *value >= 8.0), "{values:?}");
}

#[test]
fn a_training_of_air_train_is_a_trial() {
    let Some(air_train) = sibling("air-train") else { return };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let config = root.join("examples/train.toml");
    let space = Space::new().with("lr", log_uniform(1e-3, 1e-1));
    let command = [text(&air_train), "run", text(&config), "--set", "optimizer.lr={lr}", "--json"];
    let values = tuned(space, "loss", air_tune::Mode::Min, &command);
    assert!(values.len() == 3 && values.iter().all(|value| value.is_finite()), "{values:?}");
}
