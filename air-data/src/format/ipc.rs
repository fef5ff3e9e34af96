//! The columns of an Arrow file, out of its footer; and whether something is an Arrow file or stream at all.
//!
//! The engine looks for the columns of files that are not local at their beginning, and expects 8 bytes before them, where most writers leave 64. Of local ones it
//! takes the first bytes for a length, whatever they are, and makes room for that.

use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::root_as_footer;

use super::FileBytes;

/// What an Arrow file begins and ends with.
const MARK: &[u8] = b"ARROW1";

/// The footer's length and the mark behind it.
const TAIL_BYTES: u64 = 10;

/// No footer is longer.
const FOOTER_BYTES: u64 = 64 << 20;

/// What begins a message in a stream, before its length; old ones do without.
const CONTINUES: [u8; 4] = [0xff; 4];

/// `None` for what may be a stream.
pub(crate) async fn columns(file: &FileBytes) -> Result<Option<SchemaRef>, BoxError> {
    let start = file.start(8).await?;
    if !start.starts_with(MARK) {
        let length =
            start.strip_prefix(&CONTINUES).unwrap_or(&start).first_chunk().copied().map(u32::from_le_bytes);
        // A stream begins with the columns, which are shorter than it.
        return match length {
            Some(length) if length > 0 && u64::from(length) < file.size() => Ok(None),
            _ => Err("neither an Arrow file nor a stream of Arrow".into()),
        };
    }
    let cut_short = || format!("an Arrow file of which only the first {} bytes are there", file.size());
    let end = file.size().checked_sub(TAIL_BYTES).ok_or_else(cut_short)?;
    let tail = file.range(end..file.size()).await?;
    let length =
        tail.strip_suffix(MARK).and_then(|length| length.first_chunk().copied()).map(u32::from_le_bytes);
    let length = u64::from(length.ok_or_else(cut_short)?);
    let Some(start) = end.checked_sub(length).filter(|_| length <= FOOTER_BYTES) else {
        return Err(format!("a footer of {length} bytes in a file of {}", file.size()).into());
    };
    let footer = file.range(start..end).await?;
    let footer = root_as_footer(&footer).map_err(|e| format!("a footer that cannot be read: {e}"))?;
    let schema = footer.schema().ok_or("a footer without columns")?;
    Ok(Some(Arc::new(fb_to_schema(schema))))
}
