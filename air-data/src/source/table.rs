//! [`Source`]: anything that can stream blocks; and its place in DataFusion, [`SourceTable`] and [`SourceExec`].

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::plan::{Tally, properties, row_bytes};

/// Anything that can stream blocks of rows.
pub(crate) trait Source: fmt::Debug + fmt::Display + Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;

    fn partitions(&self) -> usize;

    /// The rows of one partition, where they are known without reading.
    fn rows(&self, partition: usize) -> Option<usize>;

    fn open(&self, partition: usize, context: Arc<TaskContext>) -> BoxStream<'static, Result<RecordBatch>>;
}

/// A source as a table.
#[derive(Debug)]
pub(crate) struct SourceTable(pub(crate) Arc<dyn Source>);

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
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
        Ok(Arc::new(SourceExec::new(self.0.clone(), projection.cloned(), limit)?))
    }
}

/// Streams a source's blocks: the projected columns, up to `limit` rows of each partition.
#[derive(Debug)]
pub(crate) struct SourceExec {
    source: Arc<dyn Source>,
    projection: Option<Vec<usize>>,
    limit: Option<usize>,
    tally: Tally,
    properties: Arc<PlanProperties>,
}

impl SourceExec {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        projection: Option<Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let schema = project_schema(&source.schema(), projection.as_ref())?;
        let properties = properties(schema, source.partitions());
        Ok(Self { source, projection, limit, tally: Tally::default(), properties })
    }

    /// The bytes of all rows, where they are known without reading.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let rows: usize =
            (0..self.source.partitions()).map(|partition| self.source.rows(partition)).sum::<Option<_>>()?;
        let rows = self.limit.map_or(rows, |limit| rows.min(limit.saturating_mul(self.source.partitions())));
        rows.checked_mul(row_bytes(&self.schema())?)
    }
}

impl DisplayAs for SourceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceExec: {}, blocks={}", self.source, self.source.partitions())?;
        if let Some(projection) = &self.projection {
            write!(f, ", projection={projection:?}")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
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
        let projection = self.projection.clone();
        let mut left = self.limit.unwrap_or(usize::MAX);
        let batches = self.source.open(partition, context).scan((), move |(), item| {
            if left == 0 {
                return futures::future::ready(None);
            }
            let item = item.and_then(|batch| {
                let batch = if batch.num_rows() > left { batch.slice(0, left) } else { batch };
                left -= batch.num_rows();
                match &projection {
                    Some(columns) => Ok(batch.project(columns)?),
                    None => Ok(batch),
                }
            });
            futures::future::ready(Some(item))
        });
        let counted = self.tally.count(batches);
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
        let count = |partition| self.source.rows(partition).map(|rows| rows.min(self.limit.unwrap_or(rows)));
        let rows = match args.partition() {
            Some(partition) => count(partition),
            None => (0..self.source.partitions()).map(count).sum(),
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
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Self::new(self.source.clone(), self.projection.clone(), limit).ok().map(|exec| Arc::new(exec) as _)
    }
}
