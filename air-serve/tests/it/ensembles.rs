//! Graphs of deployments, from a file.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::client::post;
use crate::examples;
use crate::lines::Running;

const PROGRAM: &str = env!("CARGO_BIN_EXE_air-serve");

fn file(graph: &str) -> tempfile::NamedTempFile {
    let model = examples("iris_gbc.onnx");
    let text = format!(
        "http_options:\n  port: 0\napplications:\n- name: names\n  route_prefix: /names\n  import_path: onnx://{0}\n  \
         args: {{labels: [setosa, versicolor, virginica]}}\n- name: numbers\n  route_prefix: /numbers\n  \
         import_path: onnx://{0}\n- name: both\n  route_prefix: /both\n  ensemble:\n{graph}",
        model.display()
    );
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn run(file: &tempfile::NamedTempFile) -> Running {
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(file.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

fn refused(graph: &str) -> String {
    let output = Command::new(PROGRAM).arg("run").arg(file(graph).path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_graph_of_a_file_is_served_like_any_deployment() {
    let graph = "    switch:\n    - if: /vector/0\n      above: 6\n      then: numbers\n    - then:\n        \
                 parallel:\n          name: names\n          number: {split: [{weight: 1, then: numbers}]}\n          \
                 input: $input\n";
    let file = file(graph);
    let mut server = run(&file);
    let addr = server.addr();
    let answer = post(addr, "/both", r#"{"vector":[1.2,1.0,1.1,0.9]}"#);
    let expected =
        r#"{"input":{"vector":[1.2,1.0,1.1,0.9]},"name":{"result":"versicolor"},"number":{"result":1}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    assert_eq!(post(addr, "/both", r#"{"vector":[7.2,1.0,1.1,0.9]}"#).body, r#"{"result":1}"#);
    // What does not fit a step is the caller's to know.
    let wrong = post(addr, "/both", r#"{"vector":[1.2]}"#);
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    assert!(wrong.body.contains("expected a vector of 4 numbers, got 1"), "{}", wrong.body);
    let wrong = post(addr, "/both", "{\"text\":1}");
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_wrong_with_a_graph_is_told_before_it_runs() {
    for (graph, says) in [
        (
            "    sequence: [names, elsewhere]\n",
            "deployment `both` uses `elsewhere`, which is not deployed with it",
        ),
        ("    sequnce: [names]\n", ":14: `applications[2].ensemble"),
        ("    split: [{weight: many, then: names}]\n", "invalid type: string \"many\""),
        (
            "    sequence: []\n",
            "application `both`: its ensemble: a sequence, parallel, switch or split has no steps",
        ),
        ("    names\n  import_path: x\n", "it has an import_path and an ensemble: leave one of them out"),
    ] {
        let error = refused(graph);
        assert!(error.contains(says), "expected {says:?}: {error}");
    }
}
