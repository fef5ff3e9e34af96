//! [`CollectiveError`]: why a collective call did not happen.

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
    /// Two ranks wait for each other: one in a call between the two, the other in a call that all ranks make.
    #[error(
        "rank {rank} waits in {call} for rank {other}, which waits for it in {other_call}; all ranks make the same calls in the \
         same order, and a send or recv only where its partner makes the other"
    )]
    Crossed {
        /// The rank that sends or receives.
        rank: usize,
        /// What it called.
        call: String,
        /// The rank it waits for.
        other: usize,
        /// What that one called.
        other_call: String,
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
