//! The binary.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::client::{get, post};
use crate::lines::Running;
use crate::{examples, fixtures};

fn air_serve() -> Command {
    Command::new(env!("CARGO_BIN_EXE_air-serve"))
}

fn output(args: &[&str]) -> Output {
    air_serve().args(args).output().unwrap()
}

#[test]
fn run_serves_the_quick_start_and_ends_on_sigterm() {
    let mut command = air_serve();
    command.arg("run").arg(examples("iris_gbc.onnx"));
    // The flag wins over the file.
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("serve.toml");
    std::fs::write(&config, "[http]\nport = 1\n[deployment]\nmax_batch_size = 4\n").unwrap();
    command.arg("--config").arg(config);
    command.args(["--route", "/iris", "--port", "0", "--labels", "setosa,versicolor,virginica"]);
    let mut server = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let addr = server.addr();
    assert!(addr.ip().is_loopback());
    assert_eq!(post(addr, "/iris", r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#).body, r#"{"result":"versicolor"}"#);
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn run_serves_a_repository_beside_a_model() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures("mlp_three.onnx"), dir.path().join("mlp.onnx")).unwrap();
    let mut command = air_serve();
    command
        .arg("run")
        .arg(examples("iris_gbc.onnx"))
        .arg("--repository")
        .arg(dir.path())
        .args(["--port", "0"]);
    let mut server = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let (iris, models) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(iris.ends_with("/iris_gbc"), "{iris}");
    let addr =
        models.strip_suffix("/v2").and_then(|line| line.rsplit_once("http://")).unwrap().1.parse().unwrap();
    assert_eq!(get(addr, "/v2/models").body, r#"{"models":["iris_gbc","mlp"]}"#);
}

#[test]
fn bad_input_is_a_message_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text.onnx"), "this is not a model\n").unwrap();
    let iris = std::fs::read(examples("iris_gbc.onnx")).unwrap();
    std::fs::write(path("cut.onnx"), &iris[..iris.len() / 2]).unwrap();
    std::fs::write(path("empty.onnx"), "").unwrap();
    std::fs::write(path("bad.toml"), "[http]\nprot = 9000\n").unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let iris = examples("iris_gbc.onnx").to_str().unwrap().to_owned();
    let cases: &[(&[&str], &[&str])] = &[
        (&["run", &path("none.onnx")], &["none.onnx", "No such file"]),
        (&["run", &path("text.onnx")], &["text.onnx", "not an ONNX model", "at byte"]),
        (&["run", &path("cut.onnx")], &["cut.onnx", "cut short"]),
        (&["run", &path("empty.onnx")], &["the file is empty"]),
        (&["run", &iris, "--port", &port], &["cannot listen on 127.0.0.1", "another program listens there"]),
        (&["run", &iris, "--labels", "a,b", "--port", "0"], &["2 names were given for its 3 classes"]),
        (&["run", &iris, "--route", "iris", "--port", "0"], &["is not a path that starts with /"]),
        (&["run", &iris, "--max-batch", "0", "--port", "0"], &["max_batch_size is 0"]),
        (&["run", &iris, "--config", &path("bad.toml")], &["bad.toml", "unknown field `prot`", "port"]),
        (&["run", &iris, "--set", "deployment.max_batch=4"], &["--set", "unknown field `max_batch`"]),
        (
            &["run", "--repository", &path("none"), "--port", "0"],
            &["model repository", "none", "No such file"],
        ),
        (&["check", &path("text.onnx")], &["not an ONNX model"]),
    ];
    for (args, says) in cases {
        let output = output(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
        for part in *says {
            assert!(stderr.contains(part), "{args:?}: {stderr}");
        }
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_help_names_the_flags() {
    assert_eq!(output(&["run"]).status.code(), Some(2));
    assert_eq!(output(&["run", "x.onnx", "--port", "70000"]).status.code(), Some(2));
    let help = String::from_utf8(output(&["run", "--help"]).stdout).unwrap();
    for flag in ["--route", "--port", "--host", "--labels", "--replicas", "--max-batch", "versicolor"] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn check_says_what_a_model_takes_and_gives() {
    let mut child = air_serve()
        .arg("check")
        .arg(fixtures("gbc_names_zipmap.onnx"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.contains("float [?, 4]") && text.contains("setosa, versicolor, virginica"), "{text}");
}
