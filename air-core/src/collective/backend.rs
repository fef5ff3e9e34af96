//! [`Backend`]: what carries out the calls of a [`Collective`](super::Collective).
//!
//! Ranks of one process share memory ([`in_process`](super::in_process)). Another backend is one that implements
//! these two traits: the calls come as data, checked as far as one rank can check them, with untyped values.

use std::fmt::Debug;
use std::sync::Arc;

use super::call::Call;
use super::error::CollectiveError;
use super::mail::{Incoming, Outgoing};

/// What a call reads and what it writes. A call in place has its values in `output`.
pub(super) struct Data<'a> {
    pub(super) input: &'a [u8],
    pub(super) output: &'a mut [u8],
}

/// One rank's end of a group.
pub(super) trait Backend: Debug + Send {
    /// Does its part in a call that every rank makes.
    fn run(&mut self, call: Call, data: Data<'_>) -> Result<(), CollectiveError>;

    /// Sends to one rank while it receives from another.
    fn exchange(
        &mut self,
        out: Option<Outgoing<'_>>,
        into: Option<Incoming<'_>>,
    ) -> Result<(), CollectiveError>;

    /// What ends the group.
    fn fate(&self) -> &Arc<dyn Fate>;
}

/// Whether a group goes on, for all who can end it.
pub(super) trait Fate: Debug + Send + Sync {
    /// Ends the group. The first cause stays; returns whether it was this one.
    fn fail(&self, cause: CollectiveError) -> bool;

    /// The cause for which it has ended.
    fn cause(&self) -> Option<CollectiveError>;
}
