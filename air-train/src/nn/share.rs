//! What of a network's work is worth sharing among threads.

use air_core::team::Team;

use crate::{Result, TrainError};

/// Multiply-adds below which a product stays on the calling thread: about 50 µs, a few wake-ups' worth.
const WORTH_SHARING: usize = 1 << 20;

/// Values below which a pass over them stays on the calling thread.
const WORTH_PASSING: usize = 1 << 16;

/// So many threads.
pub(super) fn team(threads: usize) -> Result<Team> {
    Team::new(threads).map_err(|error| TrainError::config("threads", error.to_string()))
}

/// How many pieces a job of `multiply_adds` over `rows` rows is cut into.
pub(super) fn pieces(team: &Team, multiply_adds: usize, rows: usize) -> usize {
    if multiply_adds < WORTH_SHARING { 1 } else { team.count().min(rows.max(1)) }
}

/// How many pieces a pass over `values` values is cut into.
pub(super) fn parts(team: &Team, values: usize) -> usize {
    if values < WORTH_PASSING { 1 } else { team.count() }
}
