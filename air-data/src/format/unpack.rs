//! [`Unpack`]: compressed bytes in pieces of any size → the bytes they hold, in pieces of bounded size.

use std::error::Error;
use std::io::{self, Write};

use air_core::BoxError;
use flate2::write::GzDecoder;
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::compression::Codec;

/// Unpacked bytes that are made at once; twice as many at most.
const PIECE_BYTES: usize = 1 << 20;

/// Compressed bytes of gzip that are gone through in one step, which makes 32 KiB at most.
const STEP_BYTES: usize = 16 << 10;

/// As many causes of an error are looked through.
const CAUSES: usize = 16;

/// Why compressed bytes cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Spoilt {
    #[error(
        "it is not compressed with {}, as its name or the setting `compression` says: it begins with other bytes",
        codec.name()
    )]
    Another { codec: Codec },
    #[error("cut short: the {} data does not end in its {packed} bytes, which hold {unpacked} bytes unpacked or more", codec.name())]
    Short { codec: Codec, packed: u64, unpacked: u64 },
    #[error("spoilt {} data after {packed} of its bytes, which hold {unpacked} bytes unpacked or more: {reason}", codec.name())]
    Broken { codec: Codec, packed: u64, unpacked: u64, reason: String },
    #[error("a line of more than {bytes} bytes in the {} data, after {packed} of its bytes", codec.name())]
    LongLine { codec: Codec, packed: u64, bytes: u64 },
}

impl Spoilt {
    /// On its way out of a store.
    pub(crate) fn into_store(self) -> object_store::Error {
        object_store::Error::Generic { store: self.codec().name(), source: self.into() }
    }

    /// An error of a store, or what is wrong with the file if that is the cause.
    pub(crate) fn or(error: impl Into<BoxError>) -> BoxError {
        let error = error.into();
        match Self::within(error.as_ref()) {
            Some(spoilt) => spoilt.into(),
            None => error,
        }
    }

    fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |error| (*error).source()).take(CAUSES);
        causes.find_map(|cause| cause.downcast_ref::<Self>().cloned())
    }

    fn codec(&self) -> Codec {
        match self {
            Self::Another { codec }
            | Self::Short { codec, .. }
            | Self::Broken { codec, .. }
            | Self::LongLine { codec, .. } => *codec,
        }
    }
}

/// The bytes of one file on their way. Members of gzip, and frames of Zstandard, that follow each other are one file.
pub(crate) struct Unpack {
    codec: Codec,
    state: State,
    packed: u64,
    unpacked: u64,
    /// Bytes that a line may have.
    longest_line: Option<u64>,
    /// Bytes of the last line so far.
    line: u64,
    /// What to say next.
    spoilt: Option<Spoilt>,
}

enum State {
    /// Before the first member, or behind one.
    Between,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Zstd(ZstdDecoder<'static>, Frame),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Open,
    Ended,
}

impl Unpack {
    /// Where lines have a limit, longer ones are an error.
    pub(crate) fn new(codec: Codec, longest_line: Option<u64>) -> Self {
        Self { codec, state: State::Between, packed: 0, unpacked: 0, longest_line, line: 0, spoilt: None }
    }

    /// Unpacks what is at the front of `input`, which it takes off: as much as makes a piece. Ask until all is taken; what could be unpacked before an
    /// error comes first.
    pub(crate) fn push(&mut self, input: &mut &[u8]) -> Result<Vec<u8>, Spoilt> {
        if let Some(spoilt) = self.spoilt.take() {
            return Err(spoilt);
        }
        let mut piece = Vec::with_capacity(input.len().saturating_mul(4).min(PIECE_BYTES));
        while !input.is_empty() && piece.len() < PIECE_BYTES {
            match self.step(input, &mut piece) {
                Ok(taken) => {
                    self.packed += taken as u64;
                    *input = &input[taken..];
                }
                Err(error) => {
                    let spoilt = self.spoilt(input, piece.len(), &error);
                    if piece.is_empty() {
                        return Err(spoilt);
                    }
                    self.spoilt = Some(spoilt);
                    break;
                }
            }
        }
        self.unpacked += piece.len() as u64;
        self.check_line(&piece)?;
        Ok(piece)
    }

    fn check_line(&mut self, piece: &[u8]) -> Result<(), Spoilt> {
        let Some(bytes) = self.longest_line else { return Ok(()) };
        self.line = match piece.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => (piece.len() - end - 1) as u64,
            None => self.line + piece.len() as u64,
        };
        if self.line > bytes {
            return Err(Spoilt::LongLine { codec: self.codec, packed: self.packed, bytes });
        }
        Ok(())
    }

