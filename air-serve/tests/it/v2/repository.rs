//! Models that come and go while the server runs.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use air_serve::{App, DeploymentConfig, DeploymentState, DeploymentStatus, Server, run};
use serde_json::{Value, json};

use crate::client::{connect, get, post, read, write};
use crate::{examples, fixtures, lines};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

/// A repository with `iris` version 3, `mlp`, and `broken`.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&examples("iris_gbc.onnx"), &dir.path().join("iris/3/model.onnx"));
    copy(&fixtures("mlp_three.onnx"), &dir.path().join("mlp.onnx"));
    std::fs::write(dir.path().join("broken.onnx"), "no model").unwrap();
    dir
}

fn serve(dir: &Path) -> Server {
    run(App::new().with_http(|http| http.port = 0).repository(dir, DeploymentConfig::default())).unwrap()
}

fn index(server: &Server, body: &str) -> Vec<(String, String, String)> {
    let response = post(server.addr(), "/v2/repository/index", body);
    assert_eq!(response.status, 200, "{}", response.body);
    let index: Vec<Value> = serde_json::from_str(&response.body).unwrap();
    let text = |model: &Value, key: &str| model[key].as_str().unwrap().to_owned();
    index.iter().map(|model| (text(model, "name"), text(model, "version"), text(model, "state"))).collect()
}

fn line(name: &str, version: &str, state: &str) -> (String, String, String) {
    (name.to_owned(), version.to_owned(), state.to_owned())
}

fn infer_body() -> String {
    json!({ "inputs": [{ "name": "X", "datatype": "FP32", "shape": [1, 4], "data": [1.2, 1.0, 1.1, 0.9] }] })
        .to_string()
}

#[test]
fn all_models_are_loaded_at_the_start_and_a_broken_one_is_told_of() {
    let dir = directory();
    let server = serve(dir.path());
    let addr = server.addr();
    assert_eq!(
        index(&server, ""),
        [line("broken", "1", "UNAVAILABLE"), line("iris", "3", "READY"), line("mlp", "1", "READY")]
    );
    assert_eq!(index(&server, r#"{"ready": true}"#), [line("iris", "3", "READY"), line("mlp", "1", "READY")]);
    let all = post(addr, "/v2/repository/index", "").body;
    assert!(all.contains("not an ONNX model") && all.contains("broken.onnx"), "{all}");
    assert_eq!(get(addr, "/v2/models/iris/versions/3/ready").status, 200);
    assert_eq!(get(addr, "/v2/models/iris/versions/1").status, 404);
    assert_eq!(get(addr, "/v2/models/broken").status, 404);
    let answer: Value =
        serde_json::from_str(&post(addr, "/v2/models/iris/infer", &infer_body()).body).unwrap();
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["data"]), (&json!("3"), &json!([1])));
    assert!(get(addr, "/v2").body.contains("model_repository"));
}

#[test]
fn its_models_are_in_the_status_while_they_are_served() {
    let dir = directory();
    let server = serve(dir.path());
    let shown = || -> Vec<(String, String, DeploymentState)> {
        let status = server.status();
        let models = status.applications.get("repository").map(|it| it.deployments.clone());
        let line = |(name, it): (String, DeploymentStatus)| (name, it.version, it.status);
        models.unwrap_or_default().into_iter().map(line).collect()
    };
    let line = |name: &str, version: &str| (name.to_owned(), version.to_owned(), DeploymentState::Healthy);
    assert_eq!(shown(), [line("iris", "3"), line("mlp", "1")]);
    let page: Value = serde_json::from_str(&get(server.addr(), "/-/status").body).unwrap();
    assert_eq!(page["applications"]["repository"]["deployments"]["iris"]["replicas"][0]["name"], "iris#0");
    assert_eq!(page["applications"]["repository"]["status"], "RUNNING");
    assert_eq!(page["applications"]["default"]["deployments"], json!({}));
    let unload = |name: &str| post(server.addr(), &format!("/v2/repository/models/{name}/unload"), "{}");
    assert_eq!(unload("iris").status, 200);
    assert_eq!(shown(), [line("mlp", "1")]);
    assert_eq!(unload("mlp").status, 200);
    assert!(!server.status().applications.contains_key("repository"));
}

#[test]
fn nothing_is_logged_of_models_that_come_and_go_but_that_they_do() {
    let dir = directory();
    std::fs::remove_file(dir.path().join("broken.onnx")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-serve"));
    command.arg("run").arg(examples("iris_gbc.onnx")).args(["--route", "/flowers", "--port", "0"]);
    command.args(["--log-format", "json", "--repository"]);
    command.arg(dir.path()).env_remove("AIR_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = lines::Running(command.spawn().unwrap());
    let addr = server.addr();
    for verb in ["unload", "load", "load", "unload"] {
        for model in ["iris", "mlp"] {
            let path = format!("/v2/repository/models/{model}/{verb}");
            assert_eq!(post(addr, &path, "{}").status, 200);
        }
    }
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["level"] == "INFO"), "{text}");
    let count = |what: &str| lines.iter().filter(|line| line["message"] == what).count();
    assert_eq!((count("loaded"), count("unloaded")), (6, 4), "{text}");
}

