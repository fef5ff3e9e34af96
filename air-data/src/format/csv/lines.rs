//! [`Lines`]: where the records of a CSV file end, told without parsing it.
//!
//! A line end inside quotes belongs to its value, so where a record ends depends on all quotes before it. As long as every quote that
//! opens a value stands at the value's beginning, counting them tells: an odd number means inside. (Two quotes within a quoted value, which
//! stand for one, close and open it.) A quote in the middle of a plain value, `5" pipe`, is a character like any other to the parser, and
//! counting says nothing more from there on: such a file is not [`regular`](Lines::regular).
//!
//! Sixty-four bytes are gone over at once, with a bit for each (Langdale and Lemire: "Parsing Gigabytes of JSON per Second", 2019, section 3.1).

#![allow(clippy::inline_always)] // a loop in wide registers is nothing but what is inlined into it

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
        let (blocks, rest) = bytes.as_chunks::<64>();
        self.pass_blocks(blocks);
        for byte in rest {
            self.pass_byte(*byte);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn pass_blocks(&mut self, blocks: &[[u8; 64]]) {
        let Some(v3) = pulp::x86::V3::try_new() else { return self.pass_blocks_by(blocks, places) };
        v3.vectorize(
            #[inline(always)]
            || {
                self.pass_blocks_by(
                    blocks,
                    #[inline(always)]
                    |block, byte| wide_places(v3, block, byte),
                );
            },
        );
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn pass_blocks(&mut self, blocks: &[[u8; 64]]) {
        self.pass_blocks_by(blocks, places);
    }

    /// As [`pass_byte`](Self::pass_byte) for each byte. `places` tells where one is in a block.
    #[inline(always)]
    fn pass_blocks_by(&mut self, blocks: &[[u8; 64]], places: impl Fn(&[u8; 64], u8) -> u64) {
        for block in blocks {
            let quotes = places(block, self.quote);
            let line_ends = places(block, b'\n') | places(block, b'\r');
            let openers = quotes | line_ends | places(block, self.delimiter);
            // Of each byte: whether it, or the one before it, is inside.
            let after = parity(quotes) ^ if self.inside { !0 } else { 0 };
            let before = after << 1 | u64::from(self.inside);
            let follows = |those: u64, last: bool| those << 1 | u64::from(last);
            self.regular &= quotes & !before & !follows(openers, self.may_open_after(self.last)) == 0;
            let ends = line_ends & !before & !follows(line_ends, is_line_end(self.last));
            self.records += u64::from(ends.count_ones());
            self.inside = after >> 63 == 1;
            self.last = block[63];
        }
    }

    /// Goes over the bytes that follow up to the first line feed outside quotes, whose end it returns; over all where there is none.
    pub(super) fn pass_line(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes
            .iter()
            .position(|byte| {
                self.pass_byte(*byte);
                self.ended()
            })
            .map(|at| at + 1)
    }

    fn pass_byte(&mut self, byte: u8) {
        if byte == self.quote {
            self.regular &= self.inside || self.may_open_after(self.last);
            self.inside = !self.inside;
        } else if is_line_end(byte) && !self.inside {
            self.records += u64::from(!is_line_end(self.last));
        }
        self.last = byte;
    }

    fn may_open_after(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == self.quote || is_line_end(byte)
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Of each bit, whether an odd number is set up to it.
fn parity(mut bits: u64) -> u64 {
    for by in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << by;
    }
    bits
}

/// Where a byte is, a bit for each place, the lowest first.
fn places(block: &[u8; 64], byte: u8) -> u64 {
    block.iter().rev().fold(0, |places, found| places << 1 | u64::from(*found == byte))
}

/// As [`places`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn wide_places(v3: pulp::x86::V3, block: &[u8; 64], byte: u8) -> u64 {
    let wanted = v3.avx._mm256_set1_epi8(byte.cast_signed());
    let [low, high]: [std::arch::x86_64::__m256i; 2] = pulp::cast(*block);
    let half = |bytes| v3.avx2._mm256_movemask_epi8(v3.avx2._mm256_cmpeq_epi8(bytes, wanted)).cast_unsigned();
    u64::from(half(high)) << 32 | u64::from(half(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn registers_tell_the_same_places() {
        let Some(v3) = pulp::x86::V3::try_new() else { return };
        let block: [u8; 64] = std::array::from_fn(|at| [b'"', b'a', 200, b'"', b'\n'][at * at % 5]);
        for byte in [b'"', b'\n', 200, b'x'] {
            assert_eq!(places(&block, byte), wide_places(v3, &block, byte));
        }
        assert_eq!(places(&block, b'"') & 0b1111_1111, 0b0010_0001);
    }
}