    /// The last piece, where the bytes end where they may.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, Spoilt> {
        let mut piece = Vec::new();
        let whole = match &mut self.state {
            State::Between => Ok(self.packed > 0),
            // A member that is over takes no byte more.
            State::Gzip(member) => match member.write(&[0]) {
                Ok(0) => end(member, &mut piece).map(|()| true),
                _ => Ok(false),
            },
            State::Zstd(_, Frame::Ended) => Ok(true),
            // It may hold a block that had no room in the last piece.
            State::Zstd(decoder, Frame::Open) => loop {
                match run(decoder, &[], &mut piece) {
                    Ok((_, made, Frame::Open)) if made > 0 => {}
                    Ok((_, _, frame)) => break Ok(frame == Frame::Ended),
                    Err(error) => break Err(error),
                }
            },
        };
        match whole {
            Ok(true) => Ok(piece),
            Ok(false) => {
                Err(Spoilt::Short { codec: self.codec, packed: self.packed, unpacked: self.unpacked })
            }
            Err(error) => Err(self.spoilt(&[], piece.len(), &error)),
        }
    }

    /// Takes some of the input; nothing where one member ends and the next begins.
    fn step(&mut self, input: &[u8], piece: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.state {
            State::Between => {
                // Tapes and blocks of disks are filled up with zeros.
                let padding = input.iter().take_while(|byte| **byte == 0).count();
                if self.codec == Codec::Gzip && self.packed > 0 && padding > 0 {
                    return Ok(padding);
                }
                if !begins(self.codec, input) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "what follows a member is no other",
                    ));
                }
                self.state = match self.codec {
                    Codec::Gzip => State::Gzip(Box::new(GzDecoder::new(Vec::new()))),
                    Codec::Zstd => State::Zstd(ZstdDecoder::new()?, Frame::Open),
                };
                Ok(0)
            }
            State::Gzip(member) => {
                let taken = member.write(&input[..input.len().min(STEP_BYTES)])?;
                piece.append(member.get_mut());
                if taken == 0 {
                    end(member, piece)?;
                    self.state = State::Between;
                }
                Ok(taken)
            }
            State::Zstd(decoder, ended) => {
                let (taken, _, frame) = run(decoder, input, piece)?;
                *ended = frame;
                Ok(taken)
            }
        }
    }

    fn spoilt(&self, input: &[u8], made: usize, error: &io::Error) -> Spoilt {
        if self.packed == 0 && !begins(self.codec, input) {
            return Spoilt::Another { codec: self.codec };
        }
        Spoilt::Broken {
            codec: self.codec,
            packed: self.packed,
            unpacked: self.unpacked + made as u64,
            reason: error.to_string(),
        }
    }
}

/// Whether files of a codec may begin so. A frame of Zstandard that is passed over may come before the first of data.
fn begins(codec: Codec, input: &[u8]) -> bool {
    let magic: &[u8] = match (codec, input) {
        (Codec::Gzip, _) => b"\x1f\x8b",
        (Codec::Zstd, [first @ 0x50..=0x5f, ..]) => &[*first, 0x2a, 0x4d, 0x18],
        (Codec::Zstd, _) => b"\x28\xb5\x2f\xfd",
    };
    input.iter().zip(magic).all(|(byte, magic)| byte == magic)
}

/// Ends a member that has come whole, if its length and checksum are right.
fn end(member: &mut GzDecoder<Vec<u8>>, piece: &mut Vec<u8>) -> io::Result<()> {
    let checked = member.try_finish();
    piece.append(member.get_mut());
    checked.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the checksum or the length is another"))
}

