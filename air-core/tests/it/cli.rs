//! The binary as a shell sees it: exit codes, and what goes to which stream.
#![allow(clippy::unwrap_used)]

use std::io;
use std::process::{Command, Output, Stdio};

fn air_core(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-core"));
    command.args(args).stdin(Stdio::null());
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_is_code_0_on_stdout() {
    let output = air_core(&["--help"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    assert!(out.contains("Usage: air-core <COMMAND>"), "{out}");
}

#[test]
fn a_wrong_command_line_is_code_2_on_stderr() {
    let output = air_core(&["devcies"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error: unrecognized subcommand 'devcies'"), "{err}");
    assert!(err.contains("a similar subcommand exists: 'devices'"), "{err}");
}

/// As in `air-core devices | head -n 0`, where the reader leaves before the first line.
#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    for args in [&["devices", "--json"][..], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output =
            air_core(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
        assert!(!err.contains("panicked"), "{args:?}: {err}");
    }
}
