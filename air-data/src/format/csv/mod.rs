//! Comma-separated values. The engine tells the columns' types; the rows we read, large files in pieces at the same time.
//!
//! | file | what |
//! |---|---|
//! | `lines` | where records end, told without parsing them |
//! | `cuts` | the pieces of a file, and what is known at their borders |
//! | `source` | the bytes of a file or of a piece, from its first record to the end of its last |

mod cuts;
mod lines;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

pub(crate) use self::cuts::Cuts;
use self::source::Source;
use super::{FileBytes, Format, VALUE_BYTES, Want};

/// Bytes of a piece, at least and at most.
const PIECE_BYTES: (u64, u64) = (2 << 20, 16 << 20);

/// Pieces of a file that is neither small nor huge, at most.
const PIECES: u64 = 2048;

/// How values are told from each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Csv {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
    pub(super) comment: Option<u8>,
    pub(super) header: bool,
}

impl Csv {
    /// Whether files can be cut: what is commented out may hold any quotes, so that they cannot be counted.
    pub(crate) fn can_be_cut(self) -> bool {
        self.comment.is_none()
    }

    pub(crate) fn cuts(self, file: FileBytes) -> Arc<Cuts> {
        let each = (file.size() / PIECES).clamp(PIECE_BYTES.0, PIECE_BYTES.1);
        Arc::new(Cuts::new(file, self.delimiter, self.quote, self.header, each))
    }

    fn decoder(self, want: &Want, header: bool) -> Result<Decoder, BoxError> {
        let wanted = want.columns.fields().iter().map(|field| want.all.index_of(field.name()));
        let mut builder = ReaderBuilder::new(want.all.clone())
            .with_projection(wanted.collect::<Result<_, _>>()?)
            .with_delimiter(self.delimiter)
            .with_quote(self.quote)
            .with_header(header)
            .with_batch_size(want.rows);
        if let Some(comment) = self.comment {
            builder = builder.with_comment(comment);
        }
        Ok(builder.build_decoder())
    }

    /// The rows of a source, of which `header` says whether it begins with the columns' names.
    fn rows(
        self,
        source: Source,
        header: bool,
        want: &Want,
    ) -> Result<BoxStream<'static, Result<RecordBatch, BoxError>>, BoxError> {
        let decoder = self.decoder(want, header)?;
        let rows = Rows { decoder, source, chunk: Bytes::new(), over: false, record: 0 };
        let batches = futures::stream::try_unfold(rows, |mut rows| async move {
            Ok(rows.next().await?.map(|batch| (batch, rows)))
        });
        Ok(batches.boxed())
    }
}

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn look(&self, _: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        futures::future::ready(Err("the engine tells the columns of CSV".into())).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let csv = *self;
        let Some(pieces) = want.pieces.clone() else {
            let rows = csv.rows(Source::whole(&file), csv.header, &want);
            return futures::stream::once(futures::future::ready(rows)).try_flatten().boxed();
        };
        let pieces = futures::stream::iter(pieces).map(Ok::<_, BoxError>);
        let rows = pieces.and_then(move |(cuts, index)| {
            let want = want.clone();
            async move {
                match Source::piece(cuts, index).await? {
                    Some(source) => csv.rows(source, csv.header && index == 0, &want),
                    None => Ok(futures::stream::empty().boxed()),
                }
            }
        });
        rows.try_flatten().boxed()
    }
}

/// Records on their way to batches.
struct Rows {
    decoder: Decoder,
    source: Source,
    chunk: Bytes,
    /// Whether the source has ended.
    over: bool,
    /// Bytes since the end of a record, about.
    record: u64,
}

impl Rows {
    async fn next(&mut self) -> Result<Option<RecordBatch>, BoxError> {
        // Whoever waited for the batch before has been woken on this thread, where no other takes it up before this task pauses.
        tokio::task::yield_now().await;
        loop {
            while self.chunk.is_empty() && !self.over {
                match self.source.next().await? {
                    Some(chunk) => self.chunk = chunk,
                    None => self.over = true,
                }
            }
            // No bytes at all tell the decoder that the last record ends here.
            let room = self.decoder.capacity();
            let used = self.decoder.decode(&self.chunk).map_err(|error| self.placed(error))?;
            self.chunk.advance(used);
            self.record = if self.decoder.capacity() == room { self.record + used as u64 } else { 0 };
            if self.record > VALUE_BYTES {
                return Err(format!(
                    "a record of more than {VALUE_BYTES} bytes: a quote that does not end, or no line ends"
                )
                .into());
            }
            if self.decoder.capacity() == 0 || self.over && self.chunk.is_empty() {
                return self.decoder.flush().map_err(|error| self.placed(error));
            }
        }
    }

    /// The error with the line of the file, where it has that of the piece.
    fn placed(&self, error: ArrowError) -> BoxError {
        let before = self.source.records_before();
        match error {
            ArrowError::CsvError(text) => ArrowError::CsvError(later(text, before)),
            ArrowError::ParseError(text) => ArrowError::ParseError(later(text, before)),
            other => other,
        }
        .into()
    }
}

/// Adds to the number of the line that a message of the decoder's names.
fn later(text: String, lines: u64) -> String {
    // A value that is quoted before the number may hold anything.
    let from = text.find("' as type '").unwrap_or(0);
    let Some(at) = text[from..].find("line ").map(|at| from + at + "line ".len()) else { return text };
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    match text[at..at + digits].parse::<u64>() {
        Ok(line) => format!("{}{}{}", &text[..at], line + lines, &text[at + digits..]),
        Err(_) => text,
    }
}
