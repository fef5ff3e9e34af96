//! [`CoreError`]: the one error type of this crate, and [`BoxError`] for what user code returns.
//!
//! Each part keeps its own small error type with structured fields (which path, which rank, which key);
//! `CoreError` holds any of them, so a caller that does not care needs one `?` and one variant.

/// An error of user code: anything that implements [`std::error::Error`] and may move between threads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error is [`CoreError`].
pub type Result<T, E = CoreError> = std::result::Result<T, E>;

/// Everything that can go wrong in `air-core`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A checkpoint was not saved or cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// A collective call did not happen.
    #[error(transparent)]
    Collective(#[from] crate::collective::CollectiveError),
    /// A tensor could not be made, viewed or moved.
    #[error(transparent)]
    Tensor(#[from] crate::tensor::TensorError),
    /// A device cannot be had, or failed.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// Columns do not make a batch.
    #[error(transparent)]
    Batch(#[from] crate::data::BatchError),
    /// An object has no value.
    #[error(transparent)]
    Object(#[from] crate::object::ObjectError),
    /// A file or object could not be read or written.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
    /// A value cannot cross to another process.
    #[error(transparent)]
    Wire(#[from] crate::wire::WireError),
    /// A metric cannot be had.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// A file, variable or flag of the configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] crate::config::ConfigError),
    /// Resources cannot be had.
    #[error(transparent)]
    Resource(#[from] crate::resource::ResourceError),
    /// A seed written as text could not be read back.
    #[error(transparent)]
    Seed(#[from] crate::seed::ParseSeedError),
    /// A worker, supervisor or group was described in a way that cannot be run.
    #[error("{message}")]
    Config {
        /// What, and what to do instead.
        message: String,
    },
    /// A name belongs to a worker of another type.
    #[error(
        "the name `{name}` belongs to a worker of type {found}, not {wanted}; choose another name, or another namespace before it"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The type of the worker that has it.
        found: &'static str,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread {
        /// The system's reason.
        source: std::io::Error,
    },
    /// The state cannot be served on this port.
    #[error("cannot serve the state on port {port} of this machine")]
    Listen {
        /// The port; 0 is any.
        port: u16,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The runtime has been dropped.
    #[error("the runtime has ended")]
    Stopped,
    /// A message was never handled; it is safe to send it again.
    #[error("message was not handled: {reason}")]
    Undelivered {
        /// Why.
        reason: crate::actor::Reason,
    },
    /// A worker ended while it handled a message, which may have had effects.
    #[error("the worker handling the message {exit}")]
    Died {
        /// Why it ended.
        exit: crate::actor::Exit,
    },
    /// A worker's handler returned this error.
    #[error("{0}")]
    Worker(BoxError),
    /// A deadline passed while a message was being handled; it may have effects.
    #[error("deadline passed while the message was being handled")]
    Expired,
}
