//! Why a worker ended.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::BoxError;
use crate::device::{self, Device, DeviceError};

/// Why a worker ended. Cheap to clone: every waiting caller gets the same cause.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Exit {
    /// It was told to stop, stopped itself, or the runtime was dropped.
    Normal,
    /// Its factory, `started` or a `tell` handler returned this error, or it called [`Cx::fail`](super::Cx::fail).
    Failed(Arc<dyn Error + Send + Sync>),
    /// It panicked with this message.
    Panicked(Arc<str>),
    /// One message took longer than the stall limit; the worker was abandoned with its thread.
    Stalled {
        /// The limit it did not keep.
        limit: Duration,
    },
    /// The device it computed on failed; a CUDA error is sticky, so nothing on that context can be trusted. Any error of the worker's
    /// code in which [`device::lost`] finds the loss of one of its devices ends it so, also one that somebody waits for.
    DeviceLost(Arc<str>),
    /// It was killed: what waited went back, and nobody waits for what it was doing.
    Killed,
    /// A worker it was linked with ended.
    Linked {
        /// The other worker's name.
        name: Arc<str>,
        /// Why the other ended.
        cause: Arc<Exit>,
    },
    /// Its supervisor stopped it because a sibling ended.
    Sibling {
        /// The sibling's name.
        name: Arc<str>,
        /// Why the sibling ended.
        cause: Arc<Exit>,
    },
    /// Restarts did not help: the supervisor gave up after this last failure.
    Escalated {
        /// The worker (or supervisor) that kept failing.
        name: Arc<str>,
        /// How often it had been restarted within the window.
        restarts: usize,
        /// Its last failure.
        cause: Arc<Exit>,
    },
}

impl Exit {
    pub(super) fn failed(error: BoxError) -> Self {
        Self::Failed(Arc::from(error))
    }

    /// What an error means for a worker with these devices: if it tells that one of them is lost, that.
    pub(super) fn of(error: BoxError, devices: &[Device]) -> Self {
        let lost = device::lost(&*error).and_then(|lost| Self::device_lost(lost, devices));
        lost.unwrap_or_else(|| Self::failed(error))
    }

    /// The loss of a device, where it is one of these. Somebody else's is his.
    pub(super) fn device_lost(lost: &DeviceError, devices: &[Device]) -> Option<Self> {
        let is_own = matches!(lost, DeviceError::Lost { device, .. } if devices.contains(device));
        is_own.then(|| Self::DeviceLost(lost.to_string().into()))
    }

    /// What a panic's payload says; `panic!` carries a string, anything else has no text.
    pub(super) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a message");
        Self::Panicked(text.into())
    }

    /// Whether this is anything but a wished-for end. The end of a linked worker is what the other's end was.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Normal | Self::Killed => false,
            Self::Linked { cause, .. } => cause.is_failure(),
            _ => true,
        }
    }

    /// Whether the worker's state can be trusted to its end.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(self, Self::Normal | Self::Failed(_) | Self::Linked { .. })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => write!(f, "ended normally"),
            Self::Failed(error) => {
                write!(f, "failed: {error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Stalled { limit } => write!(f, "stalled: one message took longer than {limit:?}"),
            Self::DeviceLost(what) => write!(f, "lost its device: {what}"),
            Self::Killed => write!(f, "was killed"),
            Self::Linked { name, cause } => {
                write!(f, "ended with {name}, to which it was linked and which {cause}")
            }
            Self::Sibling { name, cause } => write!(f, "stopped with its sibling {name}, which {cause}"),
            Self::Escalated { name, restarts, cause } => {
                let plural = if *restarts == 1 { "" } else { "s" };
                write!(f, "was given up after {restarts} restart{plural} of {name}, which {cause}")
            }
        }
    }
}

/// One end in a worker's history.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExitRecord {
    /// When, on the runtime's clock.
    pub at: Duration,
    /// Which life of the worker ended; the first is 1.
    pub generation: u64,
    /// Why.
    pub exit: Exit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_carries_the_whole_chain_of_causes() {
        let inner = std::io::Error::other("disk full");
        let failed = Exit::failed(Box::new(inner));
        let sibling = Exit::Sibling { name: "rank 2".into(), cause: Arc::new(failed) };
        let gave_up = Exit::Escalated { name: "ranks".into(), restarts: 3, cause: Arc::new(sibling) };
        assert_eq!(
            gave_up.to_string(),
            "was given up after 3 restarts of ranks, which stopped with its sibling rank 2, which failed: disk full"
        );
    }

    #[test]
    fn a_panic_without_text_still_says_so() {
        assert_eq!(Exit::panicked(&7_u32).to_string(), "panicked: a panic without a message");
        assert_eq!(Exit::panicked(&"bad kernel").to_string(), "panicked: bad kernel");
        assert_eq!(Exit::panicked(&String::from("bad kernel")).to_string(), "panicked: bad kernel");
    }
}
