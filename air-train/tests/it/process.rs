//! Programs as ranks: environment, reports, failures, restarts, and that nothing is left behind.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use air_train::{
    Cause, Decision, FailureConfig, ProcessTrainer, RunConfig, ScalingConfig, TrainError, TrainResult,
};
use parking_lot::Mutex;

type Lines = Arc<Mutex<Vec<(usize, String)>>>;

fn sh(
    script: &str,
    workers: usize,
    max_failures: u32,
    folder: &Path,
) -> (Result<TrainResult, TrainError>, Vec<(usize, String)>) {
    let lines = Lines::default();
    let seen = Arc::clone(&lines);
    let run = RunConfig {
        name: "sh".into(),
        storage: Some(folder.join("checkpoints").to_str().unwrap().into()),
        failure: FailureConfig { max_failures },
        ..RunConfig::default()
    };
    let result = ProcessTrainer::new(["sh", "-c", script])
        .scaling(ScalingConfig::workers(workers))
        .run_config(run)
        .env("FOLDER", folder.to_str().unwrap())
        .relay(move |rank, _, text| seen.lock().push((rank, text.to_owned())))
        .fit();
    let lines = lines.lock().clone();
    (result, lines)
}

/// Whether a process of this id still runs (a zombie does not).
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// Processes that were killed end as soon as they are scheduled; nothing tells those who are not their parents when that was.
#[track_caller]
fn are_gone(pids: &[String]) {
    let limit = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while let Some(pid) = pids.iter().find(|pid| runs(pid)) {
        assert!(std::time::Instant::now() < limit, "process {pid} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn every_rank_finds_its_place_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (result, lines) = sh(
        r#"echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR"; echo "$MASTER_PORT" >&2; echo "$TF_CONFIG"
           [ -z "$AIR_CHECKPOINT" ] && [ "$RANK" != 0 ] || echo '{"loss": 0.25, "epoch": 1}'"#,
        3,
        0,
        folder.path(),
    );
    let result = result.unwrap();
    assert_eq!(result.metrics, BTreeMap::from([("loss".to_owned(), 0.25), ("epoch".to_owned(), 1.0)]));
    assert_eq!(result.history.len(), 1, "only rank 0's line is a report");
    for rank in 0..3 {
        let of_rank: Vec<&str> =
            lines.iter().filter(|(r, _)| *r == rank).map(|(_, text)| text.as_str()).collect();
        assert!(of_rank.contains(&format!("{rank} {rank} 3 127.0.0.1").as_str()), "{of_rank:?}");
        let port =
            |rank: usize| lines.iter().find(|(r, text)| *r == rank && text.parse::<u16>().is_ok()).unwrap();
        assert_eq!(port(rank).1, port(0).1);
        let config = of_rank.iter().find(|text| text.starts_with("{\"cluster\"")).unwrap();
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["task"]["index"], rank);
    }
}

#[test]
fn a_rank_that_is_killed_ends_the_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The others would sleep for minutes, each with a child of its own.
    let (result, lines) = sh(
        r#"echo "$$"; if [ "$RANK" = 1 ]; then kill -9 $$; fi; sleep 300 & echo "$!"; wait"#,
        3,
        0,
        folder.path(),
    );
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "run `sh` failed: rank 1 was ended by signal 9; the run was given up");
    are_gone(&lines.into_iter().map(|(_, pid)| pid).collect::<Vec<_>>());
}

