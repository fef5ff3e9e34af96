//! [`Named`]: a file source whose errors say which file they came from, and of JSON lines which line; or that goes on without the file.

use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_scan_config::FileScanConfig;
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use datafusion_datasource::{PartitionedFile, TableSchema};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use object_store::path::Path;

use super::files::plain;
use super::refusal::Refusal;
use super::unpacked::{Purpose, Unpacked};
use super::{Skipped, json_lines};
use crate::error::DataError;
use crate::format::{Compression, Spoilt, VALUE_BYTES, signature};

/// Another source, with the file's name on its errors.
#[derive(Clone)]
pub(super) struct Named {
    inner: Arc<dyn FileSource>,
    /// What the file's path is put after in a message: nothing for local files.
    root: Arc<str>,
    /// What files of the format begin with.
    begins: &'static [u8],
    /// How the files are compressed, if any is: then none is cut by its bytes.
    compression: Compression,
    /// Where files go that cannot be read, if that is no reason to end.
    skipped: Option<Skipped>,
}

impl Named {
    pub(super) fn new(
        inner: Arc<dyn FileSource>,
        root: &str,
        begins: &'static [u8],
        compression: Compression,
        skipped: Option<Skipped>,
    ) -> Self {
        Self { inner, root: root.into(), begins, compression, skipped }
    }

    /// The engine's reader of JSON lines holds a line as long as it is; ours have limits.
    fn unpacked(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        let longest_line = (self.inner.file_type() == "json").then_some(VALUE_BYTES);
        Unpacked::over(store, self.compression, Purpose::Read { longest_line })
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }
}

impl FileSource for Named {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(self.unpacked(store), config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let store = self.unpacked(store);
        let inner = self.inner.create_morselizer(store.clone(), config, partition)?;
        let content = Content {
            store,
            json: (self.inner.file_type() == "json").then(|| self.inner.table_schema().file_schema().clone()),
            begins: self.begins,
        };
        Ok(Box::new(NamedFiles { inner, root: self.root.clone(), content, skipped: self.skipped.clone() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.wrap(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.compression == Compression::None && self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        file_min_size: usize,
        ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        if self.compression != Compression::None {
            return Ok(None);
        }
        self.inner.repartitioned(target_partitions, file_min_size, ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let mut result = self.inner.try_pushdown_filters(filters, config)?;
        result.updated_node = result.updated_node.map(|inner| self.wrap(inner));
        Ok(result)
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(|inner| self.wrap(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[derive(Debug)]
struct NamedFiles {
    inner: Box<dyn Morselizer>,
    root: Arc<str>,
    content: Content,
    skipped: Option<Skipped>,
}

/// How to look at a file again that could not be read.
#[derive(Debug, Clone)]
struct Content {
    store: Arc<dyn ObjectStore>,
    /// The columns of JSON lines.
    json: Option<SchemaRef>,
    /// What files of the format begin with.
    begins: &'static [u8],
}

impl Morselizer for NamedFiles {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let name = FileName {
            path: format!("{}{}", self.root, file.object_meta.location).into(),
            location: file.object_meta.location.clone(),
            content: self.content.clone(),
            skipped: self.skipped.clone(),
        };
        match name.heed(self.inner.plan_file(file))? {
            Some(inner) => Ok(Box::new(Part { inner, name })),
            None => Ok(Box::new(Nothing)),
        }
    }
}

#[derive(Debug, Clone)]
struct FileName {
    path: Arc<str>,
    location: Path,
    content: Content,
    skipped: Option<Skipped>,
}

impl FileName {
    /// What there is, or an error with the file's name; nothing where the file is to be skipped for it.
    fn heed<T>(&self, found: Result<T>) -> Result<Option<T>> {
        found.map(Some).or_else(|error| self.told(self.on(error)))
    }

    fn told<T>(&self, error: DataError) -> Result<Option<T>> {
        match &self.skipped {
            Some(skipped) => {
                skipped.add(&self.path, &error);
                Ok(None)
            }
            None => Err(error.into()),
        }
    }

    fn on(&self, error: DataFusionError) -> DataError {
        self.said(plain(error))
    }

    fn said(&self, source: BoxError) -> DataError {
        DataError::file(&self.path, source)
    }

    /// As [`on`](Self::on), with the line, or that it is another file than was meant.
    async fn within(&self, error: DataFusionError) -> DataError {
        let store = self.content.store.as_ref();
        let spoilt = self.content.json.as_ref().filter(|_| json_lines::is_about_content(&error));
        let told = self.on(error);
        if matches!(&told, DataError::File { source, .. } if source.is::<Refusal>() || source.is::<Spoilt>())
        {
            return told;
        }
        if let Some(another) = signature::another(store, &self.location, self.content.begins).await {
            return self.said(another);
        }
        if let Some(columns) = spoilt
            && let Some(spoilt) = json_lines::find(store, &self.location, Some(columns)).await
        {
            return self.said(spoilt.into());
        }
        told
    }
}

/// A step of reading a file, with the file's name.
#[derive(Debug)]
struct Part<T: ?Sized> {
    inner: Box<T>,
    name: FileName,
}

impl MorselPlanner for Part<dyn MorselPlanner> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, name } = *self;
        let Some(mut plan) = name.heed(inner.plan())?.flatten() else { return Ok(None) };
        let morsels =
            plan.take_morsels().into_iter().map(|inner| Box::new(Part { inner, name: name.clone() }) as _);
        let planners = plan
            .take_ready_planners()
            .into_iter()
            .map(|inner| Box::new(Part { inner, name: name.clone() }) as _);
        let mut named = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        if let Some(pending) = plan.take_pending_planner() {
            named.set_pending_planner(async move {
                Ok(match name.heed(pending.await)? {
                    Some(inner) => Box::new(Part { inner, name }) as Box<dyn MorselPlanner>,
                    None => Box::new(Nothing),
                })
            });
        }
        Ok(Some(named))
    }
}

impl Morsel for Part<dyn Morsel> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, name } = *self;
        // An error ends the file, and where that is all that it does, what was read before stays.
        let state = Some((inner.into_stream(), name));
        let named = futures::stream::try_unfold(state, |state| async move {
            let Some((mut stream, name)) = state else { return Ok(None) };
            match stream.next().await {
                Some(Ok(batch)) => Ok(Some((batch, Some((stream, name))))),
                Some(Err(error)) => name.told(name.within(error).await),
                None => Ok(None),
            }
        });
        named.boxed()
    }
}

/// What is left of a file that is skipped.
#[derive(Debug)]
struct Nothing;

impl MorselPlanner for Nothing {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(None)
    }
}
