//! The load generator, against our own server and against servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use air_serve::load::{LoadConfig, LoadError, LoadReport};
use air_serve::{App, Deployment, Server, each, load, run};

fn doubling() -> Server {
    let deployment = Deployment::new("double", || Ok(each(|x: f64| Ok(2.0 * x))));
    run(App::new().with_http(|http| http.port = 0).route("/double", deployment)).unwrap()
}

/// What a server of the test does with a request.
#[derive(Clone, Copy)]
enum Does {
    Answer(&'static str),
    AnswerAndClose(&'static str),
    Close,
    Nothing,
}

/// A server that does that with every request on every connection. Its threads end with the process.
fn server(does: Does) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            if matches!(does, Does::Nothing) {
                silent.push(stream);
            } else {
                thread::spawn(move || attend(stream, does));
            }
        }
    });
    addr
}

fn attend(stream: TcpStream, does: Does) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        match does {
            Does::Answer(bytes) => reader.get_mut().write_all(bytes.as_bytes()).unwrap(),
            Does::AnswerAndClose(bytes) => return reader.get_mut().write_all(bytes.as_bytes()).unwrap(),
            Does::Close | Does::Nothing => return,
        }
    }
}

/// So many requests, all but at once, over so many connections.
fn burst(addr: SocketAddr, path: &str, count: u64, connections: usize) -> LoadConfig {
    let mut config = LoadConfig::new(format!("http://{addr}{path}"));
    config.rate = 100_000.0;
    config.count = Some(count);
    config.connections = connections;
    config
}

fn errors(report: &LoadReport) -> Vec<(&str, u64)> {
    report.errors.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count)).collect()
}

#[test]
fn every_request_is_sent_once_and_its_answer_checked() {
    let server = doubling();
    let mut config = burst(server.addr(), "/double", 3_000, 8);
    config.body = b"21".to_vec();
    config.expect = Some(b"42.0".to_vec());
    let report = load::run(&config).unwrap();
    assert_eq!((report.scheduled, report.answered, report.ok), (3_000, 3_000, 3_000));
    assert_eq!(errors(&report), []);
    assert_eq!(report.statuses.keys().collect::<Vec<_>>(), [&200]);
    let counted = "air_serve_requests_total{code=\"200\",route=\"/double\"} 3000\n";
    assert!(server.metrics().contains(counted), "{}", server.metrics());

    config.expect = Some(b"43.0".to_vec());
    let report = load::run(&config).unwrap();
    assert_eq!((report.answered, report.ok), (3_000, 0));
    assert_eq!(errors(&report), [("wrong_answer", 3_000)]);
}

#[test]
fn a_request_that_waits_for_a_connection_counts_from_when_it_was_due() {
    let server = doubling();
    let mut config = burst(server.addr(), "/double", 50, 1);
    config.body = b"1".to_vec();
    let report = load::run(&config).unwrap();
    assert_eq!(report.ok, 50);
    // One after the other on one connection: the last one is answered no earlier than all have been served.
    let last_due_ms = 49.0 / 100.0;
    let served_ms = 50.0 * report.service_ms.mean - last_due_ms - 0.1;
    assert!(report.latency_ms.max >= served_ms, "{report}");
    assert!(report.latency_ms.p50 >= report.service_ms.p50, "{report}");
}

#[test]
fn other_statuses_are_answers_but_not_ok() {
    let server = doubling();
    for (path, body, status) in [("/none", "1", 404), ("/double", "\"x\"", 422), ("/double", "tru", 400)] {
        let mut config = burst(server.addr(), path, 20, 2);
        config.body = body.as_bytes().to_vec();
        let report = load::run(&config).unwrap();
        assert_eq!((report.answered, report.ok), (20, 0));
        assert_eq!(report.statuses[&status].count, 20);
    }
}

