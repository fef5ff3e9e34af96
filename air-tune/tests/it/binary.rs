//! The command line.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{air_tune, failure, stderr, stdout, text};

/// `air-tune run` with its output in `dir`.
fn run(dir: &Path, options: &[&str], command: &[&str]) -> std::process::Output {
    let mut args = vec!["run", "--out", text(dir)];
    args.extend(options);
    args.push("--");
    args.extend(command);
    air_tune(&args)
}

#[test]
fn a_command_is_tuned_and_the_best_is_shown() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("demo");
    let options = [
        "--param",
        "lr=loguniform(1e-4,1e-1)",
        "--param",
        "units=choice(16,32)",
        "--metric",
        "loss",
        "--mode",
        "max",
        "--trials",
        "8",
    ];
    let output = run(
        &dir,
        &options,
        &["sh", "-c", r#"echo starting; echo "{\"loss\": {lr}, \"units\": $AIR_PARAM_UNITS}""#],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.lines().count() > 9 && table.contains("best: trial "), "{table}");

    let best = air_tune(&["best", text(&dir), "--json"]);
    let best: Value = serde_json::from_str(&stdout(&best)).unwrap();
    let all = air_tune::ResultGrid::load(&dir).unwrap();
    let highest = all.iter().map(|t| t.value.unwrap()).fold(f64::MIN, f64::max);
    assert_eq!(best["value"], json!(highest));
    assert_eq!(best["metrics"]["units"].as_f64(), best["config"]["units"].as_f64());
    assert_eq!(best["status"], "complete");
    assert!(stdout(&air_tune(&["best", text(&dir)])).contains("of 8 trials: 8 complete"));
    let log = std::fs::read_to_string(dir.join("trial_00000/stdout.log")).unwrap();
    assert_eq!(log, "starting\n");

    let again = air_tune(&["resume", text(&dir), "--json"]);
    let lines: Vec<Value> = stdout(&again).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["best"]["value"]), (1, &best["value"]), "nothing was left to do");
}

#[test]
fn failed_trials_say_why_and_the_exit_code_tells() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let script = r#"case {n} in
        0) echo '{"loss": 1}' ;;
        1) echo 'Traceback: no luck' >&2; exit 3 ;;
        2) kill -9 $$ ;;
        3) echo 'epoch 1 done' ;;
        4) echo '{"accuracy": 1, "size": 2}' ;;
        5) echo '{"loss": NaN}' ;;
        6) true ;;
    esac"#;
    let output = run(&dir, &["--param", "n=grid(0,1,2,3,4,5,6)"], &["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("error: 6 of 7 trials failed: trial 1: exit code 3: Traceback: no luck"),
        "{}",
        stderr(&output)
    );
    let grid = air_tune::ResultGrid::load(&dir).unwrap();
    let causes: Vec<String> = grid.errors().map(|(_, cause)| cause.to_string()).collect();
    assert_eq!(
        causes,
        [
            "exit code 3: Traceback: no luck",
            "killed by signal 9",
            "never reported `loss`: no line it printed is a JSON object of numbers; the last one is `epoch 1 done`",
            "never reported `loss`: its JSON lines hold accuracy, size",
            "its last `loss` is not a number",
            "never reported `loss`: it printed nothing on standard output",
        ]
    );
    assert_eq!(grid.best().unwrap().trial, 0);
}

#[test]
fn a_trial_finds_its_checkpoint_and_counts_its_own_iterations() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    // The first attempt dies after two of four iterations.
    let script = r#"from=$(cat "$AIR_CHECKPOINT/step" 2>/dev/null || echo 0)
        for step in $(seq $((from + 1)) 4); do
            echo "{\"loss\": $((10 - step)), \"training_iteration\": $step}"
            echo $step > "$AIR_CHECKPOINT/step"
            [ $step = 2 ] && [ $AIR_ATTEMPT = 1 ] && exit 1
        done
        [ $from = 2 ]"#;
    let output =
        run(&dir, &["--param", "n=1", "--trials", "1", "--max-failures", "1"], &["sh", "-c", script]);
    assert!(output.status.success(), "{}", stderr(&output));
    let grid = air_tune::ResultGrid::load(&dir).unwrap();
    let best = grid.best().unwrap();
    assert_eq!((best.attempts, best.iterations, best.value), (2, 4, Some(6.0)));
    let iterations: Vec<u64> = grid.history(0).unwrap().iter().map(|report| report.iteration).collect();
    assert_eq!(iterations, [1, 2, 3, 4]);
}

