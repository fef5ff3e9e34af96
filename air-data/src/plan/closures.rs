//! [`Closures`]: a chain of user functions as one node of the logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::op::Op;

/// A chain of user functions over `input`. Neighbouring functions share one node, so that a row passes through all of
/// them before the next is looked at.
#[derive(Clone)]
pub(crate) struct Closures {
    input: LogicalPlan,
    ops: Vec<Arc<dyn Op>>,
    schema: DFSchemaRef,
}

impl Closures {
    /// Puts `op` on top of `input`, in the same node when `input` is functions already.
    pub(crate) fn stack(input: LogicalPlan, op: Arc<dyn Op>) -> Result<LogicalPlan> {
        let mut ops = Vec::new();
        let mut below = input;
        if let LogicalPlan::Extension(extension) = &below
            && let Some(node) = extension.node.as_any().downcast_ref::<Self>()
        {
            ops.clone_from(&node.ops);
            below = node.input.clone();
        }
        ops.push(op);
        let node = Self::over(below, ops)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn over(input: LogicalPlan, ops: Vec<Arc<dyn Op>>) -> Result<Self> {
        let schema: SchemaRef = Arc::new(input.schema().as_arrow().clone());
        let schema = ops.iter().fold(schema, |schema, op| op.schema(&schema));
        let schema = Arc::new(DFSchema::try_from(schema)?);
        Ok(Self { input, ops, schema })
    }

    pub(crate) fn ops(&self) -> &[Arc<dyn Op>] {
        &self.ops
    }
}

/// The chain as text: `map → filter`.
pub(crate) fn chain(ops: &[Arc<dyn Op>]) -> String {
    let names: Vec<&str> = ops.iter().map(|op| op.name()).collect();
    names.join(" → ")
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

// Functions have no value to compare: a node equals only its own copies.
impl PartialEq for Closures {
    fn eq(&self, other: &Self) -> bool {
        self.ops.len() == other.ops.len()
            && self.ops.iter().zip(&other.ops).all(|(a, b)| std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)))
            && self.input == other.input
    }
}

impl Eq for Closures {}

impl PartialOrd for Closures {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for Closures {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for op in &self.ops {
            Arc::as_ptr(op).cast::<()>().hash(state);
        }
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Closures {
    fn name(&self) -> &'static str {
        "Closures"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Closures: {}", chain(&self.ops))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else {
            return datafusion::common::internal_err!("closures need an input");
        };
        Self::over(input, self.ops.clone())
    }

    /// A function over a struct reads the columns that its fields name: the others need not be read from the file.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let fields = self.ops.first()?.reads()?;
        let input = self.input.schema();
        let indices: Option<Vec<usize>> =
            fields.iter().map(|field| input.index_of_column_by_name(None, field.name())).collect();
        let mut indices = indices?;
        indices.sort_unstable();
        Some(vec![indices])
    }

    fn supports_limit_pushdown(&self) -> bool {
        self.ops.iter().all(|op| op.keeps_count())
    }
}
