//! [`CheckpointError`]: why a checkpoint was not saved or cannot be used.

/// Why a checkpoint was not saved or cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is no checkpoint at the location.
    #[error("no checkpoint in `{location}`")]
    NotFound {
        /// Where none is.
        location: String,
    },
    /// A save that did not finish: there are files, but no manifest.
    #[error("checkpoint `{checkpoint}` is incomplete: its manifest is missing, so its save did not finish")]
    Incomplete {
        /// The checkpoint's directory.
        checkpoint: String,
    },
    /// A file is not what was saved.
    #[error("checkpoint `{checkpoint}` is corrupt: `{file}` {reason}")]
    Corrupt {
        /// The checkpoint's directory.
        checkpoint: String,
        /// The file in it.
        file: String,
        /// How it differs from what was saved.
        reason: String,
    },
    /// The checkpoint was written by a later version.
    #[error("checkpoint `{checkpoint}` has format {format}; this version reads formats up to {supported}")]
    NewerFormat {
        /// The checkpoint's directory.
        checkpoint: String,
        /// Its format.
        format: u32,
        /// The last format this version knows.
        supported: u32,
    },
    /// The checkpoint has no file of that name.
    #[error("checkpoint `{checkpoint}` has no file `{file}`; it has: {files}")]
    NoSuchFile {
        /// The checkpoint's directory.
        checkpoint: String,
        /// The name asked for.
        file: String,
        /// The names there are, with commas between.
        files: String,
    },
    /// A file cannot be saved under that name.
    #[error("`{file}` cannot be the name of a checkpoint's file: {reason}")]
    BadName {
        /// The name.
        file: String,
        /// Why not.
        reason: &'static str,
    },
    /// There are too many of something.
    #[error("a checkpoint holds at most {limit} {what}, not {count}")]
    TooMany {
        /// Files, or metrics.
        what: &'static str,
        /// How many there were.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The best checkpoint was asked for, but nothing says what is good.
    #[error("no score is configured, so no checkpoint is the best; set `retention.score`")]
    NoScore,
    /// The retention would keep nothing.
    #[error("`retention.keep` must be at least 1")]
    KeepsNothing,
}
