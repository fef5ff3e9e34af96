//! What can go wrong with a request of the protocol, and how REST and gRPC say it.

use std::time::Duration;

use axum::http::StatusCode;

use super::tensor::TensorError;
use crate::error::CallError;

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub kind: Kind,
    pub message: String,
    /// When to try again, where that can help.
    pub retry_after: Option<Duration>,
}

/// Whose fault it is, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request cannot be read.
    Malformed,
    /// It can be read and does not fit the model.
    Unfit,
    NotFound,
    /// It asks for what this server was not set up to do.
    Refused,
    Unsupported,
    Busy,
    Unavailable,
    Timeout,
    Internal,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Kind::Malformed | Kind::Refused => StatusCode::BAD_REQUEST,
            Kind::Unfit => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::NotFound => StatusCode::NOT_FOUND,

            Kind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Busy | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Fault {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), retry_after: None }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Fault::new(Kind::Malformed, message)
    }

    pub(crate) fn unfit(message: impl Into<String>) -> Self {
        Fault::new(Kind::Unfit, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Fault { kind: Kind::Unavailable, message: message.into(), retry_after: Some(Duration::from_secs(1)) }
    }
}

impl From<TensorError> for Fault {
    fn from(error: TensorError) -> Self {
        Fault::unfit(error.to_string())
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let kind = match error {
            CallError::Invalid { .. } => Kind::Unfit,
            CallError::Busy { .. } | CallError::TooLate { .. } => Kind::Busy,
            CallError::Timeout { .. } | CallError::Circular { .. } | CallError::Idle { .. } => Kind::Timeout,
            CallError::Closed { .. }
            | CallError::Replaced { .. }
            | CallError::NotRunning { .. }
            | CallError::Cancelled => {
                return Fault::unavailable(message);
            }
            CallError::Panicked { .. }
            | CallError::Failed { .. }
            | CallError::WrongBatch { .. }
            | CallError::GivenUp { .. }
            | CallError::TooDeep { .. } => Kind::Internal,
        };
        let retry_after = match error {
            CallError::Busy { retry_after, .. } => Some(retry_after),
            CallError::TooLate { wait, limit, .. } => Some(wait.saturating_sub(limit)),
            _ => None,
        };
        Fault { kind, message, retry_after }
    }
}
