//! What a client may not do: too much, too slowly.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use air_serve::{App, Deployment, HttpConfig, Server, each, run};

use crate::client::{connect, post, send};

fn echo(change: impl FnOnce(&mut HttpConfig)) -> Server {
    let app = App::new().with_http(|http| http.port = 0).with_http(change);
    run(app.route("/echo", Deployment::new("echo", || Ok(each(|x: serde_json::Value| Ok(x)))))).unwrap()
}

#[test]
fn a_body_over_the_limit_is_413_announced_or_not() {
    let server = echo(|http| http.max_body_bytes = 1000);
    let long = format!("\"{}\"", "x".repeat(2000));
    assert_eq!(post(server.addr(), "/echo", &long).status, 413);
    let mut stream = connect(server.addr());
    let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    write!(
        stream,
        "POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    )
    .unwrap();
    let response = crate::client::read(&mut stream);
    assert_eq!(response.status, 413, "{}", response.body);
    assert_eq!(post(server.addr(), "/echo", "1").body, "1");
}

#[test]
fn clients_that_never_finish_a_head_are_cut_off() {
    let server = echo(|http| http.header_timeout_s = 0.3);
    let mut answered = connect(server.addr());
    crate::client::write(&mut answered, "POST", "/echo", "", "1");
    crate::client::read(&mut answered);
    let mut slow = connect(server.addr());
    slow.write_all(b"POST /echo HTTP/1.1\r\nHost: t\r\nX-Slow: ").unwrap();
    let silent = connect(server.addr());
    for mut stream in [slow, silent, answered] {
        let start = Instant::now();
        // Ends when the server closes; a reset is as good.
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(post(server.addr(), "/echo", "1").body, "1");
}

#[test]
fn a_client_that_sends_its_body_forever_is_408() {
    let server = echo(|http| http.body_timeout_s = 0.3);
    let mut slow = connect(server.addr());
    slow.write_all(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n[1,").unwrap();
    assert_eq!(crate::client::read(&mut slow).status, 408);
}

#[test]
fn nonsense_does_not_disturb_the_server() {
    let server = echo(|_| {});
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", &[0xff; 4096]] {
        let mut stream = connect(server.addr());
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let head = "X: ".to_owned() + &"y".repeat(600_000) + "\r\n";
    let mut stream = connect(server.addr());
    let _ = write!(stream, "GET /echo HTTP/1.1\r\n{head}\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    // Nested deeper than any honest input; serde_json stops at 128.
    assert_eq!(post(server.addr(), "/echo", &"[".repeat(100_000)).status, 400);
    assert_eq!(send(server.addr(), "POST", "/echo", "", "[1, 2]").body, "[1,2]");
}

#[test]
fn more_connections_than_allowed_wait_their_turn() {
    let server = echo(|http| {
        http.max_connections = 1;
        http.threads = 1;
    });
    let mut first = connect(server.addr());
    crate::client::write(&mut first, "POST", "/echo", "", "1");
    assert_eq!(crate::client::read(&mut first).body, "1");
    let mut second = connect(server.addr());
    crate::client::write(&mut second, "POST", "/echo", "", "2");
    second.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(second.read(&mut [0]).is_err(), "it was answered beside the first");
    drop(first);
    second.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    assert_eq!(crate::client::read(&mut second).body, "2");
}
