//! What can be done to rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Dataset;
use super::create::scan;
use crate::error::{DataError, Result};
use crate::plan::{Closures, Filter, FlatMap, Map, MapBatches, Node, Op, Repartition, first};
use crate::rows::{ITEM, Reader, Shape, Writer};
use crate::session::panic_message;
use crate::source::{Materialized, Run, Share};

/// Most blocks a dataset may be dealt into.
const MAX_BLOCKS: usize = 100_000;

impl Dataset {
    /// One row out of each row.
    ///
    /// `In` is a struct, whose fields name the columns it reads; a plain value, for the only column of a dataset that has
    /// one; or a [`Row`](crate::Row). `Out` likewise is a struct or a plain value; its type tells the new columns. A plain value
    /// made from a plain value keeps the column's name. The function may be called for rows that nobody takes in the end.
    pub fn map<In, Out, F>(&self, f: F) -> Self
    where
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(In) -> std::result::Result<Out, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| {
            let reader = Reader::new();
            let writer = writer::<In, Out>("map", &plan, &reader)?;
            closure(plan, Map { f, reader, writer })
        })
    }

    /// [`Dataset::map`] with the columns of its result given, for results whose type does not tell them.
    pub fn map_to<In, Out, F>(&self, schema: SchemaRef, f: F) -> Self
    where
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + Send + 'static,
        F: Fn(In) -> std::result::Result<Out, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| {
            closure(plan, Map { f, reader: Reader::new(), writer: Writer::with_schema(schema, false) })
        })
    }

    /// Any number of rows out of each row. Types are as for [`Dataset::map`].
    pub fn flat_map<In, Many, F>(&self, f: F) -> Self
    where
        In: DeserializeOwned + Send + 'static,
        Many: IntoIterator + 'static,
        Many::Item: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(In) -> std::result::Result<Many, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| {
            let reader = Reader::new();
            let writer = writer::<In, Many::Item>("flat_map", &plan, &reader)?;
            closure(plan, FlatMap { f, reader, writer })
        })
    }

    /// The rows that the function says yes to, with all their columns, also those that `T` does not read.
    pub fn filter<T, F>(&self, f: F) -> Self
    where
        T: DeserializeOwned + Serialize + Send + 'static,
        F: Fn(&T) -> std::result::Result<bool, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| closure(plan, Filter { f, reader: Reader::new() }))
    }

    /// The rows for which an expression holds: `col("petal.length").gt(lit(3.5))`. Unlike a closure, the engine sees
    /// through it: Parquet row groups and pages that cannot match are not read.
    pub fn filter_expr(&self, predicate: Expr) -> Self {
        self.then(|plan| Ok(LogicalPlanBuilder::from(plan).filter(predicate)?.build()?))
    }

    /// A batch out of each batch. Batches come as the engine makes them, of at most
    /// [`batch_rows`](crate::SessionConfig::batch_rows) rows, and never span two blocks.
    ///
    /// The function is called once at this point, with a batch of no rows, to learn which columns it returns; use
    /// [`Dataset::map_batches_to`] where it cannot do without rows.
    pub fn map_batches<F>(&self, f: F) -> Self
    where
        F: Fn(RecordBatch) -> std::result::Result<RecordBatch, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| {
            let empty = RecordBatch::new_empty(arrow_schema(&plan));
            let unknown = |why: String| DataError::SchemaUnknown {
                op: "map_batches".to_owned(),
                reason: format!(
                    "called with a batch of no rows it {why}; give the columns with map_batches_to"
                ),
            };
            let made = catch_unwind(AssertUnwindSafe(|| f(empty)))
                .map_err(|panic| unknown(format!("panicked: {}", panic_message(&*panic))))?
                .map_err(|error| unknown(format!("failed: {error}")))?;
            let schema = made.schema();
            closure(plan, MapBatches { f, schema })
        })
    }

    /// [`Dataset::map_batches`] with the columns of its result given.
    pub fn map_batches_to<F>(&self, schema: SchemaRef, f: F) -> Self
    where
        F: Fn(RecordBatch) -> std::result::Result<RecordBatch, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| closure(plan, MapBatches { f, schema }))
    }

    /// The first `rows` rows. What feeds them stops as soon as they are there.
    pub fn limit(&self, rows: usize) -> Self {
        // The engine counts in i64.
        let rows = rows.min(i64::MAX as usize);
        self.then(|plan| Ok(first(plan, rows)?))
    }

    /// The same rows in the same order, dealt into `blocks` blocks of nearly equal size: what is worked on at once, and
    /// the number of files that a write makes. It has to see all rows first; past the session's memory limit they go to disk.
    pub fn repartition(&self, blocks: usize) -> Self {
        self.then(|plan| {
            if (1..=MAX_BLOCKS).contains(&blocks) {
                Ok(Node::over(Repartition::into(blocks), vec![plan])?)
            } else {
                Err(DataError::Config {
                    field: "blocks",
                    reason: format!("between 1 and {MAX_BLOCKS}, not {blocks}"),
                })
            }
        })
    }

    /// The same rows, computed once: the first terminal runs what is below and keeps the result, in memory or past the
    /// session's limit on disk, as long as this dataset lives.
    pub fn materialize(&self) -> Self {
        self.then(|plan| scan(Arc::new(Materialized { run: Arc::new(Run::new(plan)), share: Share::ALL })))
    }
}

fn closure(plan: LogicalPlan, op: impl Op + 'static) -> Result<LogicalPlan> {
    Ok(Closures::stack(plan, Arc::new(op))?)
}

fn arrow_schema(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(Schema::clone(plan.schema().as_arrow()))
}

fn writer<In: DeserializeOwned, Out: DeserializeOwned>(
    op: &str,
    plan: &LogicalPlan,
    reader: &Reader<In>,
) -> Result<Writer> {
    let fields = plan.schema().fields();
    let name = match (reader.shape(), &fields[..]) {
        (Shape::Plain(_), [only]) => only.name(),
        _ => ITEM,
    };
    Writer::new(&Shape::of::<Out>(), name).ok_or_else(|| DataError::SchemaUnknown {
        op: op.to_owned(),
        reason: format!(
            "{} does not tell them; return a struct, or give the columns with map_to",
            std::any::type_name::<Out>()
        ),
    })
}
