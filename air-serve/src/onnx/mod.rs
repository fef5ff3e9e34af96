//! ONNX models: classical machine learning as scikit-learn exports it, and multi-layer perceptrons; networks of all kinds by others, behind
//! features (`net`).
//!
//! ```text
//! bytes ── scan.rs ── prost (proto.rs) ── Graph::build ── ops/ ── Graph::run
//!          lengths,    fields that        slots, checks   one file a family
//!          memory      serving reads
//! ```
//!
//! A [`Graph`] is immutable and shared by all replicas. What a file claims is checked when it is loaded: afterwards evaluation
//! can fail only on an input that does not fit, never by an index out of range, a cycle or an allocation that the
//! file's size does not justify.

mod error;
mod graph;
mod model;
mod net;
mod node;
mod ops;
mod proto;
mod request;
mod tensors;
mod value;

use std::path::Path;

use crate::scan;

pub use error::{InputMismatch, OnnxError};
pub use graph::{Graph, Port};
pub use model::{Answer, OnnxModel, Prediction, Vector};
pub use request::{GraphModel, OnnxAnswer, OnnxRequest};
pub(crate) use tensors::{GraphCodec, rows};
pub use value::{Labels, Value};

/// Larger files are refused: 2 GiB, which is also the limit of the protobuf format.
pub const MAX_FILE_BYTES: u64 = (1 << 31) - 1;

/// Reads a model from a file.
pub fn load(path: impl AsRef<Path>) -> Result<Graph, OnnxError> {
    let path = path.as_ref();
    read(path).map_err(|source| OnnxError::File { path: path.to_owned(), source: Box::new(source) })
}

fn read(path: &Path) -> Result<Graph, OnnxError> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(OnnxError::TooLarge { bytes, limit: MAX_FILE_BYTES });
    }
    from_bytes(&std::fs::read(path)?)
}

/// Reads a model from memory.
pub fn from_bytes(bytes: &[u8]) -> Result<Graph, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::NotOnnx { offset: 0, reason: "the file is empty".to_owned() });
    }
    scan::scan(scan::Kind::Model, bytes)
        .map_err(|fault| OnnxError::NotOnnx { offset: fault.offset, reason: fault.reason })?;
    let model = <proto::Model as prost::Message>::decode(bytes)
        .map_err(|error| OnnxError::NotOnnx { offset: bytes.len(), reason: error.to_string() })?;
    match Graph::build(&model) {
        Err(OnnxError::Unsupported { node, operator, .. }) => match net::load(bytes) {
            Ok(net) => Graph::of_net(&model, net),
            Err(reason) => Err(OnnxError::Unsupported { node, operator, reason }),
        },
        built => built,
    }
}
