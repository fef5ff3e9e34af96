//! [`Dataset`]: a lazy table. Transforms describe, terminals run.

mod batches;
mod c_stream;
mod columns;
mod combine;
mod create;
mod cutter;
mod explode;
mod group;
mod inspect;
mod join;
mod order;
mod pooled;
mod rows;
mod run;
mod split;
mod summary;
mod transform;
mod write;

pub use batches::{BatchOptions, Batches, LocalShuffle};
pub use c_stream::CStream;
pub(crate) use cutter::Cutter;
pub use group::GroupBy;
pub use join::{IntoJoinKey, Join, JoinKind};
pub use rows::Rows;
pub use summary::{ColumnSummary, Summary};

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;

use crate::error::{DataError, Result};
use crate::session::Session;
use crate::stats::LastRun;

/// A lazy table: the description of how its rows come about.
///
/// Transforms (`map`, `filter`, `select`, …) add to the description and return at once; a mistake in one, such as a
/// column that does not exist, is reported by the terminal verb that runs it. Terminals (`take`, `count`, `batches`,
/// `write_parquet`, …) run the description, each time anew, and stream: memory holds a few batches at a time. A clone is
/// cheap and shares nothing that runs.
#[derive(Clone)]
pub struct Dataset {
    session: Session,
    plan: std::result::Result<LogicalPlan, Arc<DataError>>,
    last_run: LastRun,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.plan {
            Ok(plan) => write!(f, "{}", plan.display_indent()),
            Err(error) => write!(f, "invalid dataset: {error}"),
        }
    }
}

/// The columns and their types, one a line: `id: Int64`, and what may be null with `(nullable)` after it.
impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = match &self.plan {
            Ok(plan) => plan,
            Err(error) => return write!(f, "invalid dataset: {error}"),
        };
        for (index, field) in plan.schema().fields().iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            let nullable = if field.is_nullable() { " (nullable)" } else { "" };
            write!(f, "{line}{}: {}{nullable}", field.name(), field.data_type())?;
        }
        Ok(())
    }
}

impl Dataset {
    pub(crate) fn new(session: Session, plan: LogicalPlan) -> Self {
        Self { session, plan: Ok(plan), last_run: LastRun::default() }
    }

    /// What is left of it after a mistake.
    pub(crate) fn failed(&self, error: DataError) -> Self {
        self.then(|_| Err(error))
    }

    /// The engine that it runs on.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// DataFusion's logical plan of it.
    ///
    /// # Errors
    /// The first mistake made in describing it.
    pub fn logical_plan(&self) -> Result<&LogicalPlan> {
        self.plan.as_ref().map_err(|error| DataError::Shared(error.clone()))
    }

    /// A dataset with one more step on top.
    fn then(&self, step: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>) -> Self {
        let plan = self.logical_plan().cloned().and_then(step);
        let plan = plan.map_err(DataError::shared);
        Self { session: self.session.clone(), plan, last_run: LastRun::default() }
    }

    /// [`then`](Self::then), for a step that only this dataset's own verb takes: its run is this dataset's.
    fn within(&self, step: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>) -> Self {
        Self { last_run: self.last_run.clone(), ..self.then(step) }
    }
}
