//! [`ConfigError`]: which file, line, variable or flag is wrong, and what would be right.

use std::io;
use std::path::PathBuf;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration `{}` is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The file is not TOML, or not YAML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A flag or variable does not say what to set.
    #[error("{origin}: {reason}")]
    BadOverride {
        /// Where it comes from.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is unknown, missing, or has a value of the wrong kind.
    #[error("{origin}: {message}{}", hint(suggestion.as_deref()))]
    Invalid {
        /// Where it comes from.
        origin: Origin,
        /// The key, with dots between its parts; empty for the whole configuration.
        key: String,
        /// What is wrong, the key included.
        message: String,
        /// The known key or value nearest to what was written.
        suggestion: Option<String>,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nothing was given.
    Defaults,
    /// A file, or one line of it.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if it is one line.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// A flag `--set KEY=VALUE`: the text after `--set`.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Defaults => write!(f, "configuration"),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(text) => write!(f, "--set {text}"),
        }
    }
}
