//! [`Member`]: what one rank can check of its own call.

use super::backend::Fate;
use super::error::CollectiveError;

type Result<T> = std::result::Result<T, CollectiveError>;

/// A rank of a group that a wrong call ends.
pub(super) struct Member<'a> {
    pub(super) rank: usize,
    pub(super) world: usize,
    pub(super) fate: &'a dyn Fate,
}

impl Member<'_> {
    pub(super) fn has_length(&self, verb: &'static str, found: usize, expected: usize) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        self.refuse(CollectiveError::Length { verb, rank: self.rank, found, expected })
    }

    pub(super) fn has_rank(&self, verb: &'static str, named: usize) -> Result<()> {
        if named < self.world {
            return Ok(());
        }
        self.refuse(CollectiveError::NoSuchRank { verb, rank: self.rank, named, world: self.world })
    }

    pub(super) fn has_partner(&self, verb: &'static str, named: usize) -> Result<()> {
        if named != self.rank {
            return self.has_rank(verb, named);
        }
        self.refuse(CollectiveError::NoSuchRank { verb, rank: self.rank, named, world: self.world })
    }

    /// The length of a buffer that only the root has.
    pub(super) fn on_root(&self, root: usize, part: usize) -> usize {
        if root == self.rank { part.saturating_mul(self.world) } else { 0 }
    }

    /// A call that cannot be made ends the group: the other ranks would wait for it.
    pub(super) fn refuse<T>(&self, error: CollectiveError) -> Result<T> {
        self.fate.fail(error.clone());
        Err(self.fate.cause().unwrap_or(error))
    }
}
