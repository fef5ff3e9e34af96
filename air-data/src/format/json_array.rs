//! JSON files that are one array of objects: a row for each object.

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::Value;

use super::{BATCH_BYTES, FileBytes, Format, LOOK_BYTES, LOOK_ROWS, VALUE_BYTES, Want, batch};

#[derive(Debug)]
pub(super) struct JsonArray;

impl Format for JsonArray {
    fn name(&self) -> &'static str {
        "json array"
    }

    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        async move {
            let mut elements = Elements::default();
            let mut values: Vec<Value> = Vec::new();
            let mut looked = 0;
            let mut chunks = file.chunks();
            let enough = |values: &Vec<Value>| values.len() as u64 >= LOOK_ROWS;
            while !enough(&values) && looked < LOOK_BYTES {
                let Some(chunk) = chunks.try_next().await? else {
                    elements.over()?;
                    break;
                };
                looked += chunk.len() as u64;
                let mut rest = &chunk[..];
                while !rest.is_empty() && !enough(&values) {
                    rest = elements.push(rest, LOOK_ROWS as usize)?;
                    for (number, element) in elements.each() {
                        values.push(serde_json::from_slice(element).map_err(|error| on(number, error))?);
                    }
                    elements.clear();
                }
            }
            Ok(infer_json_schema_from_iterator(values.iter().map(Ok))?)
        }
        .boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let state = (file.chunks(), Elements::default(), bytes::Bytes::new(), want);
        let batches =
            futures::stream::try_unfold(state, |(mut chunks, mut elements, mut chunk, want)| async move {
                loop {
                    if chunk.is_empty() {
                        let Some(next) = chunks.try_next().await? else {
                            elements.over()?;
                            let last = elements.decode(&want.columns)?;
                            return Ok(last.map(|batch| (batch, (chunks, elements, chunk, want))));
                        };
                        chunk = next;
                    }
                    let left = elements.push(&chunk, want.rows)?.len();
                    chunk = chunk.split_off(chunk.len() - left);
                    if elements.full(want.rows)
                        && let Some(batch) = elements.decode(&want.columns)?
                    {
                        return Ok(Some((batch, (chunks, elements, chunk, want))));
                    }
                }
            });
        batches.boxed()
    }
}

fn on(element: u64, error: impl std::fmt::Display) -> BoxError {
    format!("element {element}: {error}").into()
}

/// Where in the array the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum State {
    /// Before its beginning.
    #[default]
    Before,
    /// At an element; at the first there may be none.
    At { first: bool },
    /// In an element, so deep.
    In { depth: u32, text: bool, escaped: bool },
    /// Behind an element.
    Behind,
    /// Behind its end.
    Over,
}

/// An array that is cut into its elements.
#[derive(Debug, Default)]
struct Elements {
    state: State,
    /// The elements cut so far that nobody has taken, each with a line end, and what there is of the next.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Elements that were taken.
    taken: u64,
}

impl Elements {
    fn full(&self, rows: usize) -> bool {
        self.ends.len() >= rows || self.ends.last().is_some_and(|end| *end >= BATCH_BYTES)
    }

