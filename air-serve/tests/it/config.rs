//! Configurations in Ray's schema.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::client::{post, send};
use crate::{examples, lines};

struct Dir(tempfile::TempDir);

impl Dir {
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn dir() -> Dir {
    Dir(tempfile::tempdir().unwrap())
}

fn air_serve(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-serve"));
    command.args(args).env_remove("AIR_LOG");
    command
}

fn output(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = air_serve(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn run(args: &[&str]) -> lines::Running {
    lines::Running(air_serve(&[&["run"], args].concat()).stdout(Stdio::piped()).spawn().unwrap())
}

const VECTOR: &str = r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;

/// As `serve build` of Ray writes it, with an application of ours.
fn rays() -> String {
    format!(
        "# comment\nproxy_location: EveryNode\n\nhttp_options:\n  host: 127.0.0.1\n  port: 0\n  request_timeout_s: 7.5\n  \
         max_body_bytes: 100\n\ngrpc_options:\n  port: 9000\n  grpc_servicer_functions: []\n\nlogging_config:\n  \
         encoding: TEXT\n  log_level: INFO\n  logs_dir: null\n  enable_access_log: true\n  \
         additional_log_standard_attrs: []\n\napplications:\n- name: iris\n  route_prefix: /iris\n  \
         import_path: onnx://{}\n  runtime_env: {{}}\n  args:\n    labels: [setosa, versicolor, virginica]\n  \
         deployments:\n  - name: iris\n    num_replicas: 2\n    max_ongoing_requests: 5\n    max_batch_size: 4\n    \
         ray_actor_options:\n      num_cpus: 0.0\n      runtime_env: {{pip: [x]}}\n",
        examples("iris_gbc.onnx").display()
    )
}

#[test]
fn rays_yaml_is_served() {
    let dir = dir();
    let file = dir.put("serve.yaml", &rays());
    let mut server = run(&[file.to_str().unwrap()]);
    let addr = server.addr();
    assert_eq!(post(addr, "/iris", VECTOR).body, r#"{"result":"versicolor"}"#);
    assert_eq!(post(addr, "/iris", &" ".repeat(200)).status, 413);
    assert_eq!(post(addr, "/", VECTOR).status, 404);
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_same_in_toml_with_keys() {
    let dir = dir();
    let path = examples("iris_gbc.onnx");
    let hash = air_serve::KeyHash::of(b"secret");
    let text = format!(
        "[http_options]\nport = 1\n[[http_options.auth.keys]]\nname = 'app'\nsha256 = '{hash}'\n\
         [[applications]]\nname = 'a'\nroute_prefix = '/a'\nimport_path = 'onnx://{0}'\n\
         [[applications]]\nname = 'b'\nroute_prefix = '/b'\nimport_path = 'onnx://{0}'\nargs.scores = true\n",
        path.display()
    );
    let file = dir.put("serve.toml", &text);
    let mut server = run(&[file.to_str().unwrap(), "--port", "0"]);
    let addr = server.addr();
    assert_eq!(post(addr, "/a", VECTOR).status, 401);
    assert_eq!(send(addr, "POST", "/a", "x-api-key: secret\r\n", VECTOR).body, r#"{"result":1}"#);
    assert!(send(addr, "POST", "/b", "x-api-key: secret\r\n", VECTOR).body.contains("scores"));
}

#[test]
fn check_says_what_would_be_served_and_what_is_said_in_vain() {
    let dir = dir();
    let text = rays().replace("runtime_env: {}", "runtime_env: {pip: [torch]}");
    let file = dir.put("serve.yml", &text);
    let (code, out, err) = output(&["check", file.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "address  http://127.0.0.1:0",
        "route    /iris: iris (deployment `iris` of onnx://",
        "note     application `iris`: runtime_env (there is no Python) has no effect here",
        "note     application `iris`: deployment `iris`: max_ongoing_requests (a replica takes as many as",
        "note     application `iris`: deployment `iris`: ray_actor_options.runtime_env has no effect here",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(out.matches("note ").count(), 3, "{out}");
}

#[test]
fn build_prints_what_run_takes() {
    let dir = dir();
    let model = dir.0.path().join("my: model.onnx");
    std::fs::copy(examples("iris_gbc.onnx"), &model).unwrap();
    let (code, out, err) = output(&["build", model.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let file = dir.put("serve.yaml", &out.replace("route_prefix: \"/my: model\"", "route_prefix: /model"));
    let (code, out, err) = output(&["check", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("my: model (deployment `my: model` of onnx://") && !out.contains("note"), "{out}");
    let (code, _, err) = output(&["build", "/none.onnx"]);
    assert!(code == 1 && err.contains("/none.onnx"), "{err}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let dir = dir();
    let good = rays();
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    for (text, says) in [
        (change("port: 0", "prot: 0"), "unknown field `prot`"),
        (change("port: 0", "port: many"), "serve.yaml:6: `http_options.port`: invalid type: string \"many\""),
        (change("request_timeout_s: 7.5", "request_timeout_s: soon"), "`request_timeout_s` is \"soon\""),
        (
            change("  route_prefix:", "  route_prefx:"),
            "serve.yaml:23: `applications[0].route_prefx`: unknown field `route_prefx`",
        ),
        (change("  route_prefix:", "  route_prefx:"), "did you mean `route_prefix`?"),
        (change("max_batch_size", "max_batch_sise"), "unknown field `max_batch_sise`"),
        (change("max_batch_size", "max_batch_sise"), "did you mean `max_batch_size`?"),
        (
            change("max_batch_size: 4", "max_batch_size: x"),
            "serve.yaml:32: `applications[0].deployments[0].max_batch_size`",
        ),
        (change("max_batch_size: 4", "max_batch_size: 0"), "max_batch_size is 0"),
        (change("num_replicas: 2", "num_replicas: -2"), "num_replicas must be a whole number or"),
        (
            change("- name: iris\n    num", "- name: irs\n    num"),
            "application `iris` has no deployment `irs`; it has `iris`",
        ),
        (change("- name: iris\n    num", "- num"), "missing field `name`"),
        (change("iris_gbc.onnx", "none.onnx"), "none.onnx"),
        (
            change("labels: [setosa, versicolor, virginica]", "labels: [a]"),
            "1 names were given for its 3 classes",
        ),
        (change("labels:", "lables:"), "its args: unknown field `lables`, expected `labels` or `scores`"),
        (
            change("onnx://", "iris:app # "),
            "this program has registered no applications; there is onnx://PATH",
        ),
        (change("onnx://", "s3://"), "nothing serves this kind of path"),
        (change("route_prefix: /iris", "route_prefix: iris"), "is not a path that starts with /"),
        (change("route_prefix: /iris", "route_prefix: /metrics"), "is one of the server's own"),
        (change("encoding: TEXT", "encoding: XML"), "unknown variant `XML`"),
        (change("applications:", "applications: []\nx:"), "unknown field `x`"),
        (good[..good.find("applications:").unwrap()].to_owned(), "there is nothing to serve"),
        (
            format!(
                "{good}{}",
                good[good.find("- name: iris").unwrap()..]
                    .replace("  route_prefix: /iris", "  route_prefix: /other")
            ),
            "`iris` is empty or taken",
        ),
        (change("  port: 0", "\tport: 0"), "found a tab"),
    ] {
        let file = dir.put("serve.yaml", &text);
        for command in ["check", "run"] {
            let (code, out, err) = output(&[command, file.to_str().unwrap()]);
            assert_eq!((code, err.contains("error: ")), (1, true), "{says}: {out}{err}");
            assert!(err.contains(says), "expected {says:?}: {err}");
        }
    }
    let file = dir.put("serve.yaml", &good);
    let (code, _, err) = output(&["run", file.to_str().unwrap(), "--max-batch", "3"]);
    assert!(code == 2 && err.contains("--max-batch is for a model"), "{err}");
}
