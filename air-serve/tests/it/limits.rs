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
    // Too little to tell HTTP/1.1 from HTTP/2.
    let mut letter = connect(server.addr());
    letter.write_all(b"P").unwrap();
    for mut stream in [slow, silent, answered, letter] {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "the end, and no reset");
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

#[test]
fn a_head_of_too_many_or_too_large_headers_is_431() {
    let server = echo(|http| {
        http.max_headers = 20;
        http.max_header_bytes = 8192;
    });
    let headers = |count: usize, size: usize| {
        let headers: Vec<_> = (0..count).map(|n| format!("X-{n}: {}\r\n", "y".repeat(size))).collect();
        headers.concat()
    };
    // Host, Connection and Content-Length are three more.
    assert_eq!(send(server.addr(), "POST", "/echo", &headers(17, 10), "1").status, 200);
    assert_eq!(send(server.addr(), "POST", "/echo", &headers(18, 10), "1").status, 431);
    assert_eq!(send(server.addr(), "POST", "/echo", &headers(1, 9000), "1").status, 431);
    assert_eq!(send(server.addr(), "POST", "/echo", &headers(1, 7000), "1").status, 200);
}

#[test]
fn a_head_that_is_no_http_is_told_so() {
    let server = echo(|_| {});
    for head in [
        "GET /echo HTTP/9.9\r\n\r\n",
        "GET /ec\u{1}ho HTTP/1.1\r\n\r\n",
        "G{T /echo HTTP/1.1\r\nX Y: 1\r\n\r\n",
    ] {
        let mut stream = connect(server.addr());
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer:?}");
    }
    assert_eq!(post(server.addr(), "/echo", "1").body, "1");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let server = echo(|http| http.write_timeout_s = 0.2);
    let mut stream = connect(server.addr());
    // More than the buffers of a connection over loopback hold.
    let body = format!("\"{}\"", "x".repeat(12 << 20));
    crate::client::write(&mut stream, "POST", "/echo", "", &body);
    let until = Instant::now() + Duration::from_mins(1);
    while !server.metrics().contains("air_serve_connections 0") {
        assert!(Instant::now() < until, "it is never cut off");
        std::thread::yield_now();
    }
    drop(stream);
    // One that reads slowly, but reads, is not.
    let mut stream = connect(server.addr());
    crate::client::write(&mut stream, "POST", "/echo", "", &body);
    assert_eq!(crate::client::read(&mut stream).body, body);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for (change, says) in [
        ((|http| http.max_header_bytes = 100) as fn(&mut HttpConfig), "max_header_bytes is 100"),
        (|http| http.max_headers = 0, "max_headers is 0"),
        (|http| http.write_timeout_s = 0.0, "write_timeout_s is 0"),
        (|http| http.access_log = 2.0, "access_log is 2"),
        (|http| http.access_log = f64::NAN, "access_log is NaN"),
        (|http| http.compression.level = 0, "compression.level is 0"),
        (|http| http.cors.allow_origins = vec!["x".into()], "is not an origin"),
    ] {
        let mut http = HttpConfig::default();
        change(&mut http);
        let error = http.validate().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
