//! The verbs that run a dataset.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;

use super::Dataset;
use super::batches::{BatchOptions, Batches};
use crate::error::{DataError, Place, Result};
use crate::exchange::{Room, ordered};
use crate::memory::Watch;
use crate::plan::{check_pools, number_stages, whole};
use crate::rows::{Reader, Row};
use crate::stats::{RunGuard, Stats, recorded};

impl Dataset {
    /// The columns, with their types. It runs nothing.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::clone(self.logical_plan()?.schema().as_arrow())))
    }

    /// The first `rows` rows, as values of `T`: a struct, a plain value (for a single column), or a [`Row`].
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset; [`DataError::Row`] for rows that are no `T`.
    pub fn take<T: DeserializeOwned>(&self, rows: usize) -> Result<Vec<T>> {
        let first = Self { last_run: self.last_run.clone(), ..self.limit(rows) };
        values("take", &first.collect()?)
    }

    /// All rows, as values of `T`.
    ///
    /// # Errors
    /// As [`Dataset::take`].
    pub fn take_all<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        values("take_all", &self.collect()?)
    }

    /// All rows as Arrow batches.
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset.
    pub fn collect(&self) -> Result<Vec<RecordBatch>> {
        let this = self.clone();
        self.session.block_on(async move { this.stream().await?.try_collect().await })
    }

    /// [`Dataset::collect`] for asynchronous code, of any runtime.
    ///
    /// # Errors
    /// As [`Dataset::collect`].
    pub async fn collect_async(&self) -> Result<Vec<RecordBatch>> {
        let this = self.clone();
        self.session.run(async move { this.stream().await?.try_collect().await }).await
    }

    /// All rows as one Arrow batch.
    ///
    /// # Errors
    /// As [`Dataset::collect`].
    pub fn to_batch(&self) -> Result<RecordBatch> {
        let schema = self.schema()?;
        Ok(concat_batches(&schema, &self.collect()?)?)
    }

    /// How many rows there are. Where the source knows, nothing is read.
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset.
    pub fn count(&self) -> Result<u64> {
        let this = self.clone();
        self.session.block_on(async move { this.count_rows().await })
    }

    /// [`Dataset::count`] for asynchronous code, of any runtime.
    ///
    /// # Errors
    /// As [`Dataset::count`].
    pub async fn count_async(&self) -> Result<u64> {
        let this = self.clone();
        self.session.run(async move { this.count_rows().await }).await
    }

    async fn count_rows(&self) -> Result<u64> {
        let counted = self.within(|plan| {
            let none: [datafusion::logical_expr::Expr; 0] = [];
            Ok(LogicalPlanBuilder::from(plan).aggregate(none, [count_all()])?.build()?)
        });
        let batches: Vec<RecordBatch> = counted.stream().await?.try_collect().await?;
        let rows = batches
            .iter()
            .find(|batch| batch.num_rows() == 1)
            .map(|batch| batch.column(0).as_primitive_opt::<Int64Type>().map_or(0, |counts| counts.value(0)));
        Ok(u64::try_from(rows.unwrap_or(0)).unwrap_or(0))
    }

    /// Prints the first `rows` rows to stdout, one JSON object a line.
    ///
    /// # Errors
    /// As [`Dataset::take`]; [`DataError::Write`] when stdout is closed.
    pub fn show(&self, rows: usize) -> Result<()> {
        self.show_to(rows, &mut std::io::stdout().lock())
    }

    /// Prints the first `rows` rows to `out`, one JSON object a line.
    ///
    /// # Errors
    /// As [`Dataset::show`].
    pub fn show_to(&self, rows: usize, out: &mut impl Write) -> Result<()> {
        for row in self.take::<Row>(rows)? {
            writeln!(out, "{row}")
                .map_err(|e| DataError::Write { path: "output".to_owned(), source: e.into() })?;
        }
        Ok(())
    }

    /// The rows in batches of `rows` rows, the last one smaller where the number does not divide.
    ///
    /// # Errors
    /// As [`Dataset::batches_with`].
    pub fn batches(&self, rows: usize) -> Result<Batches> {
        self.batches_with(BatchOptions::new(rows))
    }

    /// The rows in batches, made ahead on the session's threads: without the last one where it is smaller, mixed within windows, or
    /// with a prefetch of its own.
    ///
    /// # Errors
    /// [`DataError::Config`] for an option out of range; the first mistake made in describing the dataset. What goes wrong later
    /// comes out of the iterator, once, as its last item.
    pub fn batches_with(&self, options: BatchOptions) -> Result<Batches> {
        options.validate()?;
        let schema = self.schema()?;
        let this = self.clone();
        let stream = self.session.block_on(async move { this.stream().await })?;
        let bytes = options.prefetch_bytes.unwrap_or(self.session.config().prefetch_bytes);
        Batches::shaped(&self.session, stream.boxed(), schema, &options, bytes)
    }

    /// The rows in batches as the operators make them, of any size: nothing is cut or copied for it. They are made ahead, as those of
    /// [`Dataset::batches`] are.
    ///
    /// ```
    /// # fn main() -> Result<(), air_data::DataError> {
    /// let mut rows = 0;
    /// for batch in air_data::range(100_000)?.record_batches()? {
    ///     rows += batch?.num_rows();
    /// }
    /// assert_eq!(rows, 100_000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Dataset::batches_with`].
    pub fn record_batches(&self) -> Result<Batches> {
        let schema = self.schema()?;
        let this = self.clone();
        let (stream, watch) = self.session.block_on(async move { this.watched().await })?;
        Ok(Batches::as_made(&self.session, stream, schema, watch))
    }

    /// The plan: as described, as optimized, and as it runs.
    ///
    /// # Errors
    /// Whatever goes wrong in planning.
    pub fn explain(&self) -> Result<String> {
        let this = self.clone();
        self.session.block_on(async move {
            let logical = this.logical_plan()?.clone();
            let state = this.session.context().state();
            let optimized = state.optimize(&logical)?;
            let (physical, _) = this.physical().await?;
            Ok(format!(
                "described\n{}\n\noptimized\n{}\n\nruns\n{}",
                logical.display_indent(),
                optimized.display_indent(),
                displayable(physical.as_ref()).indent(false)
            ))
        })
    }

    /// What the last run of this dataset did, or has done so far: rows, bytes, time and queues of each operator, the memory budget, and
    /// the batches that worker pools left out. `None` before any verb has run it. Clones share it; what is derived from it has its own.
    pub fn stats(&self) -> Option<Stats> {
        self.last_run.stats()
    }

    /// How many blocks the dataset has when it runs.
    ///
    /// # Errors
    /// Whatever goes wrong in planning.
    pub fn num_blocks(&self) -> Result<usize> {
        let this = self.clone();
        self.session.block_on(async move {
            let (plan, _) = this.physical().await?;
            Ok(plan.properties().partitioning.partition_count())
        })
    }

    /// The plan that runs, and what it runs with.
    pub(crate) async fn physical(&self) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let plan: &LogicalPlan = self.logical_plan()?;
        let state = self.session.context().state();
        let physical = state.create_physical_plan(plan).await?;
        number_stages(&physical);
        check_pools(&physical, &state)?;
        Ok((physical, state.task_ctx()))
    }

    /// The room that a reading of all blocks may take.
    pub(crate) fn room(&self) -> Room {
        Room {
            window: self.session.parallelism() + 1,
            bytes: self.session.config().prefetch_bytes,
            cautious: false,
            stage: 1,
            any_order: false,
        }
    }

    /// All batches in order, as a recorded run. It must be polled on the session's threads, or with their runtime entered.
    pub(crate) async fn stream(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(self.watched().await?.0)
    }

    /// [`stream`](Self::stream), and who is told what waits in it.
    async fn watched(&self) -> Result<(BoxStream<'static, Result<RecordBatch>>, Arc<Watch>)> {
        let (plan, context) = self.physical().await?;
        let run = self.last_run.begin(&self.session, &plan);
        let watch = run.watch();
        let (plan, room) = whole(plan, self.room());
        let stream = ordered(plan, context, room, Some(watch.clone()))
            .map(|item| item.map(|(_, batch)| batch).map_err(DataError::from));
        Ok((recorded(stream.boxed(), run).boxed(), watch))
    }

    /// Begins the record of a run that does not go through [`stream`](Self::stream).
    pub(crate) fn begin_run(&self, plan: &Arc<dyn ExecutionPlan>) -> RunGuard {
        self.last_run.begin(&self.session, plan)
    }
}

fn values<T: DeserializeOwned>(op: &str, batches: &[RecordBatch]) -> Result<Vec<T>> {
    let reader = Reader::new();
    let mut all = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let first = all.len() as u64;
        let rows = reader.read(batch).map_err(|bad| {
            let rows = match bad.row {
                Some(row) => first + row as u64..first + row as u64 + 1,
                None => first..first + batch.num_rows() as u64,
            };
            let place = Place { rows, ..Place::default() };
            DataError::Row {
                op: op.to_owned(),
                type_name: std::any::type_name::<T>(),
                place,
                source: bad.source,
            }
        })?;
        all.extend(rows);
    }
    Ok(all)
}
