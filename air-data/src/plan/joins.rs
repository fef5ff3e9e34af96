//! [`SpillableJoins`]: hash joins whose built side may not fit into memory become sort-merge joins.
//!
//! A hash join holds one side in memory and cannot spill it; a sort-merge join sorts both sides, and sorts spill. The first is
//! faster, so it stays where the side that it holds is sure to be small against the memory there is.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion_datasource::file_groups::FileGroup;

use crate::source::SourceExec;

/// The part of the memory that the side of a hash join may take: the other side, the table itself and the output need some too.
const SHARE: usize = 4;

/// Bytes in memory for a byte in a file: files are compressed, and short as text.
const FROM_FILE: usize = 4;

/// DataFusion's rules, and before the one that looks for the smaller side of a join this one.
pub(crate) fn rules(memory: usize) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let joins = rules.iter().position(|rule| rule.name() == "join_selection").unwrap_or(0);
    rules.insert(joins, Arc::new(SpillableJoins { memory }));
    rules
}

/// Turns hash joins that may not fit into sort-merge joins.
#[derive(Debug)]
struct SpillableJoins {
    memory: usize,
}

impl PhysicalOptimizerRule for SpillableJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let fits = |side| at_most(side).is_some_and(|bytes| bytes <= self.memory / SHARE);
            let marks = matches!(join.join_type(), JoinType::LeftMark | JoinType::RightMark);
            if marks || join.null_aware || join.contains_projection() || join.on().is_empty() {
                return Ok(Transformed::no(node));
            }
            // The left side is the one that is held.
            if fits(join.left()) {
                return Ok(Transformed::no(node));
            }
            if fits(join.right()) && join.join_type().supports_swap() {
                return Ok(Transformed::yes(join.swap_inputs(*join.partition_mode())?));
            }
            let merge = SortMergeJoinExec::try_new(
                join.left().clone(),
                join.right().clone(),
                join.on().to_vec(),
                join.filter().cloned(),
                *join.join_type(),
                vec![SortOptions::default(); join.on().len()],
                join.null_equality(),
            )?;
            Ok(Transformed::yes(Arc::new(merge) as _))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "spillable_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Bytes that the rows of a plan do not exceed, where that can be told.
fn at_most(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let files = scan.data_source().downcast_ref::<FileScanConfig>()?;
        let files = files.file_groups.iter().flat_map(FileGroup::files);
        let bytes: u64 = files.map(|file| file.object_meta.size).sum();
        return usize::try_from(bytes).ok()?.checked_mul(FROM_FILE);
    }
    if let Some(source) = plan.downcast_ref::<SourceExec>() {
        return source.bytes();
    }
    let [input] = &plan.children()[..] else { return None };
    match plan.cardinality_effect() {
        CardinalityEffect::Equal | CardinalityEffect::LowerEqual => at_most(input),
        CardinalityEffect::Unknown | CardinalityEffect::GreaterEqual => None,
    }
}

/// The bytes of a row of fixed width; `None` where a column has none.
pub(crate) fn row_bytes(schema: &Schema) -> Option<usize> {
    schema.fields().iter().map(|field| field.data_type().primitive_width()).sum()
}
