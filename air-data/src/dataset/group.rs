//! Groups and aggregates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use serde::de::DeserializeOwned;

use super::Dataset;
use super::columns::{column, known};
use crate::agg::{self, Aggregate};
use crate::error::{DataError, Result};
use crate::expr::{IntoExpr, col};
use crate::plan::{GroupFn, MapGroups, Node};
use crate::session::panic_message;

/// The rows of a dataset in groups of equal keys: what [`Dataset::group_by`] makes. Nulls are a key like any other.
#[derive(Debug, Clone)]
pub struct GroupBy {
    dataset: Dataset,
    keys: Vec<String>,
}

impl Dataset {
    /// The rows in groups of equal values in these columns.
    pub fn group_by<C: Into<String>>(&self, keys: impl IntoIterator<Item = C>) -> GroupBy {
        GroupBy { dataset: self.clone(), keys: keys.into_iter().map(Into::into).collect() }
    }

    /// Aggregates of all rows: one row, with a column for each. See [`agg`](crate::agg).
    pub fn aggregate<A: Into<Aggregate>>(&self, aggregates: impl IntoIterator<Item = A>) -> Self {
        self.then(|plan| aggregated(plan, &[], aggregates.into_iter().map(Into::into).collect()))
    }

    /// The sum of a column. `T` is an `Option` where there may be no value at all.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn sum<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<T> {
        self.one(agg::sum(value))
    }

    /// The smallest value of a column.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn min<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<T> {
        self.one(agg::min(value))
    }

    /// The largest value of a column.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn max<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<T> {
        self.one(agg::max(value))
    }

    /// The mean of a column.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn mean<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<T> {
        self.one(agg::mean(value))
    }

    /// The standard deviation of a column, of a sample.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn std<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<T> {
        self.one(agg::std(value))
    }

    /// The different values of a column, nulls left out, in ascending order. They are held in memory.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn unique<T: DeserializeOwned>(&self, value: impl IntoExpr) -> Result<Vec<T>> {
        let value = value.into_expr().alias("value");
        self.select([value])
            .filter_expr(col("value").is_not_null())
            .distinct()
            .sort([col("value")])
            .take_all()
    }

    /// The rows without those that are equal to another in all columns, in no particular order. Nulls are equal here.
    pub fn distinct(&self) -> Self {
        self.then(|plan| Ok(LogicalPlanBuilder::from(plan).distinct()?.build()?))
    }

    fn one<T: DeserializeOwned>(&self, aggregate: Aggregate) -> Result<T> {
        let op = aggregate.name().to_owned();
        let mut values: Vec<T> = self.aggregate([aggregate]).take(1)?;
        values.pop().ok_or_else(|| DataError::Aggregate { name: op, reason: "it made no row".to_owned() })
    }
}

impl GroupBy {
    /// One row for each group: its keys, then the aggregates. The order of groups is not promised. See [`agg`](crate::agg).
    pub fn aggregate<A: Into<Aggregate>>(&self, aggregates: impl IntoIterator<Item = A>) -> Dataset {
        self.dataset.then(|plan| {
            self.check(&plan)?;
            aggregated(plan, &self.keys, aggregates.into_iter().map(Into::into).collect())
        })
    }

    /// How many rows each group has, in the column `count()`.
    pub fn count(&self) -> Dataset {
        self.aggregate([agg::count()])
    }

    /// The sum of a column in each group.
    pub fn sum(&self, value: impl IntoExpr) -> Dataset {
        self.aggregate([agg::sum(value)])
    }

    /// The smallest value of a column in each group.
    pub fn min(&self, value: impl IntoExpr) -> Dataset {
        self.aggregate([agg::min(value)])
    }

    /// The largest value of a column in each group.
    pub fn max(&self, value: impl IntoExpr) -> Dataset {
        self.aggregate([agg::max(value)])
    }

    /// The mean of a column in each group.
    pub fn mean(&self, value: impl IntoExpr) -> Dataset {
        self.aggregate([agg::mean(value)])
    }

