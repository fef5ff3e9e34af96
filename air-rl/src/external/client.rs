//! A connection with its deadlines.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{self, LinkError};

/// How often it is looked whether a client has come.
const LOOK: Duration = Duration::from_millis(5);

/// How long one that is hung up on may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client. A message that is not there in time, silence before it included, is an error.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    patience: Duration,
}

impl Client {
    /// The next to come, or an error once the time is up.
    pub(super) fn next(listener: &TcpListener, patience: Duration) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let begin = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(patience))?;
                    return Ok(Self { stream, patience });
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && begin.elapsed() < patience => {
                    std::thread::sleep(LOOK);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let why = format!("no client came within {} s", patience.as_secs_f64());
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
                // One that hung up before it was taken is not the listener's end.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next message; none if the client hung up.
    pub(super) fn read(&mut self, limit: usize) -> Result<Option<Vec<u8>>, LinkError> {
        let until = Instant::now() + self.patience;
        frame::read(&mut Timed { stream: &self.stream, until }, limit)
    }

    pub(super) fn write(&mut self, body: &[u8]) -> Result<(), LinkError> {
        frame::write(&mut self.stream, body)
    }

    /// Hangs up such that what was written last arrives: a connection that is closed before all was read is reset, which takes that away.
    pub(super) fn dismiss(self) {
        let until = Instant::now() + self.patience.min(FAREWELL);
        let _ = self.stream.shutdown(Shutdown::Write);
        let (mut rest, mut timed) = ([0; 4096], Timed { stream: &self.stream, until });
        while timed.read(&mut rest).is_ok_and(|n| n > 0) {}
    }
}

/// Reads until an instant, however slowly bytes come.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let late = || io::Error::new(ErrorKind::TimedOut, "the message did not come in time");
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(to).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => late(),
            _ => e,
        })
    }
}
