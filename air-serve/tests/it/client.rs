//! An HTTP client that says exactly what it is told, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    /// As text; what is not UTF-8 is replaced.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

/// Sends one request on a connection of its own.
pub fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Response {
    let mut stream = connect(addr);
    write(&mut stream, method, path, &format!("Connection: close\r\n{headers}"), body);
    read(&mut stream)
}

pub fn get(addr: SocketAddr, path: &str) -> Response {
    send(addr, "GET", path, "", "")
}

pub fn post(addr: SocketAddr, path: &str, body: &str) -> Response {
    send(addr, "POST", path, "Content-Type: application/json\r\n", body)
}

pub fn write(stream: &mut impl Write, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) {
    let body = body.as_ref();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// Reads one response; the connection can be used again.
pub fn read(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "closed inside a head: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut response =
        Response { status: head[9..12].parse().unwrap(), head, body: String::new(), bytes: Vec::new() };
    let length: usize = response.header("content-length").unwrap_or("0").parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    response.body = String::from_utf8_lossy(&body).into_owned();
    response.bytes = body;
    response
}
