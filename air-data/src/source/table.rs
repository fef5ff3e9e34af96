//! A [`Source`] in its place in DataFusion: [`SourceTable`] and [`SourceExec`].

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

use super::contract::{ReadRequest, Source, SourcePart};
use super::options::{FileErrors, Skipped};
use crate::error::{DataError, Place};
use crate::plan::{Tally, conform, properties, row_bytes};
use crate::session::panic_message;

/// A source and its parts, as a table.
#[derive(Debug, Clone)]
pub(crate) struct SourceTable {
    source: Arc<dyn Source>,
    parts: Arc<[SourcePart]>,
    on_error: FileErrors,
    pub(crate) skipped: Skipped,
}

impl SourceTable {
    pub(crate) fn new(source: Arc<dyn Source>, on_error: FileErrors) -> crate::Result<Self> {
        let parts = source.parts().map_err(|error| DataError::Source {
            name: source.name(),
            part: "its parts".to_owned(),
            row: 0,
            source: error,
        })?;
        Ok(Self { source, parts: parts.into(), on_error, skipped: Skipped::default() })
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.parts.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema(), projection)?)));
        }
        let table = match self.source.for_run() {
            Some(source) => Self { source, ..self.clone() },
            None => self.clone(),
        };
        Ok(Arc::new(SourceExec::new(table, projection.cloned(), limit)?))
    }
}

/// Streams a source's parts: the projected columns, up to `limit` rows of each part.
#[derive(Debug)]
pub(crate) struct SourceExec {
    table: SourceTable,
    request: ReadRequest,
    tally: Tally,
    properties: Arc<PlanProperties>,
}

impl SourceExec {
    pub(crate) fn new(table: SourceTable, columns: Option<Vec<usize>>, limit: Option<usize>) -> Result<Self> {
        let schema = project_schema(&table.source.schema(), columns.as_ref())?;
        let properties = properties(schema, table.parts.len(), None);
        let request = ReadRequest { columns, limit, batch_rows: 0 };
        Ok(Self { table, request, tally: Tally::default(), properties })
    }

    /// The rows of a part, where they are known without reading.
    fn rows(&self, part: usize) -> Option<usize> {
        if self.table.on_error == FileErrors::Skip {
            return None;
        }
        let rows = usize::try_from(self.table.parts.get(part)?.rows?).ok()?;
        Some(rows.min(self.request.limit.unwrap_or(rows)))
    }

    fn all_rows(&self) -> Option<usize> {
        (0..self.table.parts.len()).map(|part| self.rows(part)).sum()
    }

    /// The most bytes that all rows take, or, not `at_most`, about the fewest; where they are known without reading.
    pub(crate) fn bytes(&self, at_most: bool) -> Option<usize> {
        let told = self.table.parts.iter().map(|part| part.bytes).sum::<Option<u64>>();
        if let Some(bytes) = told.and_then(|bytes| usize::try_from(bytes).ok())
            && !self.table.parts.is_empty()
            && (at_most || self.is_whole())
        {
            return Some(bytes);
        }
        self.all_rows()?.checked_mul(row_bytes(&self.schema())?)
    }

    /// Whether nothing of the parts is left out.
    fn is_whole(&self) -> bool {
        let columns = self.table.source.schema().fields().len();
        self.table.on_error != FileErrors::Skip
            && self.request.limit.is_none()
            && self.request.columns.as_ref().is_none_or(|chosen| chosen.len() >= columns)
    }
}

