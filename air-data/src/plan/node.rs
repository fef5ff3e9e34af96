//! [`Operator`]: what our operators over whole streams have in common, and its place in DataFusion: [`Node`] in the logical plan,
//! [`NodeExec`] in the plan that runs.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{LexOrdering, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::properties;
use crate::exchange::{Room, ordered};

/// All rows of an input, in order.
pub(crate) fn rows(
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    room: Room,
) -> BoxStream<'static, Result<RecordBatch>> {
    ordered(input.clone(), context.clone(), room, None).map(|item| item.map(|(_, batch)| batch)).boxed()
}

/// An operator over the streams of its inputs.
pub(crate) trait Operator: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The columns it makes out of its inputs'.
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef>;

    /// Its blocks, by those of its inputs.
    fn partitions(&self, inputs: &[usize]) -> usize;

    /// The columns of each input that it needs for these of its own, where that is not all of them.
    fn needs(&self, _output: &[usize], _inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        None
    }

    /// Whether its first rows are made of as many first rows of its only input.
    fn keeps_count(&self) -> bool {
        false
    }

    /// The order that it needs its only input in, as one stream.
    fn order(&self, _input: &Arc<dyn ExecutionPlan>) -> Result<Option<LexOrdering>> {
        Ok(None)
    }

    /// One of its blocks.
    fn run(
        &self,
        partition: usize,
        inputs: &[Arc<dyn ExecutionPlan>],
        context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// An operator in the logical plan.
#[derive(Clone)]
pub(crate) struct Node {
    operator: Arc<dyn Operator>,
    inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

impl Node {
    /// Puts `operator` on top of `inputs`.
    pub(crate) fn over(operator: impl Operator, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
        let node = Self::new(Arc::new(operator), inputs)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn new(operator: Arc<dyn Operator>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let schema = Arc::new(DFSchema::try_from(operator.schema(&schemas(&inputs))?)?);
        Ok(Self { operator, inputs, schema })
    }

    pub(crate) fn operator(&self) -> &Arc<dyn Operator> {
        &self.operator
    }
}

fn schemas(inputs: &[LogicalPlan]) -> Vec<SchemaRef> {
    inputs.iter().map(|input| Arc::new(input.schema().as_arrow().clone())).collect()
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator)
    }
}

// Operators have no value to compare: a node equals only its own copies.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.operator), Arc::as_ptr(&other.operator))
            && self.inputs == other.inputs
    }
}

impl Eq for Node {}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.operator).cast::<()>().hash(state);
        self.inputs.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Node {
    fn name(&self) -> &'static str {
        "Operator"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::new(self.operator.clone(), inputs)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        self.operator.needs(output, &schemas(&self.inputs))
    }

    fn supports_limit_pushdown(&self) -> bool {
        self.operator.keeps_count()
    }
}

/// An operator in the plan that runs.
#[derive(Debug)]
pub(crate) struct NodeExec {
    operator: Arc<dyn Operator>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    order: Option<LexOrdering>,
    properties: Arc<PlanProperties>,
}

impl NodeExec {
    pub(crate) fn new(operator: Arc<dyn Operator>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let order = match &inputs[..] {
            [only] => operator.order(only)?,
            _ => None,
        };
        Self::ordered(operator, inputs, order)
    }

    fn ordered(
        operator: Arc<dyn Operator>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        order: Option<LexOrdering>,
    ) -> Result<Self> {
        let schemas: Vec<SchemaRef> = inputs.iter().map(|input| input.schema()).collect();
        let counts: Vec<usize> =
            inputs.iter().map(|input| input.output_partitioning().partition_count()).collect();
        let properties = properties(operator.schema(&schemas)?, operator.partitions(&counts));
        Ok(Self { operator, inputs, order, properties })
    }
}

impl DisplayAs for NodeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorExec: {}", self.operator)
    }
}

impl ExecutionPlan for NodeExec {
    fn name(&self) -> &'static str {
        "OperatorExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let each = match self.order {
            Some(_) => Distribution::SinglePartition,
            None => Distribution::UnspecifiedDistribution,
        };
        InputDistributionRequirements::new(vec![each; self.inputs.len()])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.order.clone().map(OrderingRequirements::from); self.inputs.len()]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The order that was asked for still is, whatever the new children have.
        Ok(Arc::new(Self::ordered(self.operator.clone(), children, self.order.clone())?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for key in self.order.iter().flatten() {
            recursion = f(&key.expr)?;
            if recursion == TreeNodeRecursion::Stop {
                break;
            }
        }
        Ok(recursion)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stream = self.operator.run(partition, &self.inputs, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }
}