    /// Cuts bytes; what is left of them when there are enough elements.
    fn push<'a>(&mut self, bytes: &'a [u8], rows: usize) -> Result<&'a [u8], BoxError> {
        let number = |this: &Self| this.taken + this.ends.len() as u64;
        let mut begin = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            self.state = match self.state {
                State::In { depth, text: true, escaped } => {
                    let text = escaped || byte != b'"';
                    State::In { depth, text, escaped: !escaped && byte == b'\\' }
                }
                State::In { depth, .. } => match byte {
                    b'{' | b'[' => State::In { depth: depth + 1, text: false, escaped: false },
                    b'}' | b']' if depth == 1 => {
                        self.bytes.extend_from_slice(&bytes[begin..=at]);
                        self.bytes.push(b'\n');
                        self.ends.push(self.bytes.len());
                        State::Behind
                    }
                    b'}' | b']' => State::In { depth: depth - 1, text: false, escaped: false },
                    byte => State::In { depth, text: byte == b'"', escaped: false },
                },
                state if byte.is_ascii_whitespace() => state,
                State::Before if byte == b'[' => State::At { first: true },
                State::Before => return Err("no array: it does not begin with [".into()),
                State::At { .. } if byte == b'{' => {
                    begin = at;
                    State::In { depth: 1, text: false, escaped: false }
                }
                State::At { first: true } | State::Behind if byte == b']' => State::Over,
                State::At { .. } => return Err(on(number(self), "no object: it does not begin with {")),
                State::Behind if byte == b',' => State::At { first: false },
                State::Behind => {
                    return Err(on(number(self) - 1, "something other than , or ] comes after it"));
                }
                State::Over => {
                    return Err(format!(
                        "something comes after the end of the array, which has {} elements",
                        number(self)
                    )
                    .into());
                }
            };
            if self.state == State::Behind && self.full(rows) {
                return Ok(&bytes[at + 1..]);
            }
        }
        if let State::In { depth, .. } = self.state {
            let begun = self.ends.last().copied().unwrap_or(0);
            self.bytes.extend_from_slice(&bytes[begin..]);
            if (self.bytes.len() - begun) as u64 > VALUE_BYTES {
                return Err(on(number(self), format_args!("more than {VALUE_BYTES} bytes")));
            }
            if depth == u32::MAX {
                return Err(on(number(self), "too deep"));
            }
        }
        Ok(&[])
    }

    /// At the end of the file: whether the array has ended, too.
    fn over(&self) -> Result<(), BoxError> {
        if self.state == State::Over {
            return Ok(());
        }
        let elements = self.taken + self.ends.len() as u64;
        Err(format!("cut short: the array does not end; {elements} elements do").into())
    }

    /// The elements cut, with their numbers.
    fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let elements = begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end]);
        (self.taken..).zip(elements)
    }

    fn clear(&mut self) {
        self.taken += self.ends.len() as u64;
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.drain(..end);
        self.ends.clear();
    }

    /// The elements cut as a batch; they are taken.
    fn decode(&mut self, columns: &SchemaRef) -> Result<Option<RecordBatch>, BoxError> {
        let rows = self.ends.len();
        if rows == 0 {
            return Ok(None);
        }
        if columns.fields().is_empty() {
            self.clear();
            return Ok(Some(batch(columns.clone(), Vec::new(), rows)?));
        }
        let end = self.ends[rows - 1];
        let decoded = match decode(&self.bytes[..end], rows, columns) {
            Ok(Some(decoded)) if decoded.num_rows() == rows => decoded,
            // The decoder does not say in which, so each is asked by itself.
            outcome => {
                for (number, element) in self.each() {
                    match decode(element, 1, columns) {
                        Ok(Some(_)) => {}
                        Ok(None) => return Err(on(number, "no object")),
                        Err(ArrowError::JsonError(reason)) => return Err(on(number, reason)),
                        Err(error) => return Err(on(number, error)),
                    }
                }
                outcome?;
                return Err(
                    format!("elements {}..{} are not objects", self.taken, self.taken + rows as u64).into()
                );
            }
        };
        self.clear();
        Ok(Some(decoded))
    }
}

fn decode(bytes: &[u8], rows: usize, columns: &SchemaRef) -> Result<Option<RecordBatch>, ArrowError> {
    let mut decoder = ReaderBuilder::new(columns.clone()).with_batch_size(rows).build_decoder()?;
    decoder.decode(bytes)?;
    decoder.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The elements, when the bytes come in pieces.
    fn cut(text: &str, piece: usize) -> Result<Vec<String>, String> {
        let mut elements = Elements::default();
        for piece in text.as_bytes().chunks(piece) {
            let rest = elements.push(piece, usize::MAX).map_err(|error| error.to_string())?;
            assert!(rest.is_empty());
        }
        elements.over().map_err(|error| error.to_string())?;
        Ok(elements
            .each()
            .map(|(_, element)| String::from_utf8_lossy(element).trim_end().to_owned())
            .collect())
    }

    #[test]
    fn arrays_are_cut_into_objects_however_they_come() {
        let text = "\n [ {\"a\": \"]},{\\\"\"}, {\"b\": [1, {}]} ,\n{}]\n";
        for piece in 1..text.len() {
            assert_eq!(
                cut(text, piece).unwrap(),
                [r#"{"a": "]},{\""}"#, r#"{"b": [1, {}]}"#, "{}"],
                "{piece}"
            );
        }
        assert!(cut("[]", 1).unwrap().is_empty());
        for (text, told) in [
            ("{}", "no array"),
            ("[1]", "element 0: no object"),
            ("[{}, ]", "element 1: no object"),
            ("[{} {}]", "element 0: something other"),
            ("[{}] x", "after the end of the array, which has 1 elements"),
            ("[{}, {", "cut short: the array does not end; 1 elements do"),
            ("", "cut short"),
        ] {
            for piece in [1, 100] {
                let error = cut(text, piece).unwrap_err();
                assert!(error.contains(told), "{text}: {error}");
            }
        }
    }
}
