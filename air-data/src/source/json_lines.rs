//! The columns of a file of JSON lines, and where in it an error lies: the decoders count from wherever they began, or not at all, so the line
//! is looked for once there is an error.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::{Decoder, infer_json_schema};
use datafusion::common::DataFusionError;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::de::IgnoredAny;

use crate::format::{FileBytes, LOOK_ROWS};

/// A longer line is not looked into.
const LINE_BYTES: usize = 64 << 20;

/// Bytes that are looked at for the columns, where they are not enough rows.
const LOOK_BYTES: usize = LINE_BYTES;

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct SpoiltLine {
    /// Its number in the file, from 1.
    line: u64,
    reason: String,
}

/// The columns that the first lines of a file have.
pub(super) async fn columns(file: &FileBytes) -> Result<Schema, DataFusionError> {
    let (mut chunks, mut start, mut lines) = (file.looked(), Vec::new(), 0);
    while lines < LOOK_ROWS as usize && start.len() < LOOK_BYTES {
        let Some(chunk) = chunks.next().await.transpose().map_err(DataFusionError::External)? else {
            return inferred(&start);
        };
        lines += chunk.split(|byte| *byte == b'\n').count() - 1;
        start.extend_from_slice(&chunk);
    }
    // The last line may not have come as a whole.
    let whole = start.iter().rposition(|byte| *byte == b'\n').map_or(start.len(), |end| end + 1);
    inferred(&start[..whole])
}

fn inferred(lines: &[u8]) -> Result<Schema, DataFusionError> {
    Ok(infer_json_schema(lines, Some(LOOK_ROWS as usize))?.0)
}

/// Whether the error is about what a file says, as opposed to how it was got.
pub(super) fn is_about_content(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => matches!(**error, ArrowError::JsonError(_)),
        _ => false,
    }
}

/// The first line of the file that is not an object, or not one with these columns; nothing if there is none, or it cannot be read.
pub(super) async fn find(
    store: &dyn ObjectStore,
    file: &Path,
    columns: Option<&SchemaRef>,
) -> Option<SpoiltLine> {
    let mut decoder = match columns {
        Some(columns) => Some(ReaderBuilder::new(columns.clone()).build_decoder().ok()?),
        None => None,
    };
    let mut chunks = store.get(file).await.ok()?.into_stream();
    let (mut line, mut rest) = (0, Vec::new());
    while let Some(chunk) = chunks.next().await {
        rest.extend_from_slice(&chunk.ok()?);
        let mut begin = 0;
        while let Some(len) = rest[begin..].iter().position(|&byte| byte == b'\n') {
            line += 1;
            if let Err(reason) = check(&rest[begin..begin + len], decoder.as_mut()) {
                return Some(SpoiltLine { line, reason });
            }
            begin += len + 1;
        }
        rest.drain(..begin);
        if rest.len() > LINE_BYTES {
            return None;
        }
    }
    let reason = check(&rest, decoder.as_mut()).err()?;
    Some(SpoiltLine { line: line + 1, reason })
}

fn check(line: &[u8], decoder: Option<&mut Decoder>) -> Result<(), String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 after {} bytes", error.valid_up_to()))?;
    let text = text.trim_end();
    if text.is_empty() {
        return Ok(());
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        // It counts lines, too, and there is but one.
        let (said, column) = (error.to_string(), error.column());
        let said = said.split(" at line ").next().unwrap_or_default();
        format!("column {column}: {said}")
    })?;
    if !text.trim_start().starts_with('{') {
        return Err("not an object".into());
    }
    if let Some(decoder) = decoder {
        let decoded = decoder.decode(text.as_bytes()).and_then(|_| decoder.flush());
        decoded.map_err(|error| match error {
            ArrowError::JsonError(reason) => reason,
            other => other.to_string(),
        })?;
    }
    Ok(())
}
