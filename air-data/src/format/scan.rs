//! [`FormatSource`]: a format of ours in the engine's file scan.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, apply_expression_roots};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_scan_config::FileScanConfig;
use datafusion_datasource::file_stream::{FileOpenFuture, FileOpener};
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion_datasource::{PartitionedFile, TableSchema};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;

use super::{Compression, FileBytes, Format, Want};
use crate::source::Layout;

/// Rows of a batch, where the engine does not say.
const ROWS: usize = 8192;

/// Files of a format of ours. The columns that are asked for come out of the files; columns in paths and expressions are put on top.
#[derive(Debug, Clone)]
pub(crate) struct FormatSource {
    format: Arc<dyn Format>,
    columns: TableSchema,
    /// Whether somebody gave the columns.
    given: bool,
    /// Whether all files have a [`Layout`] that blocks may be cut by.
    cut: bool,
    /// How the files are compressed that the store unpacks.
    compression: Compression,
    projection: SplitProjection,
    rows: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl FormatSource {
    pub(crate) fn new(
        format: Arc<dyn Format>,
        columns: TableSchema,
        given: bool,
        cut: bool,
        compression: Compression,
    ) -> Self {
        let (projection, metrics) = (SplitProjection::unprojected(&columns), ExecutionPlanMetricsSet::new());
        Self { format, columns, given, cut, compression, projection, rows: ROWS, metrics }
    }
}

impl FileSource for FormatSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let all = self.columns.file_schema().clone();
        let columns = Arc::new(all.project(&self.projection.file_indices)?);
        let want = Want { all: all.clone(), columns, given: self.given, rows: self.rows, pieces: None };
        let (format, compression) = (self.format.clone(), self.compression);
        let opener = Arc::new(Opener { format, store, compression, want });
        ProjectionOpener::try_new(self.projection.clone(), opener, &all)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.columns
    }

    fn with_batch_size(&self, rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { rows: rows.max(1), ..self.clone() })
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let projection = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.columns.file_schema(), &projection);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        self.format.name()
    }

    fn supports_repartitioning(&self) -> bool {
        self.cut
    }

    fn fmt_extra(&self, _: DisplayFormatType, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct Opener {
    format: Arc<dyn Format>,
    store: Arc<dyn ObjectStore>,
    compression: Compression,
    want: Want,
}

impl FileOpener for Opener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let want = Want { pieces: Layout::pieces_of(&file), ..self.want.clone() };
        let file = FileBytes::unpacked(self.store.clone(), file.object_meta, self.compression);
        let batches = self.format.open(file, want).map_err(DataFusionError::External);
        Ok(futures::future::ready(Ok(batches.boxed())).boxed())
    }
}
