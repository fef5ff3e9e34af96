//! One connection: at most one request at a time, sent and answered without blocking.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::answer::{Answer, Progress, Reader};
use super::config::LoadConfig;
use super::target::Target;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No new connection could be made for it.
    Connect,
    /// The server closed the connection instead of answering.
    Closed,
    /// The answer was no HTTP.
    Malformed,
}

/// What an event brought.
pub(super) enum Outcome {
    /// Nothing yet.
    Pending,
    Answered(Answer),
    Failed(Failure),
}

/// A request under way.
#[derive(Clone, Copy)]
pub(super) struct Underway {
    pub due: Duration,
    pub sent: Duration,
    written: usize,
}

pub(super) struct Connection {
    stream: Option<TcpStream>,
    /// Not known to be connected yet.
    connecting: bool,
    pub underway: Option<Underway>,
    reader: Reader,
}

impl Connection {
    /// A connection that is made, and waits for requests.
    pub fn new(
        stream: std::net::TcpStream,
        target: &Target,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection = Connection {
            stream: None,
            connecting: false,
            underway: None,
            reader: Reader::new(target.head_only),
        };
        connection.keep(TcpStream::from_std(stream), registry, token)?;
        Ok(connection)
    }

    fn keep(&mut self, mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Starts a request; on a connection that was closed, with a new one.
    pub fn begin(
        &mut self,
        due: Duration,
        now: Duration,
        target: &Target,
        registry: &Registry,
        token: Token,
    ) -> Outcome {
        self.underway = Some(Underway { due, sent: now, written: 0 });
        if self.stream.is_none() {
            self.reader = Reader::new(target.head_only);
            self.connecting = true;
            let made = connect(target.addr).and_then(|stream| self.keep(stream, registry, token));
            return if made.is_ok() { Outcome::Pending } else { self.failed(Failure::Connect) };
        }
        self.write(target)
    }

    pub fn write(&mut self, target: &Target) -> Outcome {
        let (Some(stream), Some(underway)) = (&mut self.stream, &mut self.underway) else {
            return Outcome::Pending;
        };
        while underway.written < target.request.len() {
            match stream.write(&target.request[underway.written..]) {
                Ok(count) => {
                    self.connecting = false;
                    underway.written += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It is still being made.
                Err(error) if self.connecting && error.kind() == ErrorKind::NotConnected => break,
                Err(_) => {
                    let failure = if self.connecting { Failure::Connect } else { Failure::Closed };
                    return self.failed(failure);
                }
            }
        }
        Outcome::Pending
    }

    /// Reads what there is; `ends` if the server has closed its side, which is no event of its own then.
    pub fn read(&mut self, buffer: &mut [u8], ends: bool, target: &Target, config: &LoadConfig) -> Outcome {
        let expect = config.expect.as_deref();
        loop {
            let Some(stream) = &mut self.stream else { return Outcome::Pending };
            let count = match stream.read(buffer) {
                Ok(0) => {
                    return match self.reader.end(expect) {
                        Some(answer) if self.underway.is_some() => self.answered(answer, true, target),
                        _ => self.failed(Failure::Closed),
                    };
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Pending,
                Err(error) if self.connecting && error.kind() == ErrorKind::NotConnected => {
                    return Outcome::Pending;
                }
                Err(_) => {
                    let failure = if self.connecting { Failure::Connect } else { Failure::Closed };
                    return self.failed(failure);
                }
            };
            // Bytes that nobody asked for are no answer.
            let fed =
                if self.underway.is_some() { self.reader.feed(&buffer[..count], expect).ok() } else { None };
            match fed {
                Some(Progress::Done(answer)) => return self.answered(answer, ends, target),
                // The socket is empty; the next bytes are an event of their own.
                Some(Progress::More) if count < buffer.len() && !ends => return Outcome::Pending,
                Some(Progress::More) => {}
                None => return self.failed(Failure::Malformed),
            }
        }
    }

    fn answered(&mut self, answer: Answer, ends: bool, target: &Target) -> Outcome {
        let written = self.underway.map_or(0, |underway| underway.written);
        // An answer that came before the request was sent whole refuses the rest of it.
        if ends || !answer.keep_alive || written < target.request.len() {
            self.close();
        }
        Outcome::Answered(answer)
    }

    /// Closes the connection; a failure only where a request was under way.
    fn failed(&mut self, failure: Failure) -> Outcome {
        self.close();
        if self.underway.is_some() { Outcome::Failed(failure) } else { Outcome::Pending }
    }

    /// Closes the connection; the next request makes a new one.
    pub fn close(&mut self) {
        self.stream = None;
        self.connecting = false;
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
