//! What a run did, operator by operator: [`Stats`], taken while it runs or after, and drawn on a terminal meanwhile.
//!
//! | file | idea |
//! |---|---|
//! | `report` | [`Stats`] as plain data, and as text |
//! | `run` | one run of a dataset: what it counts, and what is left of it when it is over |
//! | `progress` | the lines on a terminal |

mod progress;
mod report;
mod run;

pub(crate) use progress::Progress;
pub(crate) use report::Bytes;
pub use report::{OperatorStats, PoolStats, RunState, Stats};
pub(crate) use run::{LastRun, RunGuard, recorded};
