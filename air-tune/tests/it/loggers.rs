//! The logs of other people's tools, read with those tools where they are installed.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use air_tune::log::{LogConfig, MlflowConfig};
use air_tune::space::{Space, grid};
use air_tune::{ResultGrid, RunConfig, TuneConfig, Tuner};
use serde_json::{Value, json};

use crate::support::{air_tune, python, python_with, stderr, text};

/// Three trials of three reports, the second of which fails; in turn.
fn experiment(dir: &Path, log: LogConfig) -> ResultGrid {
    let space = Space::new().with("n", grid(0..3)).with("net", Space::new().with("kind", "wide"));
    let run = RunConfig { name: "demo".into(), dir: Some(dir.to_owned()), log, ..RunConfig::default() };
    Tuner::new(space, |trial, config| {
        let n = config.f64("n")?;
        for value in [n + 0.5, f64::NAN, n] {
            let _ = trial.report(&[("loss", value), ("größe", 2.0)])?;
        }
        if n == 1.0 { Err("no luck".into()) } else { Ok(()) }
    })
    .tune_config(TuneConfig { max_concurrent_trials: Some(1), ..TuneConfig::default() })
    .run_config(run)
    .fit()
    .unwrap()
}

/// The files of the runs below an experiment's folder, in order of the trials.
fn runs(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(dir.join("wandb"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|place| {
            let name = place.file_name().unwrap().to_str().unwrap().to_owned();
            let id = name.splitn(4, '-').nth(3).unwrap().to_owned();
            (id[id.len() - 5..].to_owned(), place.join(format!("run-{id}.wandb")))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn every_trial_is_a_run_of_weights_and_biases() {
    let dir = tempfile::tempdir().unwrap();
    experiment(dir.path(), LogConfig { wandb: Some("mnist".into()), ..LogConfig::none() });
    let files = runs(dir.path());
    assert_eq!(files.len(), 3);
    let bytes = std::fs::read(&files[0]).unwrap();
    assert_eq!(bytes[..7], [b':', b'W', b'&', b'B', 0xE1, 0xBE, 0]);
    // Project, group, name, a parameter and a number stand in it as they are.
    for part in ["mnist", "demo", "trial_00000", "{\"kind\":\"wide\"}", "größe", "NaN", "air_status"] {
        assert!(bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
}

/// Reads a transaction log with the client's own messages.
const WANDB: &str = r#"
import json, struct, sys, zlib
from wandb.proto import wandb_internal_pb2 as pb
def records(path):
    data, at, whole = open(path, "rb").read(), 7, b""
    while at < len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        crc, length, kind = struct.unpack("<IHB", data[at:at + 7])
        part = data[at + 7:at + 7 + length]
        assert crc == zlib.crc32(part, zlib.crc32(bytes([kind])))
        whole, at = whole + part, at + 7 + length
        if kind in (1, 4):
            record = pb.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record
def items(items):
    return {item.key: item.value_json for item in items if not item.key.startswith("_")}
out = []
for path in sys.argv[1:]:
    run = {"kinds": [], "nums": [], "history": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        run["kinds"].append(kind)
        run["nums"].append(record.num)
        if kind == "run":
            r = record.run
            run["run"] = [r.project, r.run_group, r.display_name, items(r.config.update)]
            run["started"] = r.start_time.seconds > 1.7e9
        elif kind == "history":
            run["history"].append([record.history.step.num, items(record.history.item)])
        elif kind == "summary":
            run["summary"] = items(record.summary.update)
        elif kind == "exit":
            run["exit"] = record.exit.exit_code
    out.append(run)
print(json.dumps(out))
"#;

#[test]
fn the_clients_messages_are_those_that_were_written() {
    let Some(wandb) = python_with("wandb.proto.wandb_internal_pb2") else { return };
    let dir = tempfile::tempdir().unwrap();
    experiment(dir.path(), LogConfig { wandb: Some("mnist".into()), ..LogConfig::none() });
    let files = runs(dir.path());
    let args: Vec<&str> = files.iter().map(|path| text(path)).collect();
    let seen: Value = serde_json::from_str(&python(&wandb, WANDB, &args)).unwrap();
    for (n, run) in seen.as_array().unwrap().iter().enumerate() {
        let kinds = ["header", "run", "history", "history", "history", "summary", "exit"];
        assert_eq!((&run["kinds"], &run["nums"]), (&json!(kinds), &json!([1, 2, 3, 4, 5, 6, 7])));
        let config = json!({"n": n.to_string(), "net": "{\"kind\":\"wide\"}"});
        assert_eq!(run["run"], json!(["mnist", "demo", format!("trial_{n:05}"), config]));
        assert_eq!((&run["started"], &run["exit"]), (&json!(true), &json!(i32::from(n == 1))));
        assert_eq!(run["history"][1], json!([2, {"loss": "NaN", "größe": "2.0"}]));
        assert_eq!(run["history"][2], json!([3, {"loss": format!("{n}.0"), "größe": "2.0"}]));
        let status = if n == 1 { "\"failed\"" } else { "\"complete\"" };
        assert_eq!(run["summary"]["air_status"], status);
    }
}

/// MLflow's own application on a port of its own, until standard input ends; then what its client sees.
const MLFLOW: &str = r#"
import json, os, sys, threading
folder = sys.argv[1]
store = "sqlite:///" + folder + "/mlflow.db"
os.environ["_MLFLOW_SERVER_FILE_STORE"] = store
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = folder + "/artifacts"
from mlflow.server import app
from mlflow.tracking import MlflowClient
from werkzeug.serving import make_server
client = MlflowClient(store)
client.search_experiments()
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id], order_by=["attributes.start_time"])
print(json.dumps([{
    "name": run.info.run_name, "status": run.info.status, "params": run.data.params,
    "ended": run.info.end_time >= run.info.start_time,
    "loss": [[m.step, str(m.value)] for m in client.get_metric_history(run.info.run_id, "loss")],
    "names": sorted(run.data.metrics),
} for run in runs]))
"#;

#[test]
fn every_trial_is_a_run_of_an_mlflow_server() {
    let Some(mlflow) = python_with("mlflow.server") else { return };
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Command::new(mlflow)
        .args(["-c", MLFLOW, text(folder.path())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    let mut port = String::new();
    out.read_line(&mut port).unwrap();
    let patience = std::time::Duration::from_mins(5);
    let uri = format!("http://127.0.0.1:{}", port.trim());
    let config = MlflowConfig { patience, timeout: patience, ..MlflowConfig::at(uri) };
    experiment(dir.path(), LogConfig { mlflow: Some(config), ..LogConfig::none() });
    drop(server.stdin.take());
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    assert!(server.wait().unwrap().success());
    let seen: Value = serde_json::from_str(&said).unwrap();
    let mut seen: Vec<Value> = seen.as_array().unwrap().clone();
    seen.sort_by_key(|run| run["name"].to_string());
    assert_eq!(seen.len(), 3);
    for (n, run) in seen.iter().enumerate() {
        assert_eq!((&run["name"], &run["ended"]), (&json!(format!("trial_{n:05}")), &json!(true)));
        assert_eq!(run["status"], if n == 1 { "FAILED" } else { "FINISHED" });
        assert_eq!(run["params"], json!({"n": n.to_string(), "net.kind": "wide"}));
        assert_eq!(run["names"], json!(["größe", "loss"]));
        // A server of MLflow keeps not-a-number as such, or as 0 with a flag; its client says which.
        assert_eq!(
            (&run["loss"][0], &run["loss"][2]),
            (&json!([1, format!("{n}.5")]), &json!([3, format!("{n}.0")]))
        );
    }
}

#[test]
fn the_command_line_names_projects_and_servers() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let echo = ["--", "echo", r#"{"loss": 1}"#];
    let run = |more: &[&str]| {
        let args = ["run", "--out", text(&dir), "--param", "a=1", "--trials", "1"];
        air_tune(&[&args[..], more, &echo].concat())
    };
    let output = run(&["--mlflow", "localhost"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "error: `mlflow.uri`: `localhost` is no address: expected http://HOST:PORT";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    let output = run(&["--wandb", "a/b"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("error: `wandb`: must be the name of a project"), "{}", stderr(&output));
    let output = run(&["--wandb", "mnist"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(runs(&dir).len(), 1);
}