/// Bytes taken, bytes made, and whether a frame has ended.
fn run(
    decoder: &mut ZstdDecoder<'_>,
    input: &[u8],
    piece: &mut Vec<u8>,
) -> io::Result<(usize, usize, Frame)> {
    let before = piece.len();
    piece.reserve(STEP_BYTES);
    let mut from = InBuffer::around(input);
    let mut to = OutBuffer::around_pos(piece, before);
    let hint = decoder.run(&mut from, &mut to)?;
    let (taken, made) = (from.pos(), to.pos() - before);
    Ok((taken, made, if hint == 0 { Frame::Ended } else { Frame::Open }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(codec: Codec, content: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Gzip => gzip(content),
            Codec::Zstd => zstandard(content),
        }
    }

    /// What comes out before an error, if there is one, when the bytes come so many at a time.
    fn unpacked(codec: Codec, bytes: &[u8], each: usize) -> (Vec<u8>, Option<Spoilt>) {
        let (mut unpack, mut content) = (Unpack::new(codec, None), Vec::new());
        for mut chunk in bytes.chunks(each) {
            while !chunk.is_empty() {
                match unpack.push(&mut chunk) {
                    Ok(piece) => {
                        assert!(piece.len() <= 2 * PIECE_BYTES, "{}", piece.len());
                        content.extend(piece);
                    }
                    Err(spoilt) => return (content, Some(spoilt)),
                }
            }
        }
        match unpack.finish() {
            Ok(piece) => {
                content.extend(piece);
                (content, None)
            }
            Err(spoilt) => (content, Some(spoilt)),
        }
    }

    const CODECS: [Codec; 2] = [Codec::Gzip, Codec::Zstd];

    /// Text that is neither all alike nor without any order.
    fn text(bytes: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u64| (n.wrapping_mul(0x9e37_79b9) % 100_003).to_string().into_bytes())
            .take(bytes)
            .collect()
    }

    #[test]
    fn all_members_are_read_however_the_bytes_come() {
        let (a, b) = (text(300_000), text(70_000));
        for codec in CODECS {
            let bytes = [packed(codec, &a), packed(codec, b""), packed(codec, &b)].concat();
            for each in [1, 7, 4096, usize::MAX] {
                assert_eq!(unpacked(codec, &bytes, each), ([&a[..], &b].concat(), None), "{codec:?} {each}");
            }
        }
    }

    #[test]
    fn zeros_unpack_in_pieces() {
        let zeros = vec![0; 40 << 20];
        for codec in CODECS {
            let bytes = packed(codec, &zeros);
            assert!(bytes.len() < 100_000, "{}", bytes.len());
            assert_eq!(unpacked(codec, &bytes, usize::MAX), (zeros.clone(), None));
        }
    }

    #[test]
    fn lines_have_a_limit_where_it_is_asked_for() {
        let lines = [vec![b'x'; 3 << 20], b"\n".to_vec(), vec![b'y'; 6 << 20]].concat();
        for codec in CODECS {
            let bytes = packed(codec, &lines);
            let unpacked = |longest| {
                let (mut unpack, mut left, mut made) = (Unpack::new(codec, Some(longest)), &bytes[..], 0);
                while !left.is_empty() {
                    made += unpack.push(&mut left)?.len();
                }
                Ok(made + unpack.finish()?.len())
            };
            assert_eq!(unpacked(6 << 20), Ok(lines.len()));
            let Err(Spoilt::LongLine { bytes, .. }) = unpacked(5 << 20) else { panic!("a line is too long") };
            assert_eq!(bytes, 5 << 20);
        }
    }

    #[test]
    fn what_is_cut_short_anywhere_is_told() {
        let content = text(5000);
        for codec in CODECS {
            let bytes = packed(codec, &content);
            for end in 0..bytes.len() {
                let (before, spoilt) = unpacked(codec, &bytes[..end], 512);
                let Some(Spoilt::Short { packed, unpacked, .. }) = spoilt else {
                    panic!("{codec:?} {end}: {spoilt:?}")
                };
                assert_eq!((packed, unpacked), (end as u64, before.len() as u64));
                assert!(content.starts_with(&before));
            }
        }
    }

    #[test]
    fn a_bit_that_is_wrong_is_found() {
        let content = text(5000);
        for codec in CODECS {
            let good = packed(codec, &content);
            // Behind the header, some of whose bits mean nothing.
            for at in 10..good.len() {
                let mut bytes = good.clone();
                bytes[at] ^= 0x10;
                let (before, spoilt) = unpacked(codec, &bytes, usize::MAX);
                assert!(spoilt.is_some() || before == content, "{codec:?} {at}");
            }
            let mut bytes = good.clone();
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
            let told = unpacked(codec, &bytes, usize::MAX).1.unwrap().to_string();
            assert!(told.starts_with(&format!("spoilt {} data after ", codec.name())), "{told}");
        }
    }

    #[test]
    fn what_is_no_compressed_file_or_has_something_behind_it_is_told() {
        for codec in CODECS {
            let spoilt = unpacked(codec, b"a,b\n1,2\n", usize::MAX).1.unwrap();
            assert_eq!(spoilt, Spoilt::Another { codec });
            let bytes = [packed(codec, b"a\n"), b"b\n".to_vec()].concat();
            let (before, spoilt) = unpacked(codec, &bytes, 100);
            assert!(matches!(&spoilt, Some(Spoilt::Broken { unpacked: 2, .. })), "{spoilt:?}");
            assert_eq!(before, b"a\n");
        }
        let passed_over = [b"\x5a\x2a\x4d\x18\x03\0\0\0abc", &zstandard(b"a\n")[..]].concat();
        assert_eq!(unpacked(Codec::Zstd, &passed_over, 5), (b"a\n".to_vec(), None));
        let padded = [gzip(b"a\n"), vec![0; 700], gzip(b"b\n"), vec![0; 3]].concat();
        assert_eq!(unpacked(Codec::Gzip, &padded, 512), (b"a\nb\n".to_vec(), None));
    }
}
