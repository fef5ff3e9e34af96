//! What can go wrong: when a server is set up ([`ServeError`]) and when a request is answered ([`CallError`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use air_core::{BoxError, CoreError};

use crate::onnx::OnnxError;

/// Errors of setting up and running a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting makes no sense.
    #[error("{message}")]
    Config {
        /// What is wrong with it.
        message: String,
    },
    /// A certificate or key cannot be served.
    #[error("TLS: `{}`: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {hint}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What that usually means.
        hint: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A replica could not build its model.
    #[error("deployment `{deployment}`: its model could not be built: {reason}")]
    Model {
        /// The deployment.
        deployment: Arc<str>,
        /// What the model's factory said, or its panic.
        reason: Arc<str>,
    },
    /// An update failed, and the version before it serves as it did.
    #[error("deployment `{deployment}`: the update to version {version} was rolled back: {reason}")]
    RolledBack {
        /// The deployment.
        deployment: Arc<str>,
        /// The version that failed.
        version: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// What was asked of a deployment cannot be done now.
    #[error("deployment `{deployment}`: {reason}")]
    Refused {
        /// The deployment.
        deployment: Arc<str>,
        /// Why, and what to do instead.
        reason: String,
    },
    /// A deployment uses another one that cannot be used so.
    #[error("deployment `{deployment}` uses `{dependency}`, {reason}")]
    Dependency {
        /// The deployment.
        deployment: Arc<str>,
        /// The one it uses.
        dependency: Arc<str>,
        /// What is wrong with that.
        reason: String,
    },
    /// No deployment has this name and these types.
    #[error("no deployment `{name}` takes {input} and gives {output}")]
    NoDeployment {
        /// The name asked for.
        name: String,
        /// The input type asked for.
        input: &'static str,
        /// The output type asked for.
        output: &'static str,
    },
    /// A model file cannot be served.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A language model cannot be served.
    #[cfg(feature = "llm")]
    #[error(transparent)]
    Llm(#[from] crate::llm::LlmError),
    /// The runtime of the replicas failed.
    #[error("the runtime of the replicas failed")]
    Core(#[from] CoreError),
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl ServeError {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        ServeError::Config { message: message.into() }
    }
}

/// Why a call was not answered. Cheap to clone, because a whole batch shares one cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The input does not fit the model.
    #[error("expected {expected}, got {got}")]
    Invalid {
        /// What the model takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// As many requests wait as may; the model never saw this one.
    #[error("deployment `{deployment}` is busy: {queued} requests wait, which is its limit")]
    Busy {
        /// The deployment.
        deployment: Arc<str>,
        /// Requests that wait.
        queued: usize,
        /// When there should be room, from the measured rate of answers.
        retry_after: Duration,
    },
    /// So many requests wait that this one would not have been answered in time; the model never saw it.
    #[error(
        "deployment `{deployment}` is busy: a request would wait about {wait:.1?}, longer than its limit of {limit:?}"
    )]
    TooLate {
        /// The deployment.
        deployment: Arc<str>,
        /// How long it would wait for its answer, from the measured time of a batch and how much later than foretold answers have been.
        wait: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// The time ran out. The model did not see the request unless it was working on it already.
    #[error("no answer within {limit:?}")]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The model panicked on the batch that this request was part of.
    #[error("replica {replica} panicked: {reason}")]
    Panicked {
        /// The replica; it is replaced, unless its model is [async](crate::AsyncModel).
        replica: Arc<str>,
        /// The panic's message.
        reason: Arc<str>,
    },
    /// The model returned an error for the batch that this request was part of.
    #[error("replica {replica} failed: {reason}")]
    Failed {
        /// The replica; it lives on.
        replica: Arc<str>,
        /// The model's error with its causes.
        reason: Arc<str>,
    },
    /// The model answered a batch with the wrong number of answers, so that none can be told whose it is.
    #[error("replica {replica} gave {got} answers to a batch of {expected}")]
    WrongBatch {
        /// The replica; it is replaced.
        replica: Arc<str>,
        /// Requests in the batch.
        expected: usize,
        /// Answers it gave.
        got: usize,
    },
    /// The replica that was executing the request does not return.
    #[error("replica {replica} was given up: {reason}")]
    GivenUp {
        /// The replica; it is replaced.
        replica: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// The stream has begun and then stood still for too long.
    #[error("the stream has waited {limit:?} for {waited_for}, which is its limit")]
    Idle {
        /// The limit, `stream_idle_timeout_s`.
        limit: Duration,
        /// Whom or what it waited for.
        waited_for: &'static str,
    },
    /// The deployment is shutting down.
    #[error("deployment `{deployment}` is shutting down")]
    Closed {
        /// The deployment.
        deployment: Arc<str>,
    },
    /// The version that the request was made for is gone, and the one that serves takes other tensors; the model never saw it.
    #[error("deployment `{deployment}` was updated and takes other tensors now: send the request again")]
    Replaced {
        /// The deployment.
        deployment: Arc<str>,
    },
    /// The handle is of a deployment that does not run.
    #[error("deployment `{deployment}` does not run: deploy it before its handle is called")]
    NotRunning {
        /// The deployment.
        deployment: Arc<str>,
    },
    /// The time ran out while a deployment waited for an answer of its own, which it had no replica left to give.
    #[error("no answer within {limit:?}: deployments wait for each other, {path}")]
    Circular {
        /// The way from the deployment to itself.
        path: Arc<str>,
        /// The limit.
        limit: Duration,
    },
    /// Deployments call each other without an end.
    #[error("the call was {depth} deployments deep: {path}")]
    TooDeep {
        /// How many.
        depth: usize,
        /// The first of them, and the one that was not called any more.
        path: Arc<str>,
    },
    /// Whoever the call was made for has gone.
    #[error("the request that this call was made for was cancelled")]
    Cancelled,
}

impl CallError {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            CallError::Invalid { .. } => 422,
            CallError::Busy { .. }
            | CallError::TooLate { .. }
            | CallError::Closed { .. }
            | CallError::Replaced { .. }
            | CallError::NotRunning { .. } => 503,
            CallError::Timeout { .. } | CallError::Circular { .. } | CallError::Idle { .. } => 504,
            CallError::Cancelled => 499,
            CallError::Panicked { .. }
            | CallError::Failed { .. }
            | CallError::WrongBatch { .. }
            | CallError::GivenUp { .. }
            | CallError::TooDeep { .. } => 500,
        }
    }
}

impl From<crate::onnx::InputMismatch> for CallError {
    fn from(mismatch: crate::onnx::InputMismatch) -> Self {
        CallError::Invalid { expected: mismatch.expected, got: mismatch.got }
    }
}

/// A model's error that is its caller's to know as it is.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Told(pub CallError);

/// An error and its causes in one line.
pub(crate) fn chain(error: &BoxError) -> Arc<str> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}
