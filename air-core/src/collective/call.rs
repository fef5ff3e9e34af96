//! [`Call`]: what a rank called, as data that ranks can compare.

use std::fmt;

use super::error::CollectiveError;
use super::number::ReduceOp;
use crate::tensor::DType;

/// What all ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Barrier,
    AllReduce(ReduceOp),
    ReduceScatter(ReduceOp),
    AllGather,
    AllToAll,
    Broadcast { root: usize },
    Gather { root: usize },
    Scatter { root: usize },
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Barrier => "barrier",
            Self::AllReduce(_) => "all_reduce",
            Self::ReduceScatter(_) => "reduce_scatter",
            Self::AllGather => "all_gather",
            Self::AllToAll => "all_to_all",
            Self::Broadcast { .. } => "broadcast",
            Self::Gather { .. } => "gather",
            Self::Scatter { .. } => "scatter",
        }
    }
}

/// One call; the same on all ranks, or the group is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) dtype: DType,
    /// Values in the buffer that is equally long on every rank.
    pub(super) len: usize,
}

impl Call {
    pub(super) const BARRIER: Self = Self { verb: Verb::Barrier, dtype: DType::U8, len: 0 };

    /// The bytes of that buffer.
    pub(super) fn part_bytes(&self) -> usize {
        self.len * self.dtype.size_bytes()
    }

    /// The most bytes that one of `world` ranks shows the others.
    pub(super) fn shown_bytes(&self, world: usize) -> usize {
        match self.verb {
            Verb::ReduceScatter(_) | Verb::AllToAll | Verb::Scatter { .. } => {
                self.part_bytes().saturating_mul(world)
            }
            Verb::Barrier
            | Verb::AllReduce(_)
            | Verb::AllGather
            | Verb::Broadcast { .. }
            | Verb::Gather { .. } => self.part_bytes(),
        }
    }

    /// Compares `rank`'s call with this one, which is rank 0's.
    pub(super) fn agrees_with(&self, found: &Self, rank: usize) -> Result<(), CollectiveError> {
        if (self.verb, self.dtype) != (found.verb, found.dtype) {
            let (expected, found) = (self.to_string(), found.to_string());
            return Err(CollectiveError::Mismatch { rank, expected, found });
        }
        if self.len != found.len {
            let (expected, found, verb) = (self.len, found.len, self.verb.name());
            return Err(CollectiveError::Length { verb, rank, found, expected });
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb.name())?;
        match self.verb {
            Verb::Barrier => return Ok(()),
            Verb::AllReduce(op) | Verb::ReduceScatter(op) => {
                write!(f, "({op:?})")?;
            }
            Verb::Broadcast { root } | Verb::Scatter { root } => write!(f, " from rank {root}")?,
            Verb::Gather { root } => write!(f, " to rank {root}")?,
            Verb::AllGather | Verb::AllToAll => {}
        }
        write!(f, " of {} {}", self.len, self.dtype)
    }
}
