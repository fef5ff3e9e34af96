//! Makes execution plans out of our logical nodes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::closures::Closures;
use super::closures_exec::ClosuresExec;
use super::node::{Node, NodeExec};
use super::pooled::{Pooled, PooledExec};
use super::repartition::{Repartition, RepartitionExec};

/// DataFusion's planner that knows our nodes too.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Nodes)])
            .create_physical_plan(plan, session)
            .await
    }
}

struct Nodes;

#[async_trait]
impl ExtensionPlanner for Nodes {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let node = node.as_any();
        if let Some(node) = node.downcast_ref::<Node>() {
            return Ok(Some(Arc::new(NodeExec::new(node.operator().clone(), inputs.to_vec())?)));
        }
        let [input] = inputs else { return Ok(None) };
        if let Some(closures) = node.downcast_ref::<Closures>() {
            return Ok(Some(Arc::new(ClosuresExec::new(input.clone(), closures.ops().to_vec()))));
        }
        if let Some(repartition) = node.downcast_ref::<Repartition>() {
            return Ok(Some(Arc::new(RepartitionExec::new(input.clone(), repartition.blocks))));
        }
        if let Some(pooled) = node.downcast_ref::<Pooled>() {
            return Ok(Some(Arc::new(PooledExec::new(input.clone(), pooled.work().clone()))));
        }
        Ok(None)
    }
}
