//! The binary is killed at random instants and resumed: no trial that was acknowledged is lost or run again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use air_core::seed::Seed;
use rand::RngExt;
use serde_json::Value;

use crate::support::{air_tune, binary, stderr, stdout, text};

const TRIALS: &str = "40";

/// Every run of a trial leaves a line: which start of the experiment it belongs to, and its number.
const TRIAL: &str = r#"echo "$ROUND $AIR_TRIAL" >> "$RUNS"; echo "{\"loss\": 2}"; echo "{\"loss\": {x}}""#;

/// Who proposes, and how many trials run at once. A searcher that learns goes on exactly where trials end in the same order.
const SEARCHES: [[&str; 2]; 3] = [["random", "2"], ["tpe", "1"], ["cma", "1"]];

fn run_args<'a>(dir: &'a Path, [search, at_once]: [&'a str; 2]) -> Vec<&'a str> {
    let mut args = vec![
        "run",
        "--param",
        "x=uniform(0,1)",
        "--trials",
        TRIALS,
        "--search",
        search,
        "--max-concurrent",
        at_once,
        "--seed",
        "9",
        "--json",
    ];
    args.extend(["--out", text(dir), "--", "sh", "-c", TRIAL]);
    args
}

/// Starts the binary; kills it after `limit`, if it is still there. Returns the trials it acknowledged, and whether it came to its end.
fn round(args: &[&str], runs: &Path, number: usize, limit: Duration) -> (Vec<Value>, bool) {
    let mut child: Child = binary(args)
        .env("RUNS", runs)
        .env("ROUND", number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let (over, ended) = channel();
    let reader = std::thread::spawn(move || {
        let lines: Vec<String> = BufReader::new(output).lines().map_while(Result::ok).collect();
        let _ = over.send(());
        lines
    });
    if ended.recv_timeout(limit).is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    // The last line may be torn: then it was not acknowledged.
    let mut said: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let finished = said.last().is_some_and(|last| last.get("best").is_some());
    said.retain(|line| line.get("trial").is_some());
    (said, finished)
}

#[test]
fn nothing_acknowledged_is_lost_or_repeated() {
    let root = tempfile::tempdir().unwrap();
    let never = Duration::from_mins(5);
    let mut rng = Seed::new(20).rng();
    let mut kills = 0;
    for (attempt, search) in SEARCHES.into_iter().enumerate() {
        let reference = root.path().join(format!("whole-{attempt}"));
        let runs = root.path().join(format!("whole-{attempt}.runs"));
        let began = Instant::now();
        let (whole, finished) = round(&run_args(&reference, search), &runs, 0, never);
        // Several rounds fit into an experiment, however fast the machine is.
        let longest = (began.elapsed() / 4).max(Duration::from_millis(2));
        assert!(finished && whole.len() == 40);
        let whole: BTreeMap<u64, Value> =
            whole.into_iter().map(|t| (t["trial"].as_u64().unwrap(), t)).collect();

        let dir = root.path().join(format!("killed-{attempt}"));
        let runs = root.path().join(format!("killed-{attempt}.runs"));
        let mut acknowledged: BTreeMap<u64, (usize, Value)> = BTreeMap::new();
        for number in 0.. {
            let limit = if number < 30 { longest.mul_f64(rng.random_range(0.01..1.0)) } else { never };
            let args = run_args(&dir, search);
            let args = if dir.join("study.db").exists() && is_study(&dir) {
                vec!["resume", text(&dir), "--json"]
            } else {
                args
            };
            let (said, finished) = round(&args, &runs, number, limit);
            for trial in said {
                let id = trial["trial"].as_u64().unwrap();
                let earlier = acknowledged.insert(id, (number, trial));
                assert!(earlier.is_none(), "trial {id} was acknowledged twice");
            }
            if finished {
                break;
            }
            kills += 1;
            assert!(number < 31, "the experiment did not end");
        }
        let stored = air_tune::ResultGrid::load(&dir).unwrap();
        assert_eq!(stored.len(), 40);
        for trial in &stored {
            assert_eq!(
                trial.config.to_value(),
                whole[&trial.trial]["config"],
                "trial {} differs from the whole run",
                trial.trial
            );
            assert_eq!(trial.value, whole[&trial.trial]["value"].as_f64());
            assert_eq!(trial.iterations, 2);
            let csv = std::fs::read_to_string(trial.dir.as_ref().unwrap().join("progress.csv")).unwrap();
            assert_eq!(csv.lines().count(), 3, "trial {}:\n{csv}", trial.trial);
        }
        for line in std::fs::read_to_string(&runs).unwrap().lines() {
            let (number, trial) = line.split_once(' ').unwrap();
            let (number, trial): (usize, u64) = (number.parse().unwrap(), trial.parse().unwrap());
            let (when, _) = acknowledged.get(&trial).map_or((usize::MAX, None), |(when, t)| (*when, Some(t)));
            assert!(
                number <= when,
                "trial {trial} was acknowledged in round {when} and ran again in round {number}"
            );
        }
    }
    assert!(kills >= 10, "only {kills} of the kills came in time");
}

/// Whether the database was made whole before the kill.
fn is_study(dir: &Path) -> bool {
    let output = air_tune(&["best", text(dir)]);
    let (out, error) = (stdout(&output), stderr(&output));
    !out.is_empty() || error.contains("no trial reported")
}

fn alive(pid: &str) -> bool {
    // A zombie is dead; whoever adopted it has not looked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// Waits for a condition that another process brings about.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn no_process_of_a_trial_outlives_the_binary() {
    let root = tempfile::tempdir().unwrap();
    let pids = root.path().join("pids");
    // The trial's shell, and a child of it in the background.
    let trial = format!("sleep 600 & echo \"$$ $!\" > {0}.new; mv {0}.new {0}; wait", text(&pids));
    let out = root.path().join("out");
    let args = ["run", "--param", "x=1", "--out", text(&out), "--", "sh", "-c", &trial];
    let mut child = binary(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the trial starts", || pids.exists());
    let ids: Vec<String> =
        std::fs::read_to_string(&pids).unwrap().split_whitespace().map(str::to_owned).collect();
    assert!(ids.len() == 2 && ids.iter().all(|pid| alive(pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the trial's processes die", || ids.iter().all(|pid| !alive(pid)));
}
