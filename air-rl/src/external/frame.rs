//! RLlink's frames: a body after its length in eight ASCII digits.

use std::io::{self, ErrorKind, Read, Write};

/// The longest body that eight digits can tell.
pub(super) const LONGEST: usize = 99_999_999;

/// What is wrong with what a client sends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The header is no length.
    #[error("expected a length in eight digits, got {0:?}")]
    Header(String),
    /// The body is longer than allowed.
    #[error("a message of {got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes announced.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The body is neither a message in MessagePack nor in JSON.
    #[error("cannot read the message: {0}")]
    Body(String),
    /// The message breaks the protocol.
    #[error("{0}")]
    Message(String),
    /// The connection failed or the client took too long.
    #[error("connection")]
    Io(#[from] io::Error),
}

/// The next body; none where the client hung up between two.
pub(super) fn read(from: &mut impl Read, limit: usize) -> Result<Option<Vec<u8>>, LinkError> {
    let mut header = [0; 8];
    let mut got = 0;
    while got < header.len() {
        match from.read(&mut header[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    // `parse` alone would let a sign through.
    let digits = std::str::from_utf8(&header).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse::<usize>().ok());
    let got = length.ok_or_else(|| LinkError::Header(header.escape_ascii().to_string()))?;
    if got > limit {
        return Err(LinkError::TooLong { got, limit });
    }
    // Room grows with what has come, not with what was announced.
    let mut body = Vec::new();
    from.by_ref().take(got as u64).read_to_end(&mut body)?;
    if body.len() < got {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(body))
}

/// Writes a body in its frame.
pub(super) fn write(to: &mut impl Write, body: &[u8]) -> Result<(), LinkError> {
    if body.len() > LONGEST {
        return Err(LinkError::TooLong { got: body.len(), limit: LONGEST });
    }
    let mut frame = format!("{:08}", body.len()).into_bytes();
    frame.extend_from_slice(body);
    to.write_all(&frame)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_and_then_there_is_no_more() {
        let mut wire = Vec::new();
        write(&mut wire, b"{\"type\": \"PING\"}").unwrap();
        write(&mut wire, b"").unwrap();
        assert_eq!(&wire[..8], b"00000016");
        let mut from = wire.as_slice();
        assert_eq!(read(&mut from, 16).unwrap().unwrap(), b"{\"type\": \"PING\"}");
        assert_eq!(read(&mut from, 16).unwrap().unwrap(), b"");
        assert!(read(&mut from, 16).unwrap().is_none());
    }

    #[test]
    fn what_is_no_frame_is_said() {
        let says = |bytes: &[u8]| read(&mut &*bytes, 10).unwrap_err().to_string();
        assert_eq!(says(b"GET / HTTP/1.1"), "expected a length in eight digits, got \"GET / HT\"");
        assert_eq!(says(b"+0000001x"), "expected a length in eight digits, got \"+0000001\"");
        assert_eq!(says(b"00000011hello world"), "a message of 11 bytes, at most 10 are allowed");
        assert_eq!(says(b"0000"), "connection");
        assert_eq!(says(b"00000009abc"), "connection");
    }
}
