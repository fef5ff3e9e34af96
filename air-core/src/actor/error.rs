//! What can go wrong with a message.

use std::fmt;

use super::exit::Exit;
use super::message::Message;
use crate::BoxError;
use crate::error::CoreError;

/// Why a message was not handled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The mailbox has no room (`try_tell` only; the other verbs wait).
    Full,
    /// Its deadline passed first.
    Expired,
    /// The worker has as many unanswered asks as its [`Spec::max_pending`](super::Spec::max_pending) allows.
    TooManyPending {
        /// How many that is.
        limit: usize,
    },
    /// Its sender withdrew it.
    Cancelled,
    /// The worker has ended for good.
    Closed(Exit),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the mailbox is full"),
            Self::Expired => write!(f, "its deadline passed before it was handled"),
            Self::TooManyPending { limit } => {
                write!(f, "the worker has {limit} unanswered asks, as many as its `max_pending` allows")
            }
            Self::Cancelled => write!(f, "its sender withdrew it"),
            Self::Closed(exit) => write!(f, "the worker is gone: it {exit}"),
        }
    }
}

/// Why an ask has no answer.
#[non_exhaustive]
pub enum AskError<M: Message> {
    /// The message was never handled; here it is, safe to send again.
    Undelivered {
        /// The message.
        message: M,
        /// Why.
        reason: Reason,
    },
    /// The worker ended while it handled the message, which may have had effects.
    Died(Exit),
    /// The handler returned this error.
    Failed(BoxError),
    /// The deadline passed while the message was being handled; it may have effects.
    Expired,
}

impl<M: Message> AskError<M> {
    /// The message, if it was never handled.
    pub fn into_message(self) -> Option<M> {
        match self {
            Self::Undelivered { message, .. } => Some(message),
            _ => None,
        }
    }
}

impl<M: Message> fmt::Debug for AskError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undelivered { reason, .. } => f.debug_tuple("Undelivered").field(reason).finish(),
            Self::Died(exit) => f.debug_tuple("Died").field(exit).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Expired => write!(f, "Expired"),
        }
    }
}

impl<M: Message> fmt::Display for AskError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undelivered { reason, .. } => write!(f, "message was not handled: {reason}"),
            Self::Died(exit) => write!(f, "the worker handling the message {exit}"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Expired => write!(f, "deadline passed while the message was being handled"),
        }
    }
}

impl<M: Message> std::error::Error for AskError<M> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Died(Exit::Failed(error)) => Some(&**error),
            _ => None,
        }
    }
}

impl<M: Message> From<AskError<M>> for CoreError {
    /// Drops the message, so that the error can be boxed and sent whatever the message was.
    fn from(error: AskError<M>) -> Self {
        match error {
            AskError::Undelivered { reason, .. } => Self::Undelivered { reason },
            AskError::Died(exit) => Self::Died { exit },
            AskError::Failed(error) => Self::Worker(error),
            AskError::Expired => Self::Expired,
        }
    }
}

/// A message that could not be put into the mailbox, and why.
pub struct SendError<M> {
    /// The message.
    pub message: M,
    /// Why it was not taken.
    pub reason: Reason,
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message was not sent: {}", self.reason)
    }
}

impl<M> std::error::Error for SendError<M> {}

impl<M> From<SendError<M>> for CoreError {
    fn from(error: SendError<M>) -> Self {
        Self::Undelivered { reason: error.reason }
    }
}
