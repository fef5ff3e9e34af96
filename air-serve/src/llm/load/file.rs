//! Files of a model's directory.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::llm::LlmError;

/// The largest text file that is read: tokenizers of large vocabularies have some tens of megabytes.
const MAX_TEXT: u64 = 256 << 20;

/// Opens a file; the hint says what it is for.
pub(super) fn open(path: &Path, hint: &'static str) -> Result<File, LlmError> {
    File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => LlmError::Missing { path: path.to_owned(), hint },
        _ => LlmError::Read { path: path.to_owned(), source },
    })
}

/// Reads a text file as a whole.
pub(crate) fn bytes(path: &Path, hint: &'static str) -> Result<Vec<u8>, LlmError> {
    let unread = |source| LlmError::Read { path: path.to_owned(), source };
    let file = open(path, hint)?;
    let bytes = file.metadata().map_err(unread)?.len();
    if bytes > MAX_TEXT {
        return Err(LlmError::TooLarge { path: path.to_owned(), bytes, limit: MAX_TEXT });
    }
    let mut text = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut text).map_err(unread)?;
    Ok(text)
}

/// Reads a JSON file.
pub(crate) fn json<T: DeserializeOwned>(path: &Path, hint: &'static str) -> Result<T, LlmError> {
    serde_json::from_slice(&bytes(path, hint)?)
        .map_err(|source| LlmError::Json { path: path.to_owned(), source })
}

/// Reads a JSON file if there is one.
pub(crate) fn json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LlmError> {
    match json(path, "") {
        Err(LlmError::Missing { .. }) => Ok(None),
        read => read.map(Some),
    }
}
