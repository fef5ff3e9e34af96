//! [`whole`]: how all of a plan is read as one stream.

use std::any::Any;
use std::sync::Arc;

use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use super::node::NodeExec;
use super::pieces::Pieces;
use crate::exchange::Room;

/// The plan whose partitions are to be taken, one after the other or in any order, and the room for it. Pieces of files that would be put
/// together as blocks are taken as they are, which saves each batch a queue.
pub(crate) fn whole(plan: Arc<dyn ExecutionPlan>, room: Room) -> (Arc<dyn ExecutionPlan>, Room) {
    let any_order = any_order(&plan);
    if let Some(node) = plan.downcast_ref::<NodeExec>()
        && let operator = node.operator() as &dyn Any
        && let Some(pieces) = operator.downcast_ref::<Pieces>()
        && let [input] = &node.children()[..]
    {
        let cautious = room.cautious || pieces.room.cautious;
        return (Arc::clone(input), Room { window: pieces.room.window, cautious, ..room });
    }
    (plan, Room { any_order, ..room })
}

/// Whether rows were dealt to the partitions of a plan by their hashes, so that the partitions' order means nothing.
pub(super) fn any_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Partitioning::Hash(_, partitions) = plan.output_partitioning() {
        return *partitions > 1;
    }
    let row_by_row = plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<FilterExec>()
        || plan.downcast_ref::<NodeExec>().is_some_and(|node| node.operator().row_by_row());
    match &plan.children()[..] {
        [input] if row_by_row => any_order(input),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::any_order;
    use crate::{Dataset, Session, SessionConfig, agg, col, lit};

    fn in_any_order(ds: &Dataset) -> bool {
        let ds = ds.clone();
        ds.session().clone().block_on(async move { Ok(any_order(&ds.physical().await?.0)) }).unwrap()
    }

    #[test]
    fn groups_may_come_in_any_order_also_through_what_works_row_by_row_but_nothing_else_may() {
        let config = SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() };
        let numbers = Session::new(config).unwrap().range(100_000).unwrap();
        let groups =
            numbers.with_column("key", col("id") % lit(1000)).group_by(["key"]).aggregate([agg::sum("id")]);
        assert!(in_any_order(&groups));
        assert!(in_any_order(&groups.filter_expr(col("key").gt(lit(3))).map_batches(Ok)));
        assert!(!in_any_order(&numbers));
        assert!(!in_any_order(&numbers.map_batches(Ok)));
        assert!(!in_any_order(&groups.sort(["key"])));
        assert!(!in_any_order(&groups.limit(10)));
        assert!(!in_any_order(&groups.repartition(3)));
    }
}
