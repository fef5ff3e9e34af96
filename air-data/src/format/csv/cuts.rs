//! [`Cuts`]: a file in pieces of so many bytes. A piece's records are those that begin in it.

use std::sync::OnceLock;

use air_core::BoxError;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::lines::Lines;
use crate::format::FileBytes;

/// The pieces of a file. Whoever reads one goes over its bytes first, and leaves what they tell to the next.
#[derive(Debug)]
pub(crate) struct Cuts {
    pub(super) file: FileBytes,
    header: bool,
    each: u64,
    /// What is known where each piece begins, as far as somebody has gone over the bytes before.
    known: Mutex<Vec<Lines>>,
    /// Of each piece, the records before its first.
    before: Vec<OnceLock<u64>>,
}

/// The records of a piece.
pub(super) struct Begun {
    /// Where they begin in its bytes.
    pub(super) from: usize,
    /// What is known where its bytes end.
    pub(super) lines: Lines,
}

impl Cuts {
    pub(super) fn new(file: FileBytes, delimiter: u8, quote: u8, header: bool, each: u64) -> Self {
        let pieces = file.size().div_ceil(each);
        Self {
            file,
            header,
            each,
            known: Mutex::new(vec![Lines::new(delimiter, quote)]),
            before: (0..pieces).map(|_| OnceLock::new()).collect(),
        }
    }

    /// How many pieces there are.
    pub(crate) fn len(&self) -> usize {
        self.before.len()
    }

    /// Where a piece begins; the end of the file for the one after the last.
    pub(crate) fn start(&self, piece: usize) -> u64 {
        (piece as u64 * self.each).min(self.file.size())
    }

    /// The rows before a piece's first, once it has been opened.
    pub(crate) fn rows_before(&self, piece: usize) -> Option<u64> {
        self.records_before(piece).map(|records| records.saturating_sub(u64::from(self.header)))
    }

    /// As [`rows_before`](Self::rows_before), with the line of names.
    pub(super) fn records_before(&self, piece: usize) -> Option<u64> {
        self.before[piece].get().copied()
    }

    pub(super) async fn read(&self, piece: usize) -> Result<Bytes, BoxError> {
        self.file.range(self.start(piece)..self.start(piece + 1)).await
    }

    /// Finds the records that begin in a piece, whose bytes these are; `None` where there are none. Where quotes cannot be counted (see
    /// [`Lines`]), the piece in which that shows has all records from there on.
    pub(super) async fn begin(&self, piece: usize, bytes: &[u8]) -> Result<Option<Begun>, BoxError> {
        let mut known = self.known.lock().await;
        // Pieces are opened in order as a rule; where one is not, it goes over those before it by itself.
        while known.len() <= piece {
            let mut lines = known[known.len() - 1];
            if lines.regular() {
                lines.pass(&self.read(known.len() - 1).await?);
            }
            known.push(lines);
        }
        let mut lines = known[piece];
        let from = if lines.ended() || piece == 0 { Some(0) } else { lines.pass_line(bytes) };
        let begun = from.filter(|_| lines.regular()).map(|from| {
            let _ = self.before[piece].set(lines.records());
            lines.pass(&bytes[from..]);
            Begun { from, lines }
        });
        if known.len() == piece + 1 {
            known.push(lines);
        }
        Ok(begun)
    }
}