#[test]
fn a_large_body_goes_out_in_parts() {
    let deployment = Deployment::new("length", || Ok(each(|text: String| Ok(text.len()))));
    let server = run(App::new().with_http(|http| http.port = 0).route("/length", deployment)).unwrap();
    let mut config = burst(server.addr(), "/length", 4, 2);
    config.body = format!("\"{}\"", "x".repeat(10_000_000)).into_bytes();
    config.expect = Some(b"10000000".to_vec());
    config.timeout_s = 60.0;
    let report = load::run(&config).unwrap();
    assert_eq!((report.ok, errors(&report)), (4, vec![]), "{report}");
}

#[test]
fn chunked_answers_and_connections_that_close_are_read() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde";
    let endless = "HTTP/1.1 200 OK\r\n\r\nabcde";
    for does in [Does::Answer(chunked), Does::AnswerAndClose(closing), Does::AnswerAndClose(endless)] {
        let mut config = burst(server(does), "/", 30, 3);
        config.expect = Some(b"abcde".to_vec());
        let report = load::run(&config).unwrap();
        assert_eq!((report.ok, errors(&report)), (30, vec![]), "{report}");
    }
}

#[test]
fn what_goes_wrong_is_counted_by_its_kind() {
    let report = load::run(&burst(server(Does::Close), "/", 12, 3)).unwrap();
    assert_eq!((report.answered, errors(&report)), (0, vec![("closed", 12)]));
    let report = load::run(&burst(server(Does::Answer("220 ready\r\n\r\n")), "/", 12, 3)).unwrap();
    assert_eq!((report.answered, errors(&report)), (0, vec![("malformed", 12)]));
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc";
    let report = load::run(&burst(server(Does::AnswerAndClose(cut)), "/", 12, 3)).unwrap();
    assert_eq!((report.answered, errors(&report)), (0, vec![("closed", 12)]));

    // Both connections are taken by requests that are never answered, until the time of the others is up too.
    let mut config = burst(server(Does::Nothing), "/", 5, 2);
    config.timeout_s = 0.02;
    let report = load::run(&config).unwrap();
    assert_eq!(report.answered, 0);
    assert!(report.errors["timeout"] >= 2, "{report}");
    assert_eq!(report.errors["timeout"] + report.errors["not_sent"], 5, "{report}");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = load::run(&burst(free, "/", 1, 1)).unwrap_err();
    assert!(matches!(error, LoadError::Connect { number: 1, addr, .. } if addr == free), "{error}");
}

fn output(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_air-serve")).arg("load").args(args).output().unwrap()
}

#[test]
fn the_command_prints_text_and_json() {
    let server = doubling();
    let url = format!("http://{}/double", server.addr());
    let common = [url.as_str(), "--rate", "5000", "--count", "100", "--connections", "4", "--body", "2"];
    let text = output(&common);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("100 requests due at 5000 a second over 4 connections"), "{text}");
    assert!(text.contains("ok        100 in") && text.contains("errors    none"), "{text}");
    let json = output(&[&common[..], &["--json", "--header", "x-request-id: load"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["ok"], &report["errors"]["timeout"]), (&100.into(), &0.into()));
    assert_eq!(report["statuses"]["200"]["count"], 100);
    for kind in ["latency_ms", "service_ms"] {
        let at = |name: &str| report[kind][name].as_f64().unwrap();
        assert!(at("p50") > 0.0 && at("p50") <= at("p99") && at("p99") <= at("max"), "{report}");
    }
}

#[test]
fn the_command_says_what_is_wrong() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}/");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["http://127.0.0.1:1/", "--rate", "1e9"], 1, "at most 200000 requests a second"),
        (&["http://127.0.0.1:1/", "--duration", "1e9"], 1, "at most 3600 s"),
        (&["http://192.0.2.1/"], 1, "is not this machine"),
        (&["http://127.0.0.1:1/", "--body-file", "/nowhere/at/all"], 1, "cannot read /nowhere/at/all"),
        (&["http://127.0.0.1:1/", "--header", "no colon"], 2, "write NAME: VALUE"),
        (&[&nobody], 1, "cannot open connection 1"),
        (&["127.0.0.1:1/"], 1, "is not a URL"),
        (&[], 2, "URL"),
    ];
    for (args, code, says) in cases {
        let output = output(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
