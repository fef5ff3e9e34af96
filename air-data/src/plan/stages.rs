//! Numbers the exchanges of a plan by their distance from the consumer: those that wait for memory get it in that order.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::node::NodeExec;

/// The consumer's own queue is 0, the exchange that reads the whole plan 1.
const FIRST: usize = 2;

pub(crate) fn number_stages(plan: &Arc<dyn ExecutionPlan>) {
    walk(plan, FIRST);
}

fn walk(plan: &Arc<dyn ExecutionPlan>, stage: usize) {
    let next = match plan.downcast_ref::<NodeExec>() {
        Some(node) => {
            node.tally().set_stage(stage);
            // A pool's input waits one stage behind its output.
            stage + 2
        }
        None => stage,
    };
    for child in plan.children() {
        walk(child, next);
    }
}
