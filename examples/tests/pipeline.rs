//! The end-to-end application, run as a user runs it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_pipeline_goes_from_a_file_to_an_http_answer() {
    let run = Command::new(env!("CARGO_BIN_EXE_pipeline")).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert_eq!(out.lines().last(), Some(r#"{"result":"versicolor"}"#), "{out}");
    for stage in ["data", "tune", "best", "serve", "ask"] {
        assert!(out.lines().any(|line| line.starts_with(stage)), "no line about {stage}: {out}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let run = Command::new(env!("CARGO_BIN_EXE_pipeline")).arg("no/such/iris.csv").output().unwrap();
    assert!(!run.status.success());
    let err = String::from_utf8_lossy(&run.stderr);
    assert!(err.contains("no/such/iris.csv"), "{err}");
}
