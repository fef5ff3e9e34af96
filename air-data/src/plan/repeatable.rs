//! [`repeatable`]: whether each block of a plan has the same rows whenever it is computed.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};

use crate::error::{DataError, Result};

/// How a plan makes its rows, in words that are the same for the same plan.
///
/// # Errors
/// [`DataError::Config`] where what one run makes of some blocks cannot be put together with what another makes of the others: in which of them a row
/// of a join or a group comes may depend on which thread was first.
pub(crate) fn repeatable(plan: &Arc<dyn ExecutionPlan>) -> Result<String> {
    if plan.output_partitioning().partition_count() > 1 && deals(plan) {
        let reason =
            "the blocks of joins, groups and windows have other rows each time; sort the rows, or write them without and go on from there"
                .to_owned();
        return Err(DataError::Config { field: "resume", reason });
    }
    Ok(displayable(plan.as_ref()).indent(true).to_string())
}

/// Whether an operator deals rows to blocks as they come, or gives those that are left to the last block.
fn deals(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let name = plan.name();
    name.contains("Join")
        || ["RepartitionExec", "AggregateExec"].contains(&name)
        || plan.children().into_iter().any(deals)
}