#[test]
fn asha_stops_a_command_and_all_it_started() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    // Trials report what would take for ever; the last one ignores SIGTERM.
    let script = r#"[ {n} = 3 ] && trap '' TERM
        sleep 600 & echo $! > "$AIR_TRIAL_DIR/child"
        i=0; while :; do i=$((i + 1)); echo "{\"loss\": {n}}"; [ $i -ge 1000 ] && sleep 600; done"#;
    let options =
        ["--param", "n=grid(0,1,2,3)", "--scheduler", "asha", "--max-t", "64", "--max-concurrent", "1"];
    let output = run(&dir, &options, &["sh", "-c", script]);
    assert!(output.status.success(), "{}", stderr(&output));
    let grid = air_tune::ResultGrid::load(&dir).unwrap();
    let ends: Vec<(String, u64)> = grid.iter().map(|t| (t.status.to_string(), t.iterations)).collect();
    assert_eq!(ends[0], ("complete".into(), 64));
    for end in &ends[1..] {
        assert_eq!(*end, ("stopped".into(), 1));
    }
    for trial in &grid {
        let child = std::fs::read_to_string(trial.dir.as_ref().unwrap().join("child")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
        assert!(matches!(state, None | Some('Z')), "a child of trial {} lives", trial.trial);
    }
}

#[test]
fn a_silent_command_ends_with_the_time_budget() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let options = ["--param", "n=1", "--trials", "3", "--time-budget", "0.3", "--max-concurrent", "1"];
    let output = run(&dir, &options, &["sleep", "600"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no trial reported a usable `loss` (1 trials, 1 failed)"),
        "{}",
        stderr(&output)
    );
    assert!(stdout(&output).contains("the time budget ran out before it reported `loss`"));
}

#[test]
fn wrong_command_lines_are_code_2_and_say_what_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let with = |param: &str, command: &[&str]| {
        let mut args = vec!["run", "--out", text(&dir), "--param", param, "--"];
        args.extend(command);
        failure(&args)
    };
    for (param, command, message) in [
        (
            "lr=loguniform(0,1)",
            &["true"][..],
            "parameter `lr`: a logarithmic range must start above 0, found 0",
        ),
        ("lr=uniform(2,1)", &["true"], "parameter `lr`: the lower bound 2 is above the upper bound 1"),
        ("lr=choice()", &["true"], "parameter `lr`: the list of values is empty"),
        ("lr=uniform(nan,1)", &["true"], "parameter `lr`: bounds must be finite"),
        ("lr=gauss(0,1)", &["true"], "parameter `lr`: `gauss` is no domain"),
        ("lr", &["true"], "parameter `lr`: expected `name=domain`"),
        ("lr=1", &["echo", "{rl}"], "placeholder `{rl}` is no parameter of the space (lr)"),
        ("lr=1", &["no-such-program"], "command `no-such-program`: not found in PATH"),
        ("lr=1", &["./no-such-file"], "command `./no-such-file`: no such executable file"),
    ] {
        let (code, error) = with(param, command);
        assert!(code == 2 && error.contains(message), "{param} {command:?}: {code} {error}");
    }
    let twice = failure(&["run", "--param", "a=1", "--param", "a=2", "--", "true"]);
    assert!(twice.0 == 2 && twice.1.contains("parameter `a`: the name is given twice"));
    for args in [
        &["best"][..],
        &["resume"],
        &["run", "--param", "a=1"],
        &["run", "--", "true"],
        &["frobnicate"],
        &["run", "--param", "a=1", "--mode", "up", "--", "true"],
    ] {
        assert_eq!(failure(args).0, 2, "{args:?}");
    }
    for verb in ["best", "resume"] {
        let (code, error) = failure(&[verb, text(root.path())]);
        assert!(code == 2 && error.contains("holds no experiment"), "{verb}: {code} {error}");
    }
    assert!(!dir.exists(), "nothing was created");
    for option in
        [["--trials", "0"], ["--grace-period", "0"], ["--max-concurrent", "0"], ["--time-budget", "-1"]]
    {
        let option = option.join("=");
        assert_eq!(
            failure(&["run", "--scheduler", "asha", "--param", "a=1", &option, "--", "true"]).0,
            2,
            "{option}"
        );
    }
    let made = run(&dir, &["--param", "a=1", "--trials", "1"], &["echo", r#"{"loss": 1}"#]);
    assert!(made.status.success());
    let (code, error) = failure(&["run", "--out", text(&dir), "--param", "a=1", "--", "true"]);
    assert!(code == 2 && error.contains("already holds an experiment"), "{error}");
}

#[test]
fn help_reads_well() {
    let help = stdout(&air_tune(&["--help"]));
    for line in ["run ", "best ", "resume ", "Exit code: 0 if all went well"] {
        assert!(help.contains(line), "{help}");
    }
    let help = stdout(&air_tune(&["run", "--help"]));
    assert!(help.contains("loguniform(low,high)") && help.contains("AIR_PARAM_<NAME>"), "{help}");
}
