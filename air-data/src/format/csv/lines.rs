//! [`Lines`]: where the records of a CSV file end, told without parsing it.
//!
//! A line end inside quotes belongs to its value, so where a record ends depends on all quotes before it. As long as every quote that
//! opens a value stands at the value's beginning, counting them tells: an odd number means inside. (Two quotes within a quoted value, which
//! stand for one, close and open it.) A quote in the middle of a plain value, `5" pipe`, is a character like any other to the parser, and
//! counting says nothing more from there on: such a file is not [`regular`](Lines::regular).

use memchr::memchr3_iter;

/// What is known of a file up to some byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    quote: u8,
    delimiter: u8,
    /// Whether the next byte is inside quotes.
    inside: bool,
    /// The last byte.
    last: u8,
    /// Records that have ended, the line of names among them. The parser passes over empty lines.
    records: u64,
    regular: bool,
}

impl Lines {
    /// At the beginning of a file.
    pub(super) fn new(delimiter: u8, quote: u8) -> Self {
        Self { quote, delimiter, inside: false, last: b'\n', records: 0, regular: true }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whether every quote so far stood where counting holds.
    pub(super) fn regular(&self) -> bool {
        self.regular
    }

    /// Whether a record has just ended with a line feed, and the next byte begins another.
    pub(super) fn ended(&self) -> bool {
        !self.inside && self.last == b'\n'
    }

    /// Goes over the bytes that follow.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.go(bytes, false);
    }

    /// Goes over the bytes that follow up to the first line feed outside quotes, whose end it returns; over all where there is none.
    pub(super) fn pass_line(&mut self, bytes: &[u8]) -> Option<usize> {
        self.go(bytes, true)
    }

    fn go(&mut self, bytes: &[u8], to_line_end: bool) -> Option<usize> {
        let before = self.last;
        let previous = |at: usize| if at == 0 { before } else { bytes[at - 1] };
        for at in memchr3_iter(self.quote, b'\n', b'\r', bytes) {
            let (byte, previous) = (bytes[at], previous(at));
            if byte == self.quote {
                let opens = previous == self.delimiter || is_line_end(previous) || previous == self.quote;
                self.regular &= self.inside || opens;
                self.inside = !self.inside;
            } else if !self.inside {
                self.records += u64::from(!is_line_end(previous));
                if to_line_end && byte == b'\n' {
                    self.last = byte;
                    return Some(at + 1);
                }
            }
        }
        self.last = bytes.last().copied().unwrap_or(before);
        None
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
