//! What puts datasets together, below and beside each other. (Joins are in `join.rs`.)

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union};

use super::Dataset;
use super::columns::column;
use crate::error::{DataError, Result};
use crate::plan::{Mix, MixUntil, Node, Zip};

impl Dataset {
    /// The rows of this dataset, then those of the others, in order. All must have the same columns; they go by name, in this dataset's
    /// order.
    pub fn union<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Self {
        self.then(|first| {
            let mut inputs = vec![Arc::new(aligned("union", &first, 0, first.clone())?)];
            for (index, other) in others.into_iter().enumerate() {
                inputs.push(Arc::new(aligned("union", &first, index + 1, other.logical_plan()?.clone())?));
            }
            if inputs.len() == 1 {
                return Ok(first);
            }
            Ok(LogicalPlan::Union(Union::try_new(inputs)?))
        })
    }

    /// Row `i` of `other` beside row `i` of this dataset. A column whose name is taken gets the suffix `_1` (or `_2`, …, the first that is
    /// free). The result is one block.
    ///
    /// Both must have as many rows; it shows in the run, as [`DataError::ZipLengths`], whether they do.
    pub fn zip(&self, other: &Self) -> Self {
        self.then(|left| {
            let right = other.logical_plan()?.clone();
            let mut taken: HashSet<String> =
                left.schema().fields().iter().map(|field| field.name().clone()).collect();
            let own: HashSet<String> =
                right.schema().fields().iter().map(|field| field.name().clone()).collect();
            let mut renamed = Vec::with_capacity(own.len());
            for column in right.schema().columns() {
                let mut name = column.name.clone();
                let mut number = 0;
                while taken.contains(&name) || (number > 0 && own.contains(&name)) {
                    number += 1;
                    name = format!("{}_{number}", column.name);
                }
                taken.insert(name.clone());
                renamed.push(Expr::Column(column).alias(name));
            }
            let right = LogicalPlanBuilder::from(right).project(renamed)?.build()?;
            Ok(Node::over(Zip { room: self.room() }, vec![left, right])?)
        })
    }

    /// Rows of several datasets in turns, by weight: with weights 3 and 1, three rows of the first for each of the second, spread evenly. Each
    /// dataset's rows keep their order; all must have the same columns. The result is one block.
    ///
    /// # Errors
    /// [`DataError::Config`] for no datasets or a weight that is not above 0. What else is wrong is told by the terminal that runs it.
    pub fn mix<'a>(parts: impl IntoIterator<Item = (&'a Self, f64)>, until: MixUntil) -> Result<Self> {
        let parts: Vec<(&Self, f64)> = parts.into_iter().collect();
        let bad = |reason: String| DataError::Config { field: "weights", reason };
        let Some((first, _)) = parts.first() else {
            return Err(bad("a mix needs at least one dataset".to_owned()));
        };
        if let Some((_, weight)) = parts.iter().find(|(_, weight)| !(weight.is_finite() && *weight > 0.0)) {
            return Err(bad(format!("above 0, not {weight}")));
        }
        Ok(first.then(|plan| {
            let inputs = parts
                .iter()
                .enumerate()
                .map(|(index, (part, _))| aligned("mix", &plan, index, part.logical_plan()?.clone()));
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let weights = parts.iter().map(|(_, weight)| *weight).collect();
            Ok(Node::over(Mix { weights, until, room: first.room() }, inputs)?)
        }))
    }
}

/// A plan with the columns of `first`, in its order.
fn aligned(op: &'static str, first: &LogicalPlan, index: usize, plan: LogicalPlan) -> Result<LogicalPlan> {
    let differ = |reason: String| DataError::ColumnsDiffer { op, reason };
    let which = format!("dataset {} (counted from 1)", index + 1);
    let mut columns = Vec::with_capacity(first.schema().fields().len());
    for field in first.schema().fields() {
        let found = plan.schema().fields().iter().find(|found| found.name() == field.name());
        let Some(found) = found else {
            return Err(differ(format!("{which} has no column '{}'", field.name())));
        };
        if found.data_type() != field.data_type() {
            return Err(differ(format!(
                "'{}' is {} in the first and {} in {which}",
                field.name(),
                field.data_type(),
                found.data_type()
            )));
        }
        // Without the name of a table in front, which differs between plans.
        columns.push(column(&plan, field.name())?.alias(field.name()));
    }
    let more = plan
        .schema()
        .fields()
        .iter()
        .find(|field| first.schema().fields().iter().all(|known| known.name() != field.name()));
    if let Some(more) = more {
        return Err(differ(format!("{which} has the column '{}', which the first has not", more.name())));
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}
