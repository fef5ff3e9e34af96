//! [`KeepSteps`]: the same step taken twice is two steps.
//!
//! Where a projection stands on one with equal expressions, DataFusion's `optimize_projections` drops one of them
//! (<https://github.com/apache/datafusion/pull/24686>, after 55.2), though `x + 1 AS x` twice is `x + 2`. Two projections mean the same as one
//! unless a column is made from one that it hides, so before that rule such a projection is taken apart: the columns get names of their own, and a
//! second projection gives them their names back. Neither can equal another, and where they need not be apart the rule merges them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

/// DataFusion's rules with [`KeepSteps`] before the one that drops projections.
pub(crate) fn logical_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let place = rules.iter().position(|rule| rule.name() == "optimize_projections").unwrap_or(rules.len());
    rules.insert(place, Arc::new(KeepSteps));
    rules
}

#[derive(Debug)]
struct KeepSteps;

impl OptimizerRule for KeepSteps {
    fn name(&self) -> &'static str {
        "keep_steps"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Projection(upper) => match upper.input.as_ref() {
                LogicalPlan::Projection(lower) if hides_what_it_reads(lower) => {
                    let named = named_back(lower)?;
                    let upper = Projection::try_new(upper.expr.clone(), Arc::new(named))?;
                    Ok(Transformed::yes(LogicalPlan::Projection(upper)))
                }
                _ => Ok(Transformed::no(plan)),
            },
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// Whether a column of `projection` has the name of another of its input that it is made from, so that the same expressions on top of it
/// would read something else.
fn hides_what_it_reads(projection: &Projection) -> bool {
    let read: HashSet<&Column> = projection.expr.iter().flat_map(Expr::column_refs).collect();
    let made = projection.schema.columns();
    projection
        .expr
        .iter()
        .zip(&made)
        .any(|(expr, name)| read.contains(name) && !matches!(expr, Expr::Column(same) if same == name))
}

fn named_back(projection: &Projection) -> Result<LogicalPlan> {
    static STEPS: AtomicU64 = AtomicU64::new(0);
    let step = STEPS.fetch_add(1, Ordering::Relaxed);
    let own = |index: usize| format!("__step_{step}_{index}");
    let made = projection.expr.iter().enumerate();
    let made = made.map(|(index, expr)| expr.clone().alias(own(index))).collect();
    let lower = Projection::try_new(made, projection.input.clone())?;
    let back =
        projection.schema.columns().into_iter().enumerate().map(|(index, Column { relation, name, .. })| {
            Expr::Column(Column::new_unqualified(own(index))).alias_qualified(relation, name)
        });
    let back = Projection::try_new(back.collect(), Arc::new(LogicalPlan::Projection(lower)))?;
    Ok(LogicalPlan::Projection(back))
}
