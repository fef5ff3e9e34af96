//! Reading over HTTP from a small server on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::{example, session, told};

/// Serves one file with HEAD, GET and byte ranges, until the test's process ends.
pub fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = Arc::new(body);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let body = body.clone();
            std::thread::spawn(move || while answer(&connection, &body).is_some() {});
        }
    });
    format!("http://{address}")
}

fn answer(mut connection: &TcpStream, body: &[u8]) -> Option<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next()?.ok()?;
    let mut range = None;
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            let (from, to) = value.trim().split_once('-')?;
            let to = to.parse().unwrap_or(body.len() - 1).min(body.len() - 1);
            range = Some(from.parse().map_or(body.len() - to..body.len(), |from: usize| from..to + 1));
        }
    }
    let found = !request.contains("missing");
    let part = if found { &body[range.clone().unwrap_or(0..body.len())] } else { b"" };
    let status = if !found {
        "404 Not Found"
    } else if range.is_some() {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    let range = range
        .map(|r| format!("Content-Range: bytes {}-{}/{}\r\n", r.start, r.end - 1, body.len()))
        .unwrap_or_default();
    let length = if request.starts_with("HEAD") { body.len() } else { part.len() };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nETag: \"x\"\r\n{range}\r\n"
    );
    connection.write_all(head.as_bytes()).ok()?;
    if !request.starts_with("HEAD") {
        connection.write_all(part).ok()?;
    }
    Some(())
}

#[test]
fn csv_and_parquet_over_http() {
    let session = session();
    let url = serve(std::fs::read(example("iris.csv")).unwrap());
    assert_eq!(session.read_csv(format!("{url}/data/iris.csv")).unwrap().count().unwrap(), 150);
    let url = serve(std::fs::read(example("iris.parquet")).unwrap());
    let ds = session.read_parquet(format!("{url}/iris.parquet")).unwrap();
    assert_eq!(ds.to_batch().unwrap().num_rows(), 150);
    let error = session.read_parquet(format!("{url}/missing.parquet")).unwrap_err();
    assert_eq!(told(&error), format!("no file at {url}/missing.parquet"));
}
