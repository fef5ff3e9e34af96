//! Why resources cannot be had.

use std::sync::Arc;
use std::time::Duration;

use super::Resources;

/// Why resources cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// An amount that nobody can have.
    #[error("cannot ask for {value} {kind}: {reason}")]
    Invalid {
        /// The kind of resource.
        kind: String,
        /// The amount.
        value: String,
        /// What it must be instead.
        reason: String,
    },
    /// More was asked for than exists; waiting would be for ever.
    #[error("{asked} can never be had: {reason} (there is {exists} in all)")]
    Never {
        /// What was asked for; of a placement group, all its bundles together.
        asked: Box<Resources>,
        /// All there is.
        exists: Box<Resources>,
        /// What there is too little of.
        reason: String,
    },
    /// It is not free now, and the request was not to wait, or no longer.
    #[error("{asked} was not free within {waited:?}: {reason}")]
    Busy {
        /// What was asked for.
        asked: Box<Resources>,
        /// How long the request waited.
        waited: Duration,
        /// What it waited for.
        reason: String,
    },
    /// As many requests wait as may.
    #[error("{limit} requests for resources wait already")]
    TooMany {
        /// How many may.
        limit: usize,
    },
    /// A placement group has no such bundle.
    #[error("there is no bundle {bundle}: the placement group has {bundles}")]
    NoBundle {
        /// The one asked for.
        bundle: usize,
        /// How many there are.
        bundles: usize,
    },
    /// The runtime ended while the request waited.
    #[error("the runtime has ended, and its resources with it")]
    Closed,
}

/// Who asks; the ones that hold the smaller share of everything come first.
pub(super) type Owner = Option<Arc<str>>;
