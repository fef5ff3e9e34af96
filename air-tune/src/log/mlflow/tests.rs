#![allow(clippy::unwrap_used)]
//! Against a server of a few lines, over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use super::*;
use crate::values::Values;

/// A server that answers as MLflow does, and remembers what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// Answers, by what comes after `/api/2.0/mlflow/` and how many requests came before: a status and a body.
type Rule = fn(&str, usize) -> (u16, Value);

fn like_mlflow(path: &str, asked: usize) -> (u16, Value) {
    match path {
        "runs/create" => (200, json!({"run": {"info": {"run_id": format!("run{asked}")}}})),
        "experiments/create" => (200, json!({"experiment_id": "12"})),
        path if path.starts_with("experiments/get-by-name") => {
            (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}))
        }
        _ => (200, json!({})),
    }
}

impl Server {
    fn start(rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&asked);
        // Ends with the test's process; every connection has one request.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                answer(stream, rule, &seen);
            }
        });
        Self { address, asked }
    }

    fn config(&self) -> MlflowConfig {
        MlflowConfig {
            patience: Duration::from_mins(1),
            ..MlflowConfig::at(format!("http://{}/", self.address))
        }
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().iter().map(|(path, _)| path.clone()).collect()
    }

    fn bodies(&self, of: &str) -> Vec<Value> {
        self.asked.lock().iter().filter(|(path, _)| path == of).map(|(_, body)| body.clone()).collect()
    }
}

fn answer(stream: TcpStream, rule: Rule, asked: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let target = first.split(' ').nth(1).unwrap_or_default();
    let path = target.strip_prefix("/api/2.0/mlflow/").unwrap_or(target).to_owned();
    let mut asked = asked.lock();
    let (status, said) = rule(&path, asked.len());
    asked.push((path, serde_json::from_slice(&body).unwrap_or_default()));
    let said = said.to_string();
    let _ = write!(
        &stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}",
        said.len()
    );
}

fn trial(number: TrialId, reports: u64) -> Vec<Event> {
    let config = serde_json::from_value(json!({"lr": 0.1})).unwrap();
    let mut events = vec![Event::Started { trial: number, attempt: 1, config }];
    for iteration in 1..=reports {
        let values = Values::new(&[("loss", iteration as f64)]).unwrap();
        events.push(Event::Reported { trial: number, iteration, value: None, values, seconds: 0.0 });
    }
    let end = crate::controller::End {
        status: crate::Status::Complete,
        value: None,
        iterations: reports,
        seconds: 0.0,
        stop: None,
        cause: None,
    };
    let point = crate::space::Assignment::new();
    let result = crate::TrialResult::new(number, &point, end, 1, Values::default(), None);
    events.push(Event::Ended(result));
    events
}

#[test]
fn what_happened_arrives_in_few_requests() {
    let (server, dir) = (Server::start(like_mlflow), tempfile::tempdir().unwrap());
    let mut log = Mlflow::start(server.config(), "a study", Some(dir.path())).unwrap();
    for number in 0..3 {
        log.on_events(&trial(number, 1500)).unwrap();
    }
    assert_eq!(log.conclude(), None);
    let paths = server.paths();
    assert_eq!(paths[..2], ["experiments/get-by-name?experiment_name=a%20study", "experiments/create"]);
    assert_eq!(server.bodies("experiments/create"), [json!({"name": "a study"})]);
    let batches = server.bodies("runs/log-batch");
    let metrics: usize = batches.iter().map(|body| body["metrics"].as_array().unwrap().len()).sum();
    assert_eq!((metrics, server.bodies("runs/create").len()), (4500, 3));
    assert!(batches.iter().all(|body| body["metrics"].as_array().unwrap().len() <= 1000));
    assert!(server.bodies("runs/update").iter().all(|body| body["status"] == "FINISHED"));
    let book = read_book(&dir.path().join("mlflow.jsonl")).unwrap();
    assert_eq!(book.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    // Another process goes on with the same runs.
    let mut log = Mlflow::start(server.config(), "a study", Some(dir.path())).unwrap();
    log.on_events(&trial(1, 1)).unwrap();
    assert_eq!(log.conclude(), None);
    let last = server.bodies("runs/update").pop().unwrap();
    assert_eq!(last["run_id"], book[&1]);
    assert_eq!(server.bodies("runs/create").len(), 3);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_what_it_refuses_is_told() {
    fn rule(path: &str, asked: usize) -> (u16, Value) {
        match (path, asked) {
            (_, 0) => (503, json!("starting")),
            ("runs/log-batch", _) => (400, json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})),
            _ => like_mlflow(path, asked),
        }
    }
    let server = Server::start(rule);
    let mut log = Mlflow::start(server.config(), "study", None).unwrap();
    log.on_events(&trial(0, 7)).unwrap();
    let lacks = log.conclude().unwrap();
    let uri = &log.config.uri;
    assert_eq!(
        lacks,
        format!(
            "MLflow at {uri} lacks 7 metrics, 1 parameters and the begin or the end of 0 runs: runs/log-batch answers 400 Bad Request: no"
        )
    );
    let paths = server.paths();
    assert_eq!(paths[0], paths[1]);
    assert_eq!(server.bodies("runs/update").len(), 1, "the run ends all the same");
}

#[test]
fn a_dead_server_costs_a_warning_that_says_what_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = MlflowConfig { queue: 10, patience: Duration::ZERO, ..MlflowConfig::at(&uri) };
    let mut log = Mlflow::start(config, "study", None).unwrap();
    for number in 0..2 {
        log.on_events(&trial(number, 30)).unwrap();
    }
    let lacks = log.conclude().unwrap();
    let expected =
        format!("MLflow at {uri} lacks 60 metrics, 2 parameters and the begin or the end of 2 runs: ");
    assert!(lacks.starts_with(&expected), "{lacks}");
    assert_eq!(log.conclude(), None, "it is told once");
}

#[test]
fn waits_grow_to_half_a_minute() {
    let seconds: Vec<f64> = (1..=9).map(|failures| send::wait_after(failures).as_secs_f64()).collect();
    assert_eq!(seconds, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    assert_eq!(send::wait_after(u32::MAX), Duration::from_secs(30));
}

#[test]
fn fields_out_of_range_are_named() {
    let at = MlflowConfig::at;
    for (config, message) in [
        (at("localhost:5000"), "`mlflow.uri`: `localhost:5000` is no address: expected http://HOST:PORT"),
        (at("http://"), "`mlflow.uri`: `http://` is no address: expected http://HOST:PORT"),
        (MlflowConfig { queue: 0, ..MlflowConfig::default() }, "`mlflow.queue`: must be at least 1"),
        (
            MlflowConfig { timeout: Duration::ZERO, ..MlflowConfig::default() },
            "`mlflow.timeout`: must be more than nothing",
        ),
    ] {
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }
}
