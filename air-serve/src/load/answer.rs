//! Reads the answers of one connection as their bytes come in. Pure.

/// The longest head that is read.
const LONGEST_HEAD: usize = 64 << 10;
/// Most headers of an answer.
const MOST_HEADERS: usize = 100;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It needs more bytes.
    More,
    /// It is whole.
    Done(Answer),
}

/// An answer that has come in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
    /// Whether the body was what was expected.
    pub as_expected: bool,
}

/// Bytes that are no HTTP/1 answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    /// So many bytes of the body are to come.
    Body(u64),
    /// The body ends with the connection.
    ToTheEnd,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    /// After the last chunk: header lines up to an empty one.
    Trailer,
}

pub(super) struct Reader {
    state: State,
    /// What could not be used yet: part of a head or of a line.
    rest: Vec<u8>,
    answer: Answer,
    /// Bytes of the body so far.
    body: usize,
    head_only: bool,
}

impl Reader {
    /// `head_only`: to requests whose answers have no body, whatever their head says.
    pub fn new(head_only: bool) -> Self {
        let answer = Answer { status: 0, keep_alive: true, as_expected: true };
        Reader { state: State::Head, rest: Vec::new(), answer, body: 0, head_only }
    }

    /// Takes in bytes of one answer. There is one request at a time, so that nothing may follow the answer.
    pub fn feed(&mut self, bytes: &[u8], expect: Option<&[u8]>) -> Result<Progress, Malformed> {
        if self.rest.is_empty() {
            let used = self.advance(bytes, expect)?;
            return self.progress(&bytes[used..], expect);
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let used = self.advance(&all, expect)?;
        self.progress(&all[used..], expect)
    }

    /// The connection was closed: the end of some answers, too early for the others.
    pub fn end(&mut self, expect: Option<&[u8]>) -> Option<Answer> {
        matches!(self.state, State::ToTheEnd).then(|| self.finish(expect))
    }

    fn progress(&mut self, left: &[u8], expect: Option<&[u8]>) -> Result<Progress, Malformed> {
        let done = self.answer.status != 0 && matches!(self.state, State::Head);
        if !done {
            self.rest = left.to_vec();
            return if left.len() > LONGEST_HEAD { Err(Malformed) } else { Ok(Progress::More) };
        }
        if left.is_empty() { Ok(Progress::Done(self.finish(expect))) } else { Err(Malformed) }
    }

    fn finish(&mut self, expect: Option<&[u8]>) -> Answer {
        let mut answer = self.answer;
        answer.as_expected &= expect.is_none_or(|expect| expect.len() == self.body);
        *self = Reader::new(self.head_only);
        answer
    }

    /// Uses as many bytes as it can; at the end of an answer the state is [`State::Head`] with a status.
    fn advance(&mut self, bytes: &[u8], expect: Option<&[u8]>) -> Result<usize, Malformed> {
        let mut at = 0;
        loop {
            let left = &bytes[at..];
            match self.state {
                State::Head => match self.head(left)? {
                    // An answer before the answer, as 100 Continue.
                    Some(used) if self.answer.status < 200 => {
                        self.answer.status = 0;
                        at += used;
                    }
                    Some(used) => {
                        at += used;
                        if matches!(self.state, State::Head) {
                            return Ok(at);
                        }
                    }
                    None => return Ok(at),
                },
                State::Body(length) | State::Chunk(length) => {
                    let part = &left[..left.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
                    self.compare(part, expect);
                    at += part.len();
                    let length = length - part.len() as u64;
                    match self.state {
                        State::Body(_) if length == 0 => {
                            self.state = State::Head;
                            return Ok(at);
                        }
                        State::Chunk(_) if length == 0 => self.state = State::ChunkEnd,
                        State::Body(_) => self.state = State::Body(length),
                        _ => self.state = State::Chunk(length),
                    }
                    if length > 0 {
                        return Ok(at);
                    }
                }
                State::ToTheEnd => {
                    self.compare(left, expect);
                    return Ok(bytes.len());
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => {
                    let Some(line) = left.windows(2).position(|pair| pair == b"\r\n") else { return Ok(at) };
                    at += line + 2;
                    let line = &left[..line];
                    match self.state {
                        State::ChunkSize => {
                            let size = chunk_size(line).ok_or(Malformed)?;
                            self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                        }
                        State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
                        State::ChunkEnd => return Err(Malformed),
                        _ if line.is_empty() => {
                            self.state = State::Head;
                            return Ok(at);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Reads a head; its length, if it is whole.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let used = match head.parse(bytes).map_err(|_| Malformed)? {
            httparse::Status::Complete(used) => used,
            httparse::Status::Partial => return Ok(None),
        };
        let status = head.code.ok_or(Malformed)?;
        let mut length = None;
        let mut chunked = false;
        let mut keep_alive = head.version == Some(1);
        for header in head.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value).map_err(|_| Malformed)?;
                length = Some(text.trim().parse::<u64>().map_err(|_| Malformed)?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = header.value.eq_ignore_ascii_case(b"chunked");
            } else if header.name.eq_ignore_ascii_case("connection") {
                keep_alive = !header.value.eq_ignore_ascii_case(b"close");
            }
        }
        self.state = match length {
            _ if self.head_only || status < 200 || status == 204 || status == 304 => State::Head,
            _ if chunked => State::ChunkSize,
            Some(0) => State::Head,
            Some(length) => State::Body(length),
            None => {
                keep_alive = false;
                State::ToTheEnd
            }
        };
        self.answer = Answer { status, keep_alive, as_expected: true };
        Ok(Some(used))
    }

    fn compare(&mut self, part: &[u8], expect: Option<&[u8]>) {
        if let Some(expect) = expect {
            let same = expect.get(self.body..self.body + part.len()) == Some(part);
            self.answer.as_expected &= same;
        }
        self.body += part.len();
    }
}

/// The number at the start of a chunk; extensions follow a semicolon.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &str =
        "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: 1\r\n\r\n";
    const CONTINUED: &str =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

    /// Feeds in pieces of that size; the last piece must end it.
    fn fed(text: &str, piece: usize, expect: Option<&str>) -> Result<Progress, Malformed> {
        let mut reader = Reader::new(false);
        let mut last = Ok(Progress::More);
        for bytes in text.as_bytes().chunks(piece) {
            assert_eq!(last, Ok(Progress::More));
            last = reader.feed(bytes, expect.map(str::as_bytes));
        }
        last
    }

    fn done(status: u16, keep_alive: bool, as_expected: bool) -> Result<Progress, Malformed> {
        Ok(Progress::Done(Answer { status, keep_alive, as_expected }))
    }

    #[test]
    fn an_answer_may_come_in_pieces_of_any_size() {
        for piece in 1..200 {
            assert_eq!(fed(LENGTH, piece, Some("hello")), done(200, true, true));
            assert_eq!(fed(LENGTH, piece, Some("hell")), done(200, true, false));
            assert_eq!(fed(LENGTH, piece, Some("hello!")), done(200, true, false));
            assert_eq!(fed(CHUNKED, piece, Some("hello")), done(503, true, true));
            assert_eq!(fed(CHUNKED, piece, Some("hallo")), done(503, true, false));
            assert_eq!(fed(CONTINUED, piece, None), done(204, false, true));
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut reader = Reader::new(false);
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel", Some(b"hello")), Ok(Progress::More));
        assert_eq!(reader.feed(b"lo", Some(b"hello")), Ok(Progress::More));
        let answer = Answer { status: 200, keep_alive: false, as_expected: true };
        assert_eq!(reader.end(Some(b"hello")), Some(answer));
        // Any other answer is cut short by it.
        assert_eq!(reader.feed(&LENGTH.as_bytes()[..40], None), Ok(Progress::More));
        assert_eq!(reader.end(None), None);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut reader = Reader::new(true);
        let head = LENGTH.strip_suffix("hello").unwrap_or_default();
        assert_eq!(reader.feed(head.as_bytes(), None), done(200, true, true));
    }

    #[test]
    fn nonsense_is_malformed() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhello",
        ] {
            assert_eq!(fed(text, 1000, None), Err(Malformed), "{text}");
        }
        let mut reader = Reader::new(false);
        let endless = vec![b'a'; LONGEST_HEAD];
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\nX: ", None), Ok(Progress::More));
        assert_eq!(reader.feed(&endless, None), Err(Malformed));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), head in any::<bool>()) {
            let mut reader = Reader::new(false);
            if head {
                let _ = reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None);
            }
            for piece in pieces {
                if reader.feed(&piece, Some(b"x")).is_err() {
                    break;
                }
            }
            let _ = reader.end(None);
        }
    }
}
