//! Lines of text: a row for each.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{BATCH_BYTES, FileBytes, Format, Want, batch};

/// A longer line is an error.
const LINE_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn look(&self, _: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        let field = Field::new("text", DataType::Utf8, false);
        futures::future::ready(Ok(Schema::new(vec![field]))).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let state = (file.chunks(), Lines { rest: Vec::new(), at: 0, line: 0 }, false, want);
        let batches =
            futures::stream::try_unfold(state, |(mut chunks, mut lines, mut over, want)| async move {
                loop {
                    if let Some(texts) = lines.take(want.rows, over)? {
                        let rows = texts.len();
                        let columns: Vec<ArrayRef> = want
                            .columns
                            .fields()
                            .iter()
                            .map(|_| Arc::new(texts.clone()) as ArrayRef)
                            .collect();
                        let batch = batch(want.columns.clone(), columns, rows)?;
                        return Ok(Some((batch, (chunks, lines, over, want))));
                    }
                    if over {
                        return Ok(None);
                    }
                    match chunks.try_next().await? {
                        Some(chunk) => lines.push(&chunk)?,
                        None => over = true,
                    }
                }
            });
        batches.boxed()
    }
}

/// Text that is cut into lines.
struct Lines {
    rest: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    /// Lines cut so far.
    line: u64,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<(), BoxError> {
        self.rest.drain(..self.at);
        self.at = 0;
        if self.rest.len() > LINE_BYTES && !chunk.contains(&b'\n') {
            return Err(format!("line {} is longer than {LINE_BYTES} bytes", self.line + 1).into());
        }
        self.rest.extend_from_slice(chunk);
        Ok(())
    }

    /// `rows` lines, or at the end of the file what there is; nothing when more has to be read first.
    fn take(&mut self, rows: usize, over: bool) -> Result<Option<StringArray>, BoxError> {
        let mut ends = Vec::with_capacity(rows.min(8192));
        let mut from = self.at;
        let full = |lines: usize, from: usize| lines == rows || from - self.at >= BATCH_BYTES;
        while !full(ends.len(), from) {
            match self.rest[from..].iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    ends.push((from, from + length));
                    from += length + 1;
                }
                None if over && from < self.rest.len() => {
                    ends.push((from, self.rest.len()));
                    from = self.rest.len();
                }
                None => break,
            }
        }
        if ends.is_empty() || !full(ends.len(), from) && !over {
            return Ok(None);
        }
        let mut texts = Vec::with_capacity(ends.len());
        for (number, (start, end)) in ends.into_iter().enumerate() {
            let line = &self.rest[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            texts.push(std::str::from_utf8(line).map_err(|error| {
                let line = self.line + number as u64 + 1;
                format!("line {line}: not UTF-8 after {} bytes", error.valid_up_to())
            })?);
        }
        let array = StringArray::from_iter_values(&texts);
        self.line += texts.len() as u64;
        self.at = from;
        Ok(Some(array))
    }
}
