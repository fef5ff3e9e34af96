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
    /// The ranks did not make the same call.
    #[error("the ranks made different calls: rank 0 called {expected}, rank {rank} called {found}")]
    Mismatch {
        /// The lowest rank whose call differs from rank 0's.
        rank: usize,
        /// What rank 0 called.
        expected: String,
        /// What that rank called.
        found: String,
    },
}