#[test]
fn models_are_loaded_loaded_anew_and_unloaded() {
    let dir = directory();
    let server = serve(dir.path());
    let addr = server.addr();
    let load = |name: &str| post(addr, &format!("/v2/repository/models/{name}/load"), "{}");
    let unload = |name: &str| post(addr, &format!("/v2/repository/models/{name}/unload"), "{}");
    assert_eq!(unload("mlp").status, 200);
    assert_eq!(get(addr, "/v2/models/mlp").status, 404);
    assert!(
        post(addr, "/v2/repository/index", "").body.contains(r#""state":"UNAVAILABLE","reason":"unloaded""#)
    );
    assert_eq!(unload("mlp").status, 200, "there is nothing left to do");
    assert_eq!(load("mlp").status, 200);
    assert_eq!(get(addr, "/v2/models/mlp/ready").status, 200);
    // Mended, the broken one can be loaded.
    let broken = load("broken");
    assert_eq!(broken.status, 400, "{}", broken.body);
    assert!(
        broken.body.contains("broken.onnx") && broken.body.contains("not an ONNX model"),
        "{}",
        broken.body
    );
    copy(&fixtures("mlp_three.onnx"), &dir.path().join("broken.onnx"));
    assert_eq!(load("broken").status, 200);
    assert_eq!(get(addr, "/v2/models/broken/ready").status, 200);
    // A new version; and should it be broken, the one before stays.
    copy(&examples("iris_gbc.onnx"), &dir.path().join("iris/4/model.onnx"));
    assert_eq!(load("iris").status, 200);
    assert_eq!(get(addr, "/v2/models/iris/versions/4").status, 200);
    std::fs::write(dir.path().join("iris/4/model.onnx"), "no model").unwrap();
    assert_eq!(load("iris").status, 400);
    assert_eq!(post(addr, "/v2/models/iris/infer", &infer_body()).status, 200);
    for name in ["none", "..", "%2e%2e%2fmlp", "a%2fb"] {
        assert_eq!(load(name).status, 404, "{name}");
        assert_eq!(unload(name).status, 404, "{name}");
    }
}

#[test]
fn a_name_in_use_by_a_deployment_stays_its_own() {
    let dir = directory();
    let app = super::app().repository(dir.path(), DeploymentConfig::default());
    let server = run(app).unwrap();
    let addr = server.addr();
    assert_eq!(get(addr, "/v2/models/iris/versions/1").status, 200);
    for verb in ["load", "unload"] {
        let refused = post(addr, &format!("/v2/repository/models/iris/{verb}"), "");
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("that of a deployment"), "{}", refused.body);
    }
    assert!(index(&server, "").contains(&line("echo", "1", "READY")));
}

#[test]
fn no_request_fails_while_its_model_is_loaded_anew() {
    let dir = directory();
    let server = serve(dir.path());
    let addr = server.addr();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let stopped = stopped.clone();
                scope.spawn(move || {
                    let mut stream = connect(addr);
                    let mut answered = 0;
                    while stopped.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                        write(&mut stream, "POST", "/v2/models/iris/infer", "", infer_body());
                        let response = read(&mut stream);
                        assert_eq!(response.status, 200, "{}", response.body);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(post(addr, "/v2/repository/models/iris/load", "").status, 200);
        }
        drop(stop);
        let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(answered > 0);
    });
}

#[test]
fn loads_of_one_model_at_a_time_are_shared() {
    let dir = directory();
    let server = serve(dir.path());
    let addr = server.addr();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(move || {
                assert_eq!(post(addr, "/v2/repository/models/mlp/load", "").status, 200);
            });
        }
    });
    assert_eq!(get(addr, "/v2/models/mlp/ready").status, 200);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_a_server_with_models_ends() {
    let nowhere =
        App::new().with_http(|http| http.port = 0).repository("/no/such/place", DeploymentConfig::default());
    let error = run(nowhere).unwrap_err().to_string();
    assert!(error.contains("/no/such/place"), "{error}");
    let dir = directory();
    let server = serve(dir.path());
    let (ended, end) = crossbeam_channel::bounded(1);
    thread::spawn(move || {
        drop(server);
        let _ = ended.send(());
    });
    end.recv_timeout(Duration::from_secs(30)).expect("the server did not end");
}
