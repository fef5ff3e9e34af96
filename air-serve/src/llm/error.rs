//! What can be wrong with a directory that should hold a language model.

use std::fmt;
use std::path::PathBuf;

/// Why a directory cannot be served as a language model. Each says which file or tensor, what is expected of it, and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// A file that every model has is not there.
    #[error("`{}` is missing: {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it is for, and where it comes from.
        hint: &'static str,
    },
    /// A file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file is larger than such a file may be.
    #[error("`{}` has {bytes} bytes, more than the {limit} that are read of such a file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file is not the JSON it should be.
    #[error("`{}` is not what is expected", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The network is of a kind that is not served.
    #[error(
        "`{}`: the architecture {found} is not supported; there are LlamaForCausalLM, MistralForCausalLM, \
         Qwen2ForCausalLM, Qwen3ForCausalLM and BertModel", path.display()
    )]
    Architecture {
        /// The file that names it.
        path: PathBuf,
        /// What it names.
        found: String,
    },
    /// A setting of a model's file makes no sense, or asks for what is not supported.
    #[error("`{}`: `{key}` {reason}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is not in any of the files.
    #[error("the tensor `{tensor}` of shape {expected} is in none of the safetensors files of `{}`", directory.display())]
    NoTensor {
        /// Its name.
        tensor: String,
        /// The shape it should have.
        expected: Shape,
        /// The model's directory.
        directory: PathBuf,
    },
    /// A tensor is of another shape than the configuration says.
    #[error("the tensor `{tensor}` has the shape {found}, expected {expected} by config.json")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape it should have.
        expected: Shape,
        /// The shape it has.
        found: Shape,
    },
    /// A tensor's numbers are of a type that is not computed with.
    #[error("the tensor `{tensor}` is of type {found}, expected F32, BF16 or F16")]
    Dtype {
        /// Its name.
        tensor: String,
        /// The type.
        found: String,
    },
    /// A file of weights is not whole.
    #[error("`{}` is not a whole safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer cannot be used.
    #[error("`{}`: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The chat template cannot be used.
    #[error("the chat template of `{}` cannot be used: {reason}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit that a model is to be served with makes no sense.
    #[error("{message}")]
    Config {
        /// What is wrong with it.
        message: String,
    },
}

/// A shape, written as `[rows, columns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
