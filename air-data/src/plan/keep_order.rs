//! [`KeepOrder`]: what a sort has put in order stays so, whatever is done with it.
//!
//! DataFusion keeps an order only where something above asks for it by its keys; it would merge sorted partitions in any order, move a sort by equal
//! column numbers below one of our operators, which make their columns anew, or below a limit, where other rows come first. So each sort and each limit
//! has this on top, which asks for the order that there is as one stream, and no operator of ours says that it keeps one.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, SortExpr};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::node::{Job, Node, Operator};

/// The rows of its input, in the order that the input has when it is planned.
#[derive(Debug, Clone)]
pub(crate) struct KeepOrder {
    /// The columns that the keys are made of.
    columns: Vec<String>,
}

/// `plan` sorted by `keys`, to stay so.
pub(crate) fn sorted(plan: LogicalPlan, keys: Vec<SortExpr>) -> Result<LogicalPlan> {
    let columns = columns(&keys);
    let sorted = LogicalPlanBuilder::from(plan).sort(keys)?.build()?;
    Node::over(KeepOrder { columns }, vec![sorted])
}

/// The first `rows` rows of a plan, in the order that they have there.
pub(crate) fn first(plan: LogicalPlan, rows: usize) -> Result<LogicalPlan> {
    let limited = LogicalPlanBuilder::from(plan).limit(0, Some(rows))?.build()?;
    Node::over(KeepOrder { columns: Vec::new() }, vec![limited])
}

/// The plan of a query, whose order stays if it has one.
pub(crate) fn kept(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut below = &plan;
    loop {
        match below {
            LogicalPlan::Sort(sort) => {
                let columns = columns(&sort.expr);
                return Node::over(KeepOrder { columns }, vec![plan]);
            }
            LogicalPlan::Limit(limit) => {
                let columns = match limit.input.as_ref() {
                    LogicalPlan::Sort(sort) => columns(&sort.expr),
                    _ => Vec::new(),
                };
                return Node::over(KeepOrder { columns }, vec![plan]);
            }
            LogicalPlan::Projection(projection) => below = &projection.input,
            LogicalPlan::SubqueryAlias(alias) => below = &alias.input,
            _ => return Ok(plan),
        }
    }
}

fn columns(keys: &[SortExpr]) -> Vec<String> {
    let columns =
        keys.iter().flat_map(|key| key.expr.column_refs().into_iter().map(|column| column.name.clone()));
    columns.collect()
}

impl fmt::Display for KeepOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keep the order")
    }
}

impl Operator for KeepOrder {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    fn needs(&self, output: &[usize], inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        let [input] = inputs else { return None };
        let keys = self.columns.iter().filter_map(|name| input.index_of(name).ok());
        let mut columns: Vec<usize> = output.iter().copied().chain(keys).collect();
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }

    fn keeps_count(&self) -> bool {
        true
    }

    fn order(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Option<LexOrdering>> {
        // What the engine says of a sort leaves out keys that have one value in each partition, though it may be another one in the next.
        let mut below = input;
        while below.is::<GlobalLimitExec>() || below.is::<LocalLimitExec>() {
            let [only] = below.children()[..] else { break };
            below = only;
        }
        let sort = below.downcast_ref::<SortExec>().map(|sort| sort.expr().clone());
        Ok(sort.or_else(|| input.properties().output_ordering().cloned()))
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(job.input(0, job.index)?.boxed())
    }
}
