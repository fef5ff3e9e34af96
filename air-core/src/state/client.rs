//! Reads a state endpoint, for the command line: one request, one answer, with limits of size and time.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use url::Url;

use super::answer::SERVED_BY;

/// How long connecting, and any one read or write, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the whole may take.
const LIMIT: Duration = Duration::from_mins(1);
/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The most bytes of an answer.
const MAX_BYTES: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "`{url}` is not the address of a state endpoint, which looks like http://127.0.0.1:8265: {reason}"
    )]
    Url { url: String, reason: String },
    #[error("cannot reach {address}")]
    Connect { address: String, source: io::Error },
    #[error("the connection to {address} broke off")]
    Broken { address: String, source: io::Error },
    #[error("{address} is not a state endpoint of air-core")]
    NotAir { address: String },
    #[error("{address} wants a token, and {given}: give the one of `StateConfig` with --token or AIR_TOKEN")]
    Token { address: String, given: &'static str },
    #[error("{address} refused {path} with status {status}: {reason}")]
    Refused { address: String, path: &'static str, status: u16, reason: String },
    #[error("the answer of {address} is larger than {limit} bytes")]
    TooLarge { address: String, limit: usize },
}

/// Gets one path of a state endpoint.
pub(crate) fn get(url: &str, path: &'static str, token: Option<&str>) -> Result<Vec<u8>, ClientError> {
    let (host, port) = address(url)?;
    let address = format!("{host}:{port}");
    if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(ClientError::Token { address, given: "no token has spaces or unusual characters" });
    }
    let broken = |source| ClientError::Broken { address: address.clone(), source };
    let mut stream =
        connect(&address).map_err(|source| ClientError::Connect { address: address.clone(), source })?;
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(broken)?;

    let until = Instant::now() + LIMIT;
    let mut answer = Vec::new();
    let head = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if answer.len() > MAX_HEAD_BYTES || !read_some(&mut stream, &mut answer, until).map_err(broken)? {
            return Err(ClientError::NotAir { address });
        }
    };
    let mut body = answer.split_off(head + 4);
    let Some(head) = Head::parse(&answer[..head]) else { return Err(ClientError::NotAir { address }) };
    let length = head.length.unwrap_or(MAX_BYTES);
    if length > MAX_BYTES {
        return Err(ClientError::TooLarge { address, limit: MAX_BYTES });
    }
    while body.len() < length && read_some(&mut stream, &mut body, until).map_err(broken)? {}
    match (head.status, token) {
        (200, _) if head.length.is_some_and(|length| body.len() < length) => {
            Err(broken(io::ErrorKind::UnexpectedEof.into()))
        }
        (200, _) => Ok(body),
        (401, None) => Err(ClientError::Token { address, given: "none was given" }),
        (401, Some(_)) => Err(ClientError::Token { address, given: "this is not it" }),
        (status, _) => {
            let reason = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
            Err(ClientError::Refused { address, path, status, reason })
        }
    }
}

fn address(text: &str) -> Result<(String, u16), ClientError> {
    let wrong = |reason: String| ClientError::Url { url: text.chars().take(200).collect(), reason };
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() != "http" {
        return Err(wrong(format!("its scheme is `{}`", url.scheme())));
    }
    let host = url.host_str().ok_or_else(|| wrong("it has no host".into()))?;
    Ok((host.to_owned(), url.port().unwrap_or(80)))
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads what there is; `false` at the end.
fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>, until: Instant) -> io::Result<bool> {
    if Instant::now() >= until {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = [0; 16 << 10];
    let silent = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"))
        }
        _ => error,
    };
    let count = stream.read(&mut buffer).map_err(silent)?;
    into.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}

/// What matters of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Option<usize>,
}

impl Head {
    /// Nothing where the answer is not one of ours.
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let find = |wanted: &str| {
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
        };
        let ours = SERVED_BY.split('/').next();
        if find("server")?.split('/').next() != ours {
            return None;
        }
        Some(Self { status, length: find("content-length").and_then(|length| length.parse().ok()) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_scheme() {
        assert_eq!(address("127.0.0.1:81").unwrap(), ("127.0.0.1".into(), 81));
        assert_eq!(address("http://localhost:81/state").unwrap(), ("localhost".into(), 81));
        assert_eq!(address("http://[::1]:81").unwrap(), ("[::1]".into(), 81));
        for url in ["", "https://localhost", "http://", "http://a:99999", "ftp://x"] {
            assert!(matches!(address(url), Err(ClientError::Url { .. })), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_is_an_answer_or_is_not(bytes: Vec<u8>, status in "[ -~]{0,12}", length in "[ -~]{0,24}") {
            Head::parse(&bytes);
            let head = format!("HTTP/1.1 {status}\r\nserver: air-core/1\r\ncontent-length: {length}");
            if let Some(head) = Head::parse(head.as_bytes()) {
                proptest::prop_assert_eq!(head.length, length.trim().parse().ok());
            }
        }
    }

    #[test]
    fn only_our_answers_are_ours() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nServer: air-core/0.1.0\r\nContent-Length: 12").unwrap();
        assert_eq!(head, Head { status: 200, length: Some(12) });
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nserver: nginx"), None);
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK"), None);
        assert_eq!(Head::parse(b"SSH-2.0-OpenSSH_9\r\nserver: air-core/1"), None);
        assert_eq!(Head::parse(b"\xff\xfe"), None);
    }
}