#[test]
fn the_group_restarts_from_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    // Counts to 6, with a checkpoint after each number; rank 1 fails once, after rank 0 has reported 3.
    let script = r#"
        if [ "$RANK" = 0 ]; then
            n=0
            if [ -n "$AIR_CHECKPOINT" ]; then n=$(cat "$AIR_CHECKPOINT/sub/n"); echo "from $n"; fi
            while [ "$n" -lt 6 ]; do
                n=$((n + 1))
                mkdir -p "$FOLDER/$n/sub"; echo "$n" > "$FOLDER/$n/sub/n"
                echo "{\"n\": $n, \"checkpoint\": \"$FOLDER/$n\"}"
                if [ "$n" = 3 ] && [ ! -e "$FOLDER/failed" ]; then sleep 300; fi
            done
        elif [ ! -e "$FOLDER/failed" ]; then
            until [ "$(ls -R "$FOLDER/checkpoints" 2>/dev/null | grep -c manifest)" = 3 ]; do sleep 0.02; done
            touch "$FOLDER/failed"; exit 7
        fi"#;
    let (result, lines) = sh(script, 2, 1, folder.path());
    let result = result.unwrap();
    assert_eq!(result.failures.len(), 1);
    assert_eq!(result.failures[0].rank, 1);
    assert!(matches!(result.failures[0].cause, Cause::Exited(7)));
    assert_eq!(result.failures[0].decision, Decision::Restart { from: Some(3) });
    assert!(lines.contains(&(0, "from 3".to_owned())), "{lines:?}");
    assert_eq!(
        result.history.iter().map(|r| r.metrics["n"]).collect::<Vec<_>>(),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
    assert_eq!(result.checkpoint.unwrap().read("sub/n").unwrap(), "6\n");
}

#[test]
fn a_program_that_is_not_there_says_so() {
    let run = RunConfig { name: "typo".into(), ..RunConfig::default() };
    let lines = Lines::default();
    let seen = Arc::clone(&lines);
    let result = ProcessTrainer::new(["no-such-program-anywhere"])
        .run_config(run)
        .relay(move |rank, _, text| seen.lock().push((rank, text.to_owned())))
        .fit();
    assert!(lines.lock().iter().any(|(_, text)| text.contains("no-such-program-anywhere")), "{lines:?}");
    assert_eq!(
        result.unwrap_err().to_string(),
        "run `typo` failed: rank 0 exited with code 127; the run was given up"
    );
    let empty: [&str; 0] = [];
    assert_eq!(ProcessTrainer::new(empty).fit().unwrap_err().to_string(), "command: is empty");
}

#[test]
fn a_listener_ends_the_processes_early() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunConfig { storage: Some(folder.path().to_str().unwrap().into()), ..RunConfig::default() };
    let result = ProcessTrainer::new(["sh", "-c", "echo '{\"loss\": 1}'; sleep 300"])
        .scaling(ScalingConfig::workers(2))
        .run_config(run)
        .relay(|_, _, _| {})
        .on_report(|_| ControlFlow::Break(()))
        .fit()
        .unwrap();
    assert!(result.stopped && result.failures.is_empty());
    assert_eq!(result.history.len(), 1);
}

#[test]
fn a_reporter_ends_the_processes_early() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunConfig { storage: Some(folder.path().to_str().unwrap().into()), ..RunConfig::default() };
    let mut losses = Vec::new();
    let mut judge = |_: u64, metrics: &BTreeMap<String, f64>| {
        losses.push(metrics["loss"]);
        Ok(if losses.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let result = ProcessTrainer::new(["sh", "-c", "echo '{\"loss\": 1}'; echo '{\"loss\": 2}'; sleep 300"])
        .run_config(run)
        .relay(|_, _, _| {})
        .fit_reporting(&mut judge)
        .unwrap();
    assert!(result.stopped && result.failures.is_empty());
    assert_eq!(losses, [1.0, 2.0]);
}

/// The launcher is killed outright, as the kernel does to a process that takes too much memory: its ranks go with it.
#[test]
fn no_rank_outlives_a_launcher_that_is_killed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let mut launcher = Command::new(env!("CARGO_BIN_EXE_air-train"))
        .args(["launch", "-n", "2", "--", "sh", "-c", "sleep 300 & echo $!; echo $$; wait"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(launcher.stderr.take().unwrap()).lines();
    let pids: Vec<String> =
        lines.take(4).map(|line| line.unwrap().rsplit(' ').next().unwrap().to_owned()).collect();
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    are_gone(&pids);
}
