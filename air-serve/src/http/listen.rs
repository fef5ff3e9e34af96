//! Sockets: one listener for each HTTP thread, all on one port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::ServeError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds `count` listeners to `addr`; the kernel spreads connections over them.
///
/// The first is bound *before* it is marked `SO_REUSEPORT`: so a port that another server holds is an error, even one that would share it.
pub(crate) fn bind(addr: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ServeError> {
    let first = listener(addr, false).map_err(|source| refused(addr, source))?;
    let addr = first.local_addr().map_err(|source| refused(addr, source))?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(addr, true).map_err(|source| refused(addr, source))?);
    }
    Ok(listeners)
}

fn listener(addr: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a server that has just ended may linger on the port.
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    if !share {
        socket.set_reuse_port(true)?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn refused(addr: SocketAddr, source: io::Error) -> ServeError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there (choose another --port, or 0 for any)",
        io::ErrorKind::PermissionDenied => "ports below 1024 need more rights",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        _ => "the operating system refused",
    };
    ServeError::Bind { addr, hint, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_even_if_its_holder_would_share() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addr = held[0].local_addr().unwrap();
        assert!(held.iter().all(|listener| listener.local_addr().unwrap() == addr));
        let error = bind(addr, 2).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
    }

    #[test]
    fn a_port_is_free_again_at_once() {
        let addr = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap()[0].local_addr().unwrap();
        bind(addr, 2).unwrap();
    }
}
