//! What several tests need.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A run of the `air-tune` binary.
pub fn air_tune(args: &[&str]) -> Output {
    binary(args).output().unwrap()
}

pub fn binary(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-tune"));
    command.args(args);
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code and the first line of the error.
pub fn failure(args: &[&str]) -> (i32, String) {
    let output = air_tune(args);
    let error =
        stderr(&output).lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
    (output.status.code().unwrap(), error)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A Python that can import the module: `$AIR_BENCH_PYTHON`, the benchmarks' environment, or the system's.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let candidates = [
        std::env::var_os("AIR_BENCH_PYTHON").map(PathBuf::from),
        Some(root.join(".venv-bench/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    let found = candidates.into_iter().flatten().find(|python| {
        let import = format!("import {module}");
        Command::new(python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no Python with `{module}` (set AIR_BENCH_PYTHON)");
    }
    found
}

/// Runs a Python program and returns what it prints.
pub fn python(python: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(python).args(["-c", program]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}
