//! [`SpillableJoins`]: hash joins whose built side may not fit into memory become sort-merge joins.
//!
//! A hash join holds one side in memory and cannot spill it; a sort-merge join sorts both sides, and sorts spill. The first is
//! faster. Under a limit that was asked for it stays where the side that it holds is sure to be small against it; under the process's own budget,
//! which is half of the machine, it stays unless both sides are sure to be large.

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

use super::lookup::Lookups;
use crate::source::SourceExec;

/// The part of the memory that the side of a hash join may take: the other side, the table itself and the output need some too.
const SHARE: usize = 4;

/// Bytes in memory for a byte in a file, at most: files are compressed, and short as text.
const FROM_FILE: usize = 4;

/// DataFusion's rules, and before the one that looks for the smaller side of a join [`SpillableJoins`]; [`Lookups`], once sides are chosen and
/// columns left out. `strict` is what was asked for, not what the machine has.
pub(crate) fn rules(memory: usize, strict: bool) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let joins = rules.iter().position(|rule| rule.name() == "join_selection").unwrap_or(0);
    rules.insert(joins, Arc::new(SpillableJoins { memory, strict }));
    let last = rules.iter().position(|rule| rule.name() == "EnsureCooperative").unwrap_or(rules.len());
    rules.insert(last, Arc::new(Lookups));
    rules
}

/// Turns hash joins that may not fit into sort-merge joins.
#[derive(Debug)]
struct SpillableJoins {
    memory: usize,
    strict: bool,
}

impl SpillableJoins {
    fn fits(&self, side: &Arc<dyn ExecutionPlan>) -> bool {
        let share = self.memory / SHARE;
        if self.strict {
            bytes(side, true).is_some_and(|most| most <= share)
        } else {
            bytes(side, false).is_none_or(|least| least <= share)
        }
    }
}

impl PhysicalOptimizerRule for SpillableJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let marks = matches!(join.join_type(), JoinType::LeftMark | JoinType::RightMark);
            if marks || join.null_aware || join.contains_projection() || join.on().is_empty() {
                return Ok(Transformed::no(node));
            }
            // The left side is the one that is held.
            if self.fits(join.left()) {
                return Ok(Transformed::no(node));
            }
            if self.fits(join.right()) && join.join_type().supports_swap() {
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

/// The most bytes that the rows of a plan take, or, not `at_most`, about the fewest; where that can be told.
fn bytes(plan: &Arc<dyn ExecutionPlan>, at_most: bool) -> Option<usize> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let files = scan.data_source().downcast_ref::<FileScanConfig>()?;
        if !at_most && (files.file_source().filter().is_some() || files.limit.is_some()) {
            return None;
        }
        let sizes = files.file_groups.iter().flat_map(FileGroup::files).map(|file| file.object_meta.size);
        let bytes = usize::try_from(sizes.sum::<u64>()).ok()?;
        return if at_most { bytes.checked_mul(FROM_FILE) } else { all_columns(files).then_some(bytes) };
    }
    if let Some(source) = plan.downcast_ref::<SourceExec>() {
        return source.bytes(at_most);
    }
    let [input] = &plan.children()[..] else { return None };
    match plan.cardinality_effect() {
        CardinalityEffect::Equal => bytes(input, at_most),
        CardinalityEffect::LowerEqual if at_most => bytes(input, at_most),
        _ => None,
    }
}

/// Whether nothing of the files is left out.
fn all_columns(files: &FileScanConfig) -> bool {
    let columns = files.file_schema().fields().len();
    files.file_source().projection().is_none_or(|projection| projection.as_ref().len() >= columns)
}

/// The bytes of a row of fixed width; `None` where a column has none.
pub(crate) fn row_bytes(schema: &Schema) -> Option<usize> {
    schema.fields().iter().map(|field| field.data_type().primitive_width()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::common::NullEquality;
    use datafusion::physical_expr::expressions::{Column, lit};
    use datafusion::physical_plan::filter::FilterExec;
    use datafusion::physical_plan::joins::PartitionMode;

    use super::*;
    use crate::source::{FileErrors, Integers, SourceTable};

    /// 8000 bytes, for sure.
    fn numbers() -> Arc<dyn ExecutionPlan> {
        let table = SourceTable::new(Arc::new(Integers::new(1000, 2)), FileErrors::Fail).unwrap();
        Arc::new(SourceExec::new(table, None, None).unwrap())
    }

    /// As many at most.
    fn some_numbers() -> Arc<dyn ExecutionPlan> {
        Arc::new(FilterExec::try_new(lit(true), numbers()).unwrap())
    }

    fn merges(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        memory: usize,
        strict: bool,
    ) -> bool {
        let on = vec![(Arc::new(Column::new("id", 0)) as _, Arc::new(Column::new("id", 0)) as _)];
        let (mode, nulls) = (PartitionMode::Partitioned, NullEquality::NullEqualsNothing);
        let join =
            HashJoinExec::try_new(left, right, on, None, &JoinType::Inner, None, mode, nulls, false).unwrap();
        let plan =
            SpillableJoins { memory, strict }.optimize(Arc::new(join), &ConfigOptions::default()).unwrap();
        plan.downcast_ref::<SortMergeJoinExec>().is_some()
    }

    #[test]
    fn a_limit_that_was_asked_for_needs_a_side_that_is_sure_to_fit() {
        assert!(!merges(numbers(), numbers(), 32_000, true));
        assert!(!merges(some_numbers(), numbers(), 32_000, true));
        assert!(merges(numbers(), numbers(), 31_000, true));
        assert!(merges(some_numbers(), some_numbers(), 31_000, true));
    }

    #[test]
    fn the_machine_s_budget_needs_two_sides_that_are_sure_not_to_fit() {
        assert!(!merges(numbers(), numbers(), 32_000, false));
        assert!(merges(numbers(), numbers(), 31_000, false));
        assert!(!merges(some_numbers(), numbers(), 31_000, false));
        assert!(!merges(numbers(), some_numbers(), 31_000, false));
    }
}
