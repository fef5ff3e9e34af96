//! HTTP/1.1 and HTTP/2 on one port: a connection's first bytes tell, and are left where they are.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    /// Without a negotiation before it: what gRPC clients do.
    Http2,
}

/// The beginning of HTTP/2's preface. No method of HTTP/1.1 begins like it.
const PREFACE: &[u8] = b"PRI ";

/// A client that has sent less than that is looked at again after this.
const AGAIN: Duration = Duration::from_millis(5);

/// Waits for the first bytes. They are looked at, not read: HTTP/1.1 pays for this once a connection, not once a read.
pub(crate) async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if let Some(version) = decide(&first[..count]) {
            return Ok(version);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The version, once the bytes tell.
fn decide(first: &[u8]) -> Option<Version> {
    if first.is_empty() || !PREFACE.starts_with(first) {
        return Some(Version::Http1);
    }
    (first.len() == PREFACE.len()).then_some(Version::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(decide(b"PRI "), Some(Version::Http2));
        for first in [&b""[..], b"G", b"POST", b"PRO", b"PRIX", b"\x16\x03\x01\x02"] {
            assert_eq!(decide(first), Some(Version::Http1), "{first:?}");
        }
        for first in [&b"P"[..], b"PR", b"PRI"] {
            assert_eq!(decide(first), None, "{first:?}");
        }
    }
}
