use std::fmt;

/// Why an item was not sent. The item comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// There is no room now (from `try_send`).
    Full(T),
    /// There was no room before the deadline.
    Expired(T),
    /// Every receiver is gone.
    Disconnected(T),
}

impl<T> SendError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(item) | SendError::Expired(item) | SendError::Disconnected(item) => item,
        }
    }

    /// True where no later attempt can succeed.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, SendError::Disconnected(_))
    }

    fn reason(&self) -> &'static str {
        match self {
            SendError::Full(_) => "channel is full",
            SendError::Expired(_) => "channel had no room before the deadline",
            SendError::Disconnected(_) => "every receiver of the channel is gone",
        }
    }
}

// By hand, so that an item needs no `Debug` of its own.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({})", self.reason())
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// There is no item now (from `try_recv`).
    #[error("channel is empty")]
    Empty,
    /// No item came before the deadline.
    #[error("channel had no item before the deadline")]
    Expired,
    /// Every sender is gone and every item has been received.
    #[error("every sender of the channel is gone")]
    Disconnected,
}
