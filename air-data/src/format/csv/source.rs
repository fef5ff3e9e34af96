//! [`Source`]: the bytes of a file or of a piece, from its first record to the end of its last.

use std::sync::Arc;

use air_core::BoxError;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::cuts::{Begun, Cuts};
use super::lines::Lines;
use crate::format::FileBytes;

/// Bytes asked for at once to find the end of a piece's last record.
const LINE_BYTES: u64 = 64 << 10;

/// Bytes that come chunk by chunk.
pub(super) struct Source {
    first: Option<Bytes>,
    rest: Rest,
    records_before: u64,
}

/// What follows the bytes at hand.
enum Rest {
    Nothing,
    /// The rest of a record of this file: up to the first line end outside quotes from this byte on.
    Record(FileBytes, Lines, u64),
    /// All there is.
    All(BoxStream<'static, Result<Bytes, BoxError>>),
}

impl Source {
    pub(super) fn whole(file: &FileBytes) -> Self {
        Self { first: None, rest: Rest::All(file.chunks()), records_before: 0 }
    }

    /// `None` where no record begins in the piece.
    pub(super) async fn piece(cuts: Arc<Cuts>, piece: usize) -> Result<Option<Self>, BoxError> {
        let bytes = cuts.read(piece).await?;
        let begun = cuts.begin(piece, &bytes).await?;
        // The reader of the next piece may have waited for that, and been woken on this thread, where no other takes it up before this
        // task pauses.
        tokio::task::yield_now().await;
        let Some(Begun { from, lines }) = begun else { return Ok(None) };
        let end = cuts.start(piece + 1);
        let rest = if !lines.regular() {
            Rest::All(cuts.file.chunks_after(end))
        } else if lines.ended() {
            Rest::Nothing
        } else {
            Rest::Record(cuts.file.clone(), lines, end)
        };
        let records_before = cuts.records_before(piece).unwrap_or(0);
        Ok(Some(Self { first: Some(bytes.slice(from..)), rest, records_before }))
    }

    pub(super) fn records_before(&self) -> u64 {
        self.records_before
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Nothing => Ok(None),
            Rest::All(mut chunks) => {
                let chunk = chunks.try_next().await?;
                if chunk.is_some() {
                    self.rest = Rest::All(chunks);
                }
                Ok(chunk)
            }
            Rest::Record(file, mut lines, at) => {
                let end = (at + LINE_BYTES).min(file.size());
                if at == end {
                    return Ok(None);
                }
                let chunk = file.range(at..end).await?;
                match lines.pass_line(&chunk) {
                    Some(line) if lines.regular() => return Ok(Some(chunk.slice(..line))),
                    _ if !lines.regular() => self.rest = Rest::All(file.chunks_after(end)),
                    _ => self.rest = Rest::Record(file, lines, end),
                }
                Ok(Some(chunk))
            }
        }
    }
}
