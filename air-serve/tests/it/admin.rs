//! A server that runs, changed over its REST API.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use air_serve::KeyHash;
use serde_json::Value;

use crate::client::{Response, connect, get, post, read, send};
use crate::{examples, lines};

const API: &str = "/api/serve/applications/";
const VECTOR: &str = r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;

fn air_serve(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-serve"));
    command.args(args).env_remove("AIR_LOG").env_remove("AIR_SERVE_KEY");
    command
}

/// A configuration of one application at a path.
fn config(path: &str, labels: &str) -> String {
    let model = examples("iris_gbc.onnx");
    format!(
        "http_options: {{port: 0}}\napplications:\n- name: iris\n  route_prefix: {path}\n  import_path: onnx://{}\n  \
         args: {{labels: {labels}}}\n  deployments:\n  - name: iris\n    num_replicas: 1\n",
        model.display()
    )
}

const NAMES: &str = "[setosa, versicolor, virginica]";

fn put(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("serve.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(file: &Path) -> (lines::Running, SocketAddr) {
    let child = air_serve(&["run", file.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut server = lines::Running(child);
    let addr = server.addr();
    (server, addr)
}

/// Runs a command against a server: its exit code and all it says.
fn remote(addr: SocketAddr, args: &[&str]) -> (i32, String) {
    let output = air_serve(args).args(["--address", &format!("http://{addr}")]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A request to the API that names this host.
fn ask(addr: SocketAddr, method: &str, host: &str, body: &str) -> Response {
    let mut stream = connect(addr);
    let length = body.len();
    let head = format!(
        "{method} {API} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    read(&mut stream)
}

#[test]
fn deploy_status_config_and_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let file = put(dir.path(), &config("/iris", NAMES));
    let (mut server, addr) = run(&file);
    assert_eq!(post(addr, "/iris", VECTOR).body, r#"{"result":"versicolor"}"#);
    let (code, said) = remote(addr, &["status"]);
    assert!(code == 0 && said.contains("iris  /iris  RUNNING"), "{said}");
    assert!(said.contains("1 of 1 replicas, 0 queued"), "{said}");

    let file = put(dir.path(), &config("/flowers", "[a, b, c]"));
    let (code, said) = remote(addr, &["deploy", file.to_str().unwrap()]);
    assert_eq!((code, said.lines().last()), (0, Some("deployed")), "{said}");
    assert_eq!(post(addr, "/flowers", VECTOR).body, r#"{"result":"b"}"#);
    assert_eq!(post(addr, "/iris", VECTOR).status, 404);
    let (code, said) = remote(addr, &["config"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &shown["applications"][0]["route_prefix"]), (0, &Value::from("/flowers")));
    let (_, said) = remote(addr, &["status", "--json"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(shown["iris"]["deployments"]["iris"]["status"], "HEALTHY");

    let (code, said) = remote(addr, &["shutdown"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let (code, said) = remote(addr, &["status"]);
    assert!(code == 1 && said.contains("no answer from"), "{said}");
}

#[test]
fn what_cannot_be_deployed_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = put(dir.path(), &config("/iris", NAMES));
    let (_server, addr) = run(&file);
    let send_config = |body: &str| ask(addr, "PUT", "localhost", body);
    for (body, says) in [
        ("", "the body is not JSON"),
        ("[1]", "invalid type"),
        ("{}", "there is nothing to serve"),
        (r#"{"aplications": []}"#, "unknown field `aplications`"),
        (r#"{"applications": [{"import_path": "onnx:///none"}]}"#, "/none"),
        (r#"{"applications": [{"import_path": "iris:app"}]}"#, "has registered no applications"),
    ] {
        let refused = send_config(body);
        assert_eq!(refused.status, 400, "{body}: {}", refused.body);
        assert!(refused.body.contains(says), "{body}: {}", refused.body);
    }
    assert_eq!(send_config(&" ".repeat(2 << 20)).status, 413);
    assert_eq!(ask(addr, "POST", "127.0.0.1:80", "{}").status, 405);
    assert_eq!(post(addr, "/iris", VECTOR).body, r#"{"result":"versicolor"}"#);
    let (code, said) = remote(addr, &["deploy", "/none.yaml"]);
    assert!(code == 1 && said.contains("/none.yaml"), "{said}");
    // A page whose name has been pointed to this machine gets nothing.
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(ask(addr, method, "evil.example", "{}").status, 403);
    }
}

#[test]
fn the_api_needs_a_key_of_its_scope() {
    let dir = tempfile::tempdir().unwrap();
    let keys = format!(
        "http_options:\n  port: 0\n  auth:\n    keys:\n    - {{name: app, sha256: {}}}\n    \
         - {{name: ops, sha256: {}, scopes: [admin]}}\n",
        KeyHash::of(b"app"),
        KeyHash::of(b"ops")
    );
    let text = config("/iris", NAMES).replace("http_options: {port: 0}\n", &keys);
    let file = put(dir.path(), &text);
    let (mut server, addr) = run(&file);
    assert_eq!(get(addr, API).status, 401);
    assert_eq!(send(addr, "GET", API, "x-api-key: app\r\n", "").status, 403);
    let (code, said) = remote(addr, &["status"]);
    assert!(code == 1 && said.contains("401") && said.contains("send an API key"), "{said}");
    let key = dir.path().join("key");
    std::fs::write(&key, "ops\n").unwrap();
    let (code, said) = remote(addr, &["shutdown", "--key-file", key.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}
