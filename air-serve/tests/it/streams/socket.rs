//! Conversations over WebSockets.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;

use air_serve::{App, Deployment, KeyConfig, KeyHash, Scope, Server, each, run, stream_each};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Do, counter};
use crate::client::{connect, get, send};
use crate::wait::until;

const ASKED: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn open_with(addr: SocketAddr, path: &str, headers: &str) -> Result<WebSocket<TcpStream>, String> {
    use std::io::Write as _;
    let mut stream = connect(addr);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n{ASKED}{headers}\r\n").unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed inside a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    if !head.starts_with("http/1.1 101") {
        return Err(head);
    }
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    Ok(WebSocket::from_raw_socket(stream, Role::Client, None))
}

fn open(addr: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    open_with(addr, path, "").unwrap()
}

fn serve(app: App) -> Server {
    run(app.with_http(|http| http.port = 0)).unwrap()
}

fn text(socket: &mut WebSocket<TcpStream>) -> String {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What a server closes with.
fn closed(socket: &mut WebSocket<TcpStream>) -> (CloseCode, String) {
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => return (frame.code, frame.reason.to_string()),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn app() -> App {
    App::new()
        .route("/count", Deployment::generate("count", || Ok(stream_each(|of: u32| Ok((0..of).map(Ok))))))
        .route("/double", Deployment::new("double", || Ok(each(|x: f64| Ok(2.0 * x)))))
}

#[test]
fn each_text_is_a_request_and_they_are_answered_in_order() {
    let server = serve(app());
    let mut socket = open(server.addr(), "/count");
    for request in ["2", "\"two\"", "nonsense", "0", "1"] {
        socket.send(Message::text(request)).unwrap();
    }
    let said: Vec<String> = (0..8).map(|_| text(&mut socket)).collect();
    assert_eq!(said[..3], ["{\"item\":0}", "{\"item\":1}", "{\"end\":true}"]);
    assert!(said[3].contains("the JSON does not fit") && said[3].ends_with("\"status\":422}"), "{said:?}");
    assert!(said[4].contains("the body is not JSON") && said[4].ends_with("\"status\":400}"), "{said:?}");
    assert_eq!(said[5..], ["{\"end\":true}", "{\"item\":0}", "{\"end\":true}"]);
    // A route with one answer is asked in the same way.
    let mut socket = open(server.addr(), "/double");
    socket.send(Message::text("2.5")).unwrap();
    assert_eq!([text(&mut socket), text(&mut socket)], ["{\"item\":5.0}", "{\"end\":true}"]);
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    until("it is counted", || {
        server.metrics().contains("air_serve_requests_total{code=\"200\",route=\"/count\"} 3")
    });
}

#[test]
fn whoever_goes_away_is_worked_for_no_longer() {
    let (steps, deployment) = counter();
    let server = serve(App::new().route("/count", deployment));
    let mut socket = open(server.addr(), "/count");
    socket.send(Message::text("1000000")).unwrap();
    assert_eq!(steps.step(Do::Step), [1_000_000]);
    assert_eq!(text(&mut socket), "{\"item\":0}");
    drop(socket);
    until("it is dropped", || {
        let _ = steps.go.send(Do::Step);
        steps.dropped.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn what_is_too_much_is_closed_with_its_reason() {
    let (_steps, deployment) = counter();
    let app = App::new().with_http(|http| http.max_body_bytes = 100);
    let server = serve(app.route("/count", deployment));
    let mut large = open(server.addr(), "/count");
    large.send(Message::text(" ".repeat(101))).unwrap();
    assert_eq!(closed(&mut large).0, CloseCode::Size);
    let mut binary = open(server.addr(), "/count");
    binary.send(Message::binary(&b"1"[..])).unwrap();
    assert_eq!(closed(&mut binary), (CloseCode::Unsupported, "requests are texts of JSON".to_owned()));
    // The first is never answered; sixteen wait; one more is too many.
    let mut many = open(server.addr(), "/count");
    for _ in 0..18 {
        many.send(Message::text("1")).unwrap();
    }
    assert_eq!(closed(&mut many), (CloseCode::Policy, "too many requests wait".to_owned()));
    // A frame of the client's that is not masked is against the protocol.
    use std::io::Write as _;
    let mut bare = open(server.addr(), "/count");
    bare.get_mut().write_all(&[0x81, 1, b'1']).unwrap();
    assert_eq!(closed(&mut bare).0, CloseCode::Protocol);
    assert_eq!(get(server.addr(), "/-/healthz").status, 200);
}

#[test]
fn the_end_of_the_server_waits_for_the_answer_under_way() {
    let (steps, deployment) = counter();
    let server = serve(App::new().route("/count", deployment));
    let addr = server.addr();
    let mut socket = open(addr, "/count");
    let mut idle = open(addr, "/count");
    socket.send(Message::text("1")).unwrap();
    assert_eq!(steps.step(Do::Step), [1]);
    assert_eq!(text(&mut socket), "{\"item\":0}");
    let down = thread::spawn(move || server.shutdown());
    while TcpStream::connect(addr).is_ok() {
        thread::yield_now();
    }
    assert_eq!(closed(&mut idle), (CloseCode::Away, "the server is ending".to_owned()));
    // Close frames are answered when they have been read, and then the connection ends.
    assert!(matches!(idle.read(), Err(Error::ConnectionClosed)));
    steps.free();
    assert_eq!(text(&mut socket), "{\"end\":true}");
    assert_eq!(closed(&mut socket).0, CloseCode::Away);
    while socket.read().is_ok() {}
    down.join().unwrap();
}

#[test]
fn it_is_opened_only_as_it_should_be() {
    let server = serve(app());
    let addr = server.addr();
    let refused = |headers: &str, path: &str| {
        let response = send(addr, "GET", path, headers, "");
        (response.status, response.body)
    };
    let upgrade = "Upgrade: websocket\r\n";
    assert_eq!(refused(upgrade, "/count").0, 426);
    let versioned = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(refused(versioned, "/count").0, 400);
    assert_eq!(refused(ASKED, "/nowhere").0, 404);
    // A page of another server may not talk to this one, one of this may.
    let head = open_with(addr, "/count", "Origin: http://elsewhere\r\n").err().unwrap();
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert!(open_with(addr, "/count", "Origin: http://test\r\n").is_ok());
}

#[test]
fn a_key_may_be_used_no_more_often_than_elsewhere() {
    let key = "secret-key";
    let configured = KeyConfig {
        name: "it".into(),
        sha256: KeyHash::of(key.as_bytes()),
        scopes: vec![Scope::Predict],
        rate_per_s: Some(0.001),
        burst: Some(2),
    };
    let server = serve(app().with_http(|http| http.auth.keys = vec![configured]));
    let addr = server.addr();
    assert!(open_with(addr, "/count", "").err().unwrap().starts_with("http/1.1 401"));
    let mut socket = open_with(addr, "/count", &format!("X-Api-Key: {key}\r\n")).unwrap();
    socket.send(Message::text("0")).unwrap();
    socket.send(Message::text("0")).unwrap();
    assert_eq!(text(&mut socket), "{\"end\":true}");
    let said = text(&mut socket);
    assert!(said.ends_with("\"status\":429}"), "{said}");
}