    /// The standard deviation of a column in each group, of a sample.
    pub fn std(&self, value: impl IntoExpr) -> Dataset {
        self.aggregate([agg::std(value)])
    }

    /// What a function makes of each group, all of whose rows it gets as one batch, keys included; it may return any number of rows. Groups come in the
    /// ascending order of their keys, nulls last; the rows of a group come in no particular order. Several groups are worked on at once.
    ///
    /// The rows are sorted by the keys, on disk past the session's memory limit; a single group must fit into that memory, twice, or the run ends
    /// with [`DataError::GroupTooLarge`], which names it.
    ///
    /// The function is called once at this point, with a batch of no rows, to learn which columns it returns; use
    /// [`map_groups_to`](Self::map_groups_to) where it cannot do without rows.
    pub fn map_groups<F>(&self, f: F) -> Dataset
    where
        F: Fn(RecordBatch) -> std::result::Result<RecordBatch, BoxError> + Send + Sync + 'static,
    {
        self.dataset.then(|plan| {
            let empty = RecordBatch::new_empty(Arc::new(Schema::clone(plan.schema().as_arrow())));
            let unknown = |why: String| DataError::SchemaUnknown {
                op: "map_groups".to_owned(),
                reason: format!(
                    "called with a batch of no rows it {why}; give the columns with map_groups_to"
                ),
            };
            let made = catch_unwind(AssertUnwindSafe(|| f(empty)))
                .map_err(|panic| unknown(format!("panicked: {}", panic_message(&*panic))))?
                .map_err(|error| unknown(format!("failed: {error}")))?;
            self.mapped(plan, Arc::new(f), made.schema())
        })
    }

    /// [`map_groups`](Self::map_groups) with the columns of its result given.
    pub fn map_groups_to<F>(&self, schema: SchemaRef, f: F) -> Dataset
    where
        F: Fn(RecordBatch) -> std::result::Result<RecordBatch, BoxError> + Send + Sync + 'static,
    {
        self.dataset.then(|plan| self.mapped(plan, Arc::new(f), schema))
    }

    fn mapped(&self, plan: LogicalPlan, f: GroupFn, schema: SchemaRef) -> Result<LogicalPlan> {
        self.check(&plan)?;
        let keys = self.keys.iter().map(|key| Ok(column(&plan, key)?.sort(true, false)));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let sorted = LogicalPlanBuilder::from(plan).sort(keys)?.build()?;
        Ok(Node::over(MapGroups { keys: self.keys.clone(), f, schema }, vec![sorted])?)
    }

    fn check(&self, plan: &LogicalPlan) -> Result<()> {
        if self.keys.is_empty() {
            let reason = "groups need at least one".to_owned();
            return Err(DataError::Config { field: "keys", reason });
        }
        self.keys.iter().try_for_each(|key| known(plan, key).map(|_| ()))
    }
}

fn aggregated(plan: LogicalPlan, keys: &[String], aggregates: Vec<Aggregate>) -> Result<LogicalPlan> {
    if aggregates.is_empty() {
        let reason = "there are none; agg::count() is one".to_owned();
        return Err(DataError::Config { field: "aggregates", reason });
    }
    let mut names: Vec<&str> = Vec::with_capacity(keys.len() + aggregates.len());
    for name in keys.iter().map(String::as_str).chain(aggregates.iter().map(Aggregate::name)) {
        if names.contains(&name) {
            return Err(DataError::DuplicateColumn {
                column: name.to_owned(),
                path: "the aggregates; name them with alias".to_owned(),
            });
        }
        names.push(name);
    }
    let exprs: Vec<Expr> =
        aggregates.iter().map(|aggregate| aggregate.expr(plan.schema())).collect::<Result<_>>()?;
    let group = keys.iter().map(|key| column(&plan, key)).collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(plan).aggregate(group, exprs)?.build()?)
}
