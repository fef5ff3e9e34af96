//! What may be configured around every request: browsers of other origins, compression.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use air_serve::{App, Deployment, HttpConfig, Server, each, run};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::client::{connect, post, send};

fn echo(change: impl FnOnce(&mut HttpConfig)) -> Server {
    let app = App::new().with_http(|http| http.port = 0).with_http(change);
    run(app.route("/echo", Deployment::new("echo", || Ok(each(|x: serde_json::Value| Ok(x)))))).unwrap()
}

#[test]
fn a_page_of_an_allowed_origin_may_call() {
    let server = echo(|http| {
        http.cors.allow_origins = vec!["https://a.example".into()];
        let app = "[[keys]]\nname = \"app\"\nsha256 = \"e9b5ad1c2cdbcaa4b6a2b1ca84b7d3eb9bb6d9d9a0e2c0bb6d4cd1a8e9a2a000\"";
        http.auth = toml::from_str(app).unwrap();
    });
    let asks = |origin: &str| {
        let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        send(server.addr(), "OPTIONS", "/echo", &headers, "")
    };
    let yes = asks("https://a.example");
    assert_eq!((yes.status, yes.header("access-control-allow-origin")), (204, Some("https://a.example")));
    assert_eq!(asks("https://b.example").status, 403);
    // The page sees that it lacks a key, instead of nothing.
    let refused = send(server.addr(), "POST", "/echo", "Origin: https://a.example\r\n", "1");
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://a.example"))
    );
    assert_eq!(refused.header("access-control-expose-headers"), Some("x-request-id, retry-after"));
    let stranger = send(server.addr(), "GET", "/-/healthz", "Origin: https://b.example\r\n", "");
    assert_eq!((stranger.status, stranger.header("access-control-allow-origin")), (200, None));
    assert_eq!(stranger.header("vary"), Some("origin"));
    // Where nothing is configured nothing is added.
    let plain = send(echo(|_| {}).addr(), "POST", "/echo", "Origin: https://a.example\r\n", "1");
    assert_eq!((plain.status, plain.header("access-control-allow-origin")), (200, None));
}

/// Sends bytes; gives the head and the bytes of the body.
fn exchange(addr: SocketAddr, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = connect(addr);
    let length = body.len();
    write!(
        stream,
        "POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(answer[..end].into()).unwrap().to_lowercase(), answer[end..].into())
}

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(9));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn large_answers_are_compressed_for_who_takes_it() {
    let server = echo(|http| http.compression.gzip = true);
    let addr = server.addr();
    for size in [2_000, 300_000] {
        let body = format!("\"{}\"", "x".repeat(size));
        let (head, packed) = exchange(addr, "Accept-Encoding: br, gzip\r\n", body.as_bytes());
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", packed.len())), "{head}");
        assert!(packed.len() < size / 10);
        let mut plain = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut plain).unwrap();
        assert!(plain == body);
        let (head, plain) = exchange(addr, "Accept-Encoding: gzip;q=0\r\n", body.as_bytes());
        assert!(!head.contains("content-encoding") && head.contains("vary: accept-encoding"), "{head}");
        assert!(plain == body.as_bytes());
    }
    let (head, plain) = exchange(addr, "Accept-Encoding: gzip\r\n", b"[1]");
    assert!(!head.contains("content-encoding") && plain == b"[1]", "{head}");
    let long = format!("\"{}\"", "x".repeat(2000));
    assert_eq!(
        exchange(echo(|_| {}).addr(), "Accept-Encoding: gzip\r\n", long.as_bytes()).1,
        long.as_bytes()
    );
}

#[test]
fn compressed_bodies_are_taken_within_the_limit() {
    let server = echo(|http| {
        http.compression.gzip = true;
        http.max_body_bytes = 100_000;
    });
    let addr = server.addr();
    let packed = "Content-Encoding: gzip\r\n";
    assert_eq!(exchange(addr, packed, &gzip(b"[1, 2]")).1, b"[1,2]");
    let (head, body) = exchange(addr, packed, b"[1, 2]");
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("the body is not gzip"));
    // 50 MB of zeros in 50 kB.
    let (head, body) = exchange(addr, packed, &gzip(&vec![b'0'; 50_000_000]));
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("unpacked"));
    assert_eq!(post(addr, "/echo", "1").body, "1");
}

#[test]
fn without_compression_nothing_is_unpacked() {
    let (head, _) = exchange(echo(|_| {}).addr(), "Content-Encoding: gzip\r\n", &gzip(b"[1, 2]"));
    assert!(head.starts_with("http/1.1 400"), "{head}");
}
