//! [`Operator`]: what our operators have in common, and its place in DataFusion: [`Node`] in the logical plan,
//! [`NodeExec`] in the plan that runs.

use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use air_core::resource::Resources;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::origin::Origin;
use super::properties;
use super::tally::Tally;
use super::whole::whole;
use crate::exchange::{Room, ordered_blocks};
use crate::pool::SkippedBatch;

/// What an operator does. In DataFusion's plans it is a [`Node`], where it runs a [`NodeExec`].
pub(crate) trait Operator: Any + fmt::Display + Send + Sync {
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

    /// Whether each row that comes out is made of one row of its only input, block by block.
    fn row_by_row(&self) -> bool {
        false
    }

    /// Whether each block has the rows of the same block of its only input, so that what is known of the rows of a block still is.
    fn keeps_blocks(&self) -> bool {
        false
    }

    /// Where a block's rows are from, where it is known.
    fn origin(&self, _block: usize) -> Option<Origin> {
        None
    }

    /// The order that it needs its only input in, as one stream.
    fn order(&self, _input: &Arc<dyn ExecutionPlan>) -> Result<Option<LexOrdering>> {
        Ok(None)
    }

    /// The order that its only block comes in, where it makes one.
    fn sorts(&self) -> Option<&LexOrdering> {
        None
    }

    /// What is known of the order and the equality of what comes out, where it is more than that.
    fn known(&self) -> Option<&EquivalenceProperties> {
        None
    }

    /// An input, and what is found out of its rows while it runs: whoever reads them may leave those out that it does not let pass.
    fn filter(&self) -> Option<(usize, Arc<dyn PhysicalExpr>)> {
        None
    }

    /// What it holds of the machine for as long as it runs.
    fn holds(&self) -> Resources {
        Resources::new()
    }

    /// A copy for one plan, where it keeps something of a run.
    fn fresh(&self) -> Option<Arc<dyn Operator>> {
        None
    }

    /// The batches that this run has left out.
    fn skipped(&self) -> Vec<SkippedBatch> {
        Vec::new()
    }

    /// One of its blocks.
    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// The block that an operator is to make, and what of.
pub(crate) struct Job<'a> {
    /// Its number.
    pub(crate) index: usize,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    pub(crate) inputs: &'a [Arc<dyn ExecutionPlan>],
    pub(crate) context: Arc<TaskContext>,
    pub(crate) tally: &'a Tally,
}

impl Job<'_> {
    /// Block `index` of an input.
    pub(crate) fn input(&self, input: usize, index: usize) -> Result<SendableRecordBatchStream> {
        self.inputs[input].execute(index, self.context.clone())
    }

    /// All rows of an input, in its blocks' order where that means something.
    pub(crate) fn rows(&self, input: usize, room: Room) -> BoxStream<'static, Result<RecordBatch>> {
        let (input, room) = whole(self.inputs[input].clone(), room);
        let blocks = input.output_partitioning().partition_count();
        self.taken(input, 0..blocks, room)
    }

    /// The rows of some blocks of an input, in order.
    pub(crate) fn rows_of(
        &self,
        input: usize,
        blocks: Range<usize>,
        room: Room,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        self.taken(self.inputs[input].clone(), blocks, room)
    }

    fn taken(
        &self,
        input: Arc<dyn ExecutionPlan>,
        blocks: Range<usize>,
        room: Room,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let room = Room { stage: self.tally.stage(), ..room };
        let watch = Some(self.tally.watch.clone());
        let batches = ordered_blocks(input, blocks, self.context.clone(), room, watch);
        batches.map(|item| item.map(|(_, batch)| batch)).boxed()
    }
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

    /// The operator of a plan and its only input, where it is an `O`.
    pub(crate) fn is<O: Operator>(plan: &LogicalPlan) -> Option<(&O, &LogicalPlan)> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        let node = extension.node.as_any().downcast_ref::<Self>()?;
        let operator: &dyn Any = &*node.operator;
        Some((operator.downcast_ref()?, node.inputs.first()?))
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
pub(crate) struct NodeExec {
    operator: Arc<dyn Operator>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    order: Option<LexOrdering>,
    tally: Tally,
    properties: Arc<PlanProperties>,
}

impl NodeExec {
    pub(crate) fn new(operator: &Arc<dyn Operator>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let order = match &inputs[..] {
            [only] => operator.order(only)?,
            _ => None,
        };
        let operator = operator.fresh().unwrap_or_else(|| operator.clone());
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
        let mut properties =
            properties(operator.schema(&schemas)?, operator.partitions(&counts), operator.sorts());
        if let ([only], true) = (&inputs[..], operator.keeps_blocks()) {
            Arc::make_mut(&mut properties).partitioning = only.output_partitioning().clone();
        }
        if let Some(known) = operator.known() {
            Arc::make_mut(&mut properties).set_eq_properties(known.clone());
        }
        Ok(Self { operator, inputs, order, tally: Tally::default(), properties })
    }

    pub(crate) fn operator(&self) -> &dyn Operator {
        &*self.operator
    }

    /// What it counts.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl fmt::Debug for NodeExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator)
    }
}

impl DisplayAs for NodeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator)
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

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    // Not in the engine's sense, see `keep_order.rs`.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn supports_limit_pushdown(&self) -> bool {
        self.operator.keeps_count()
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        if self.operator.keeps_count() { CardinalityEffect::Equal } else { CardinalityEffect::Unknown }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.tally.metrics())
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

    fn gather_filters_for_pushdown(
        &self,
        phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let found =
            phase == FilterPushdownPhase::Post && config.optimizer.enable_join_dynamic_filter_pushdown;
        let mut own = self.operator.filter().filter(|_| found);
        let inputs = (0..self.inputs.len()).map(|index| {
            let input = ChildFilterDescription::all_unsupported(&filters);
            match own.take_if(|(input, _)| *input == index) {
                Some((_, filter)) => input.with_self_filter(filter),
                None => input,
            }
        });
        Ok(inputs.fold(FilterDescription::new(), FilterDescription::with_child))
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (schema, inputs, tally) = (self.schema(), &self.inputs[..], &self.tally);
        let stream = self.operator.run(Job { index, schema, inputs, context, tally })?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), self.tally.count(stream))))
    }
}
