//! [`CollectiveError`]: why a collective call did not happen.

use crate::tensor::TensorError;

/// Why a collective call did not happen. After any of these the group is finished: every later call on any rank
/// returns the same error, and a new group must be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// A rank left the group: it was dropped, panicked, or aborted.
    #[error("rank {rank} is lost: {reason}")]
    Lost {
        /// The rank that is gone.
        rank: usize,
        /// Why, as far as it is known.
        reason: String,
    },
    /// The ranks did not make the same call, or not on the same element type.
    #[error("the ranks made different calls: rank 0 called {expected}, rank {rank} called {found}")]
    Mismatch {
        /// The lowest rank whose call differs from rank 0's; for a message, the rank that received it.
        rank: usize,
        /// What rank 0 called; for a message, what was sent.
        expected: String,
        /// What that rank called.
        found: String,
    },
    /// Ranks wait for each other in a circle, so that none of them would ever go on: to send, to receive, or in a call that all
    /// ranks make.
    #[error(
        "ranks wait for each other: {}; all ranks make the same calls in the same order, and a send or recv only where its \
         partner makes the other",
        listed(circle)
    )]
    Crossed {
        /// Each waits for the next, and the last for the first, which is the lowest.
        circle: Vec<Waiting>,
    },
    /// A rank's device, or a tensor on it, cannot be used so; or NCCL is missing.
    #[error("rank {rank}: {source}")]
    Device {
        /// The rank.
        rank: usize,
        /// What is wrong.
        source: TensorError,
    },
    /// A buffer has the wrong length.
    #[error("rank {rank} called {verb} with {found} values where {expected} are expected")]
    Length {
        /// What was called.
        verb: &'static str,
        /// The rank whose buffer it is; where the ranks differ, the lowest that differs from rank 0.
        rank: usize,
        /// The values in its buffer.
        found: usize,
        /// The values there should be: as many as on rank 0, in what was sent, or as its other buffer asks for.
        expected: usize,
    },
    /// A call named a root or a partner that it cannot have.
    #[error("rank {rank} called {verb} with rank {named} in a group of {world}")]
    NoSuchRank {
        /// What was called.
        verb: &'static str,
        /// The rank that called.
        rank: usize,
        /// The rank it named.
        named: usize,
        /// The number of ranks.
        world: usize,
    },
}

/// A rank of a [circle](CollectiveError::Crossed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The rank that waits.
    pub rank: usize,
    /// What it called.
    pub call: String,
    /// The rank it waits for.
    pub for_rank: usize,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} for rank {} in {}", self.rank, self.for_rank, self.call)
    }
}

/// The ranks of a circle that an error names in its text.
const NAMED: usize = 8;

fn listed(circle: &[Waiting]) -> String {
    let named = circle.iter().take(NAMED).map(Waiting::to_string).collect::<Vec<_>>().join(", ");
    match circle.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}
