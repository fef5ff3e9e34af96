//! Items that are bytes.

use bytes::Bytes;

/// A piece of an answer that goes over HTTP as it is: text, audio, a file. Pieces follow each other without anything between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl From<String> for Raw {
    fn from(text: String) -> Self {
        Raw(text.into())
    }
}

impl From<&'static str> for Raw {
    fn from(text: &'static str) -> Self {
        Raw(text.into())
    }
}

impl From<Vec<u8>> for Raw {
    fn from(bytes: Vec<u8>) -> Self {
        Raw(bytes.into())
    }
}