impl DisplayAs for SourceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceExec: {}, blocks={}", self.table.source.name(), self.table.parts.len())?;
        if let Some(columns) = &self.request.columns {
            write!(f, ", projection={columns:?}")?;
        }
        self.request.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for SourceExec {
    fn name(&self) -> &'static str {
        "SourceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let request =
            ReadRequest { batch_rows: context.session_config().batch_size(), ..self.request.clone() };
        let reading = Reading {
            name: self.table.source.name(),
            part: self.table.parts.get(partition).cloned().unwrap_or_default(),
            all: self.table.source.schema(),
            wanted: self.schema(),
            columns: request.columns.clone(),
            left: request.limit.unwrap_or(usize::MAX),
            row: 0,
            skipped: (self.table.on_error == FileErrors::Skip).then(|| self.table.skipped.clone()),
        };
        let batches = match self.table.source.open(partition, &request) {
            Ok(batches) => batches.into_stream(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        };
        let counted = self.tally.count(reading.heed(batches));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.tally.metrics())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let rows = match args.partition() {
            Some(part) => self.rows(part),
            None => self.all_rows(),
        };
        if let Some(rows) = rows {
            statistics.num_rows = Precision::Exact(rows);
        }
        Ok(Arc::new(statistics))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn fetch(&self) -> Option<usize> {
        self.request.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let exec = Self::new(self.table.clone(), self.request.columns.clone(), limit);
        exec.ok().map(|exec| Arc::new(exec) as _)
    }
}

/// One part while it is read: what is asked of its batches, and what is said when they are not so.
struct Reading {
    name: String,
    part: SourcePart,
    all: SchemaRef,
    wanted: SchemaRef,
    columns: Option<Vec<usize>>,
    left: usize,
    /// Rows that came so far.
    row: u64,
    skipped: Option<Skipped>,
}

impl Reading {
    /// The batches as they are wanted. An error ends the part, and where that is to be skipped, that is all it does.
    fn heed(
        self,
        batches: impl Stream<Item = std::result::Result<RecordBatch, BoxError>> + Send,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send {
        let batches = AssertUnwindSafe(batches.fuse()).catch_unwind();
        let state = Some((Box::pin(batches), self));
        futures::stream::unfold(state, |state| async move {
            let (mut batches, mut this) = state?;
            if this.left == 0 {
                return None;
            }
            let error = match batches.next().await {
                Some(Ok(Ok(batch))) => match this.shaped(batch) {
                    Ok(batch) => return Some((Ok(batch), Some((batches, this)))),
                    Err(error) => this.failed(error),
                },
                Some(Ok(Err(error))) => this.failed(error),
                Some(Err(panic)) => this.panicked(panic_message(&*panic)),
                None => this.short()?,
            };
            match &this.skipped {
                Some(skipped) => {
                    skipped.add(&format!("{}: {}", this.name, this.part.name), &error);
                    None
                }
                None => Some((Err(error.into()), None)),
            }
        })
    }

    fn shaped(&mut self, batch: RecordBatch) -> std::result::Result<RecordBatch, BoxError> {
        let named = |schema: &SchemaRef| {
            batch.num_columns() == schema.fields().len()
                && batch.schema_ref().fields().iter().zip(schema.fields()).all(|(a, b)| a.name() == b.name())
        };
        let batch = match &self.columns {
            Some(columns) if !named(&self.wanted) => conform(batch, &self.all)?.project(columns)?,
            _ => conform(batch, &self.wanted)?,
        };
        let batch = if batch.num_rows() > self.left { batch.slice(0, self.left) } else { batch };
        self.left -= batch.num_rows();
        self.row += batch.num_rows() as u64;
        Ok(batch)
    }

    /// Our own errors, which come through the rows of other datasets, say already where they are from.
    fn failed(&self, error: BoxError) -> DataError {
        let source = match error.downcast::<DataFusionError>() {
            Ok(engine) => match DataError::from(*engine) {
                DataError::Engine(engine) => engine as BoxError,
                ours => return ours,
            },
            Err(other) => other,
        };
        DataError::Source { name: self.name.clone(), part: self.part.name.clone(), row: self.row, source }
    }

    fn panicked(&self, message: String) -> DataError {
        let op = format!("reading {} of {}", self.part.name, self.name);
        DataError::Panicked { op, place: Place { rows: self.row..self.row + 1, ..Place::default() }, message }
    }

    /// What is wrong with a part that has ended, when it has other rows than were promised.
    fn short(&self) -> Option<DataError> {
        let promised = self.part.rows.filter(|rows| *rows != self.row)?;
        let rows = self.row;
        Some(self.failed(format!("it has {rows} rows, and was said to have {promised}").into()))
    }
}
