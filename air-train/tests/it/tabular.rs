//! The tabular classifier and the command line, on iris.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn air_train(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_air-train")).args(args).current_dir(examples()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what must fail: nothing on stdout, one error on stderr.
fn refused(args: &[&str], code: i32) -> String {
    let output = air_train(args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(output.stdout.is_empty());
    error
}

#[test]
fn iris_is_learned_saved_and_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("iris");
    let out = out.to_str().unwrap();
    let run = || air_train(&["run", "train.toml", "--json", "--out", out]);
    let output = run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 61, "60 epochs and the summary");
    let last = &lines[60];
    assert_eq!((last["train_rows"].as_u64(), last["validation_rows"].as_u64()), (Some(120), Some(30)));
    assert!(last["loss"].as_f64().unwrap() < 0.1, "{last}");
    assert!(last["val_accuracy"].as_f64().unwrap() > 0.9, "{last}");

    for checkpoint in [last["checkpoint"].as_str().unwrap(), out] {
        let answer = air_train(&["predict", checkpoint, "--input", "5.1, 3.5, 1.4, 0.2"]);
        assert_eq!(text(&answer.stdout), "Setosa\n", "{}", text(&answer.stderr));
    }
    let answer = air_train(&["predict", out, "--input", "6.7,3.0,5.2,2.3", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["label"], "Virginica");
    assert!(answer["probabilities"]["Virginica"].as_f64().unwrap() > 0.5);

    // The same seed gives the same losses, to the last digit.
    let again = text(&run().stdout);
    let epochs = |text: &str| text.lines().take(60).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(epochs(&again), epochs(&stdout));
}

#[test]
fn what_is_wrong_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = write("c.toml", "[data]\npath = \"t.csv\"\n");
    let run = |csv: &str| {
        write("t.csv", csv);
        refused(&["run", &config], 1)
    };
    assert!(run("a,k\n1,x\n2,y,3\n").contains("t.csv`: line 3: 3 fields, the header has 2"));
    assert!(run("a,k\n1,x\none,y\n").contains("t.csv`: line 3, column 1 (`a`): `one` is not a number"));
    assert!(
        refused(&["run", &config, "--set", "data.path=none.csv"], 1).contains("none.csv`: cannot be opened")
    );
    assert!(refused(&["run", "no-such.toml"], 1).contains("no-such.toml"));
    assert!(refused(&["run", &config, "--set", "optimizer.epoch=3"], 1).contains("unknown field `epoch`"));
    let typo = write("typo.toml", "[data]\npaht = \"t.csv\"\n");
    let error = refused(&["run", &typo], 1);
    assert!(error.contains("typo.toml") && error.contains("paht"), "{error}");
    assert!(
        refused(&["predict", folder.path().to_str().unwrap(), "--input", "1"], 1).contains("no checkpoint")
    );
    assert!(refused(&["predict", "x", "--input", "1,b"], 2).contains("`b` is not a number"));
    assert!(refused(&["run"], 2).contains("<CONFIG>"));
}

#[cfg(unix)]
#[test]
fn a_launched_command_reports_and_fails_with_its_rank() {
    let script = "echo \"{\\\"loss\\\": 0.$WORLD_SIZE}\"; [ \"$RANK\" != 2 ] || exit \"${CODE:-0}\"";
    let output = air_train(&["launch", "-n", "3", "--json", "--", "sh", "-c", script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["loss"], 0.3);
    assert!(text(&output.stderr).contains("[rank 1] {\"loss\": 0.3}"));

    let output = Command::new(env!("CARGO_BIN_EXE_air-train"))
        .args(["launch", "-n", "3", "--", "sh", "-c", script])
        .env("CODE", "9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("rank 2 exited with code 9; the run was given up"));
}
