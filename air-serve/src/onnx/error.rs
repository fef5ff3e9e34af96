//! What can be wrong with a model file, a graph or an input.

use std::path::PathBuf;

/// Errors of loading and evaluating ONNX models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Loading this file failed; the source says why.
    #[error("cannot load the model {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<OnnxError>,
    },
    /// The file could not be read.
    #[error("cannot read the file")]
    Read(#[from] std::io::Error),
    /// The file is larger than [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    #[error("the file has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not an ONNX model, or not a whole one.
    #[error("not an ONNX model: {reason} at byte {offset}")]
    NotOnnx {
        /// Where reading failed, in bytes from the start.
        offset: usize,
        /// What was wrong there.
        reason: String,
    },
    /// The graph is not one that can be evaluated.
    #[error("the graph is not valid: {reason}")]
    Graph {
        /// What is wrong.
        reason: String,
    },
    /// No evaluator for this operator is built in.
    #[error("node `{node}` uses the operator {operator}, which is not supported: {reason}")]
    Unsupported {
        /// Name of the node, or its first output where it has none.
        node: String,
        /// Domain and operator, as in `ai.onnx.ml.SVMClassifier`.
        operator: String,
        /// Why no other evaluator takes the graph either.
        reason: String,
    },
    /// A node's attributes or constants are missing or contradict each other.
    #[error("node `{node}` ({operator}): {reason}")]
    Node {
        /// Name of the node, or its first output where it has none.
        node: String,
        /// Domain and operator.
        operator: String,
        /// What is wrong.
        reason: String,
    },
    /// The model does not do what the caller wants to use it for.
    #[error("the model cannot be served this way: {reason}")]
    Unfit {
        /// What is missing.
        reason: String,
    },
    /// The given input does not fit the model's.
    #[error("{0}")]
    Input(#[from] InputMismatch),
}

/// An input that does not fit: the caller's mistake, not the model's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct InputMismatch {
    /// What the model takes.
    pub expected: String,
    /// What was given.
    pub got: String,
}

/// Why a single operator could not be built or run; the graph adds the node's name.
pub(crate) type Reason = String;
