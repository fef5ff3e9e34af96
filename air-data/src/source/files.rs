//! [`Files`]: files of one format as a table.

use std::collections::HashSet;
use std::sync::Arc;

use air_core::BoxError;
use arrow::csv::reader::Format;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result as EngineResult, Statistics, internal_err, project_schema};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema};
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::json_lines;
use super::layout::{Footer, Layout, WHOLE_BYTES};
use super::list::FileList;
use super::named::Named;
use super::options::{FileErrors, ReadOptions};
use super::paths::find;
use crate::error::{DataError, Result};
use crate::format::{
    Compression, FileBytes, FileFormat, FormatSource, Reader, Spoilt, ipc, signature, sniffed,
};
use crate::session::{self, AbortOnDrop};
use crate::tensors::{is_mark, mark};

/// How many files are looked into at once for their columns.
const SCHEMAS_AT_ONCE: usize = 32;

/// Of how many files, at most, the footers are looked into for the number of rows.
const FOOTERS: usize = 1000;

/// How far into a CSV file the line with the columns' names may reach to be checked for names that come twice.
const HEADER_BYTES: u64 = 1 << 20;

/// So many times its size in the store a compressed file is taken to have.
const UNPACKED_TIMES: u64 = 4;

/// Files of one format as a table.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) list: FileList,
    /// The columns of the files, and then those of their paths.
    columns: TableSchema,
    format: FileFormat,
    reader: Reader,
    /// Whether somebody gave the columns.
    given: bool,
}

/// Finds the files of `paths` and tells their columns.
pub(crate) async fn open(
    session: session::Session,
    paths: Vec<String>,
    format: FileFormat,
    options: ReadOptions,
) -> Result<Arc<dyn TableProvider>> {
    options.compression.check_reading(&format)?;
    let compression = if format.is_packable() { options.compression } else { Compression::None };
    let own = || {
        let endings = compression.endings().iter();
        endings.flat_map(|end| format.extensions().iter().map(move |own| format!("{own}{end}"))).collect()
    };
    let extensions: Vec<String> = options.extensions.clone().unwrap_or_else(own);
    let found = find(&paths, &extensions, session.stores()).await?;
    let mut list = FileList::new(found, compression, options.on_error);
    let first = list.files.first().map(|file| list.bytes(&file.meta));
    let format = sniffed(format, first).await;
    let reader = format.looked_into(list.files.len()).reader()?;
    let schema = match &options.schema {
        Some(schema) => schema.clone(),
        None => columns(&mut list, &format, &reader, &session).await?,
    };
    unique(&schema, "the schema given")?;
    let keys = list.keys(&schema, &options)?;
    let columns = TableSchema::builder(schema).with_table_partition_cols(keys).build();
    Ok(Arc::new(Files { list, columns, format, reader, given: options.schema.is_some() }))
}

/// Looks into all files for the columns they have together. Those that cannot be read are left out of the list where that was asked for.
async fn columns(
    list: &mut FileList,
    format: &FileFormat,
    reader: &Reader,
    session: &session::Session,
) -> Result<SchemaRef> {
    let state = Arc::new(session.context().state());
    let looks: Vec<_> = list
        .files
        .iter()
        .map(|file| {
            let (bytes, path) = (list.bytes(&file.meta), list.name(&file.meta));
            let (meta, store) = (file.meta.clone(), list.store.clone());
            let look = look(meta, bytes, path, format.clone(), reader.clone(), state.clone(), store);
            async move {
                // Telling the types of text takes time: on as many cores as there are files.
                let mut task = AbortOnDrop(tokio::spawn(look));
                (&mut task.0).await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
            }
        })
        .collect();
    let mut looks = futures::stream::iter(looks).buffered(SCHEMAS_AT_ONCE);
    let mut schema = Schema::empty();
    let (mut readable, mut first_error) = (Vec::new(), None);
    let mut index = 0;
    while let Some(found) = looks.next().await {
        let path = list.name(&list.files[index].meta);
        let merged = found.and_then(|part| {
            let (before, part) = agreed(&schema, &part);
            let merged = match reader {
                Reader::Engine(_) | Reader::Csv(..) => Schema::try_merge([before, part]),
                Reader::Ours(format) => format.merge(before, part),
            };
            merged.map_err(|e| DataError::File { path: path.clone(), source: Box::new(e) })
        });
        match merged {
            Ok(merged) => {
                schema = merged;
                readable.push(index);
            }
            Err(error) if list.on_error == FileErrors::Skip => {
                list.skipped.add(&path, &error);
                first_error = first_error.or(Some(error));
            }
            Err(error) => return Err(error),
        }
        index += 1;
    }
    drop(looks);
    if let (true, Some(error)) = (readable.is_empty(), first_error) {
        return Err(error);
    }
    list.keep(&readable);
    // Metadata of one file says nothing about the others; that of a column that all have does.
    Ok(Arc::new(Schema::new(schema.fields)))
}

/// The columns of the files so far and those of one more, each with the metadata that both have: a column that is of tensors in one file only, or of
/// tensors of another shape, is one of plain lists.
fn agreed(known: &Schema, part: &Schema) -> (Schema, Schema) {
    let by_both = |schema: &Schema, other: &Schema| {
        let fields = schema.fields().iter().map(|field| {
            let other = other.field_with_name(field.name()).ok();
            let kept = field.metadata().iter().filter(|(key, value)| {
                let same = |other: &Field| {
                    other.metadata().get(*key) == Some(*value)
                        && (mark(other) == mark(field) || !is_mark(key))
                };
                key.as_str() != PARQUET_FIELD_ID_META_KEY && other.is_none_or(same)
            });
            let kept = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
            field.as_ref().clone().with_metadata(kept)
        });
        Schema::new(fields.collect::<Vec<_>>())
    };
    (by_both(known, part), by_both(part, known))
}

/// The columns of one file.
async fn look(
    file: ObjectMeta,
    bytes: FileBytes,
    path: String,
    format: FileFormat,
    reader: Reader,
    state: Arc<SessionState>,
    store: Arc<dyn ObjectStore>,
) -> Result<SchemaRef> {
    let failed = |source: BoxError| DataError::file(&path, source);
    if let FileFormat::Csv(options) = &format
        && options.header
    {
        // The engine merges columns of one name without a word.
        let start = match bytes.start(HEADER_BYTES).await {
            // There may be rows before that, which are worth having.
            Err(error) if error.is::<Spoilt>() => Bytes::new(),
            start => start.map_err(failed)?,
        };
        let header = Format::default()
            .with_header(true)
            .with_delimiter(options.delimiter_byte()?)
            .with_quote(options.quote_byte()?);
        if let Ok((header, _)) = header.infer_schema(start.as_ref(), Some(0)) {
            unique(&header, &path)?;
        }
    }
    let schema = match inside(&file, bytes, &format, &reader, state.as_ref(), &store).await {
        Ok(schema) => schema,
        Err(error) => return Err(failed(reason(error, &file, &format, store.as_ref()).await)),
    };
    unique(&schema, &path)?;
    if format == FileFormat::Parquet {
        // The engine merges columns of one name here, too. It keeps the footer, so this reads nothing.
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let footer = DFParquetMetadata::new(store.as_ref(), &file).with_file_metadata_cache(Some(footers));
        let footer = footer.fetch_metadata().await.map_err(|e| failed(plain(e)))?;
        let columns = footer.file_metadata().schema_descr().root_schema().get_fields();
        unique_names(columns.iter().map(|column| column.name()), &path)?;
    }
    Ok(schema)
}

/// The columns that whoever reads the format finds in a file.
async fn inside(
    file: &ObjectMeta,
    bytes: FileBytes,
    format: &FileFormat,
    reader: &Reader,
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
) -> EngineResult<SchemaRef> {
    match reader {
        Reader::Ours(ours) => {
            let schema = ours.look(bytes).await;
            schema.map(Arc::new).map_err(DataFusionError::External)
        }
        // The engine would hold all of a file that is not on a local disk.
        Reader::Engine(_) if *format == FileFormat::Json => json_lines::columns(&bytes).await.map(Arc::new),
        Reader::Engine(engine) | Reader::Csv(engine, _) => {
            if *format == FileFormat::Ipc
                && let Some(schema) = ipc::columns(&bytes).await.map_err(DataFusionError::External)?
            {
                return Ok(schema);
            }
            engine.infer_schema(state, store, std::slice::from_ref(file)).await
        }
    }
}

/// Why a file cannot be looked into.
async fn reason(
    error: DataFusionError,
    file: &ObjectMeta,
    format: &FileFormat,
    store: &dyn ObjectStore,
) -> BoxError {
    if let Some(another) = signature::another(store, &file.location, signature::of(format)).await {
        return another;
    }
    if *format == FileFormat::Json
        && json_lines::is_about_content(&error)
        && let Some(spoilt) = json_lines::find(store, &file.location, None).await
    {
        return spoilt.into();
    }
    plain(error)
}

/// The engine's error without its own word on the file, which ours names already.
pub(super) fn plain(error: DataFusionError) -> BoxError {
    match error {
        DataFusionError::Context(_, inner) => plain(*inner),
        // Ours, on its way through the engine.
        DataFusionError::External(inner) => inner,
        other => Spoilt::or(other),
    }
}

fn unique(schema: &Schema, path: &str) -> Result<()> {
    unique_names(schema.fields().iter().map(|field| field.name().as_str()), path)
}

fn unique_names<'a>(mut names: impl Iterator<Item = &'a str>, path: &str) -> Result<()> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(twice) => Err(DataError::DuplicateColumn { column: twice.to_owned(), path: path.to_owned() }),
        None => Ok(()),
    }
}

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        self.columns.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(self.list.pushdown(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let chosen = self.list.chosen(filters, state)?;
        if chosen.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema(), projection)?)));
        }
        // Contiguous runs of files, so that the order of partitions is the order of files.
        let groups = chosen.len().min(state.config().target_partitions()).max(1);
        let mut files = Vec::with_capacity(chosen.len());
        // What the engine plans joins by: about so many rows and bytes.
        let (mut rows, mut bytes) = (Some(0_usize), 0_usize);
        // A file that is left out is left out as a whole. Footers are at hand where the columns were looked for in them.
        let footers = self.format == FileFormat::Parquet && self.list.on_error == FileErrors::Fail;
        let all = footers && !self.given && chosen.len() <= FOOTERS;
        let csv = match &self.reader {
            Reader::Csv(_, csv) if csv.can_be_cut() && self.list.on_error == FileErrors::Fail => Some(csv),
            _ => None,
        };
        for index in chosen {
            let meta = &self.list.files[index].meta;
            let mut file = PartitionedFile::from(meta.clone());
            file.partition_values.clone_from(&self.list.values[index]);
            if all || footers && meta.size >= WHOLE_BYTES {
                let footer = Footer::of(meta, self.list.store.as_ref(), state).await;
                let footer = footer.map_err(|e| DataError::file(&self.list.name(meta), plain(e)))?;
                file = footer.layout.into_iter().fold(file, PartitionedFile::with_extension);
                rows = rows.map(|rows| rows + footer.rows);
                bytes += footer.bytes;
            } else {
                rows = None;
                let packed = self.list.compression.of(meta.location.as_ref()).is_some();
                let size = if packed { meta.size.saturating_mul(UNPACKED_TIMES) } else { meta.size };
                bytes = bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX / 2));
                if let Some(csv) = csv.filter(|_| !packed) {
                    let cuts = csv.cuts(FileBytes::new(self.list.store.clone(), meta.clone()));
                    file = file.with_extension(Layout::of_csv(&cuts));
                }
            }
            files.push(file);
        }
        let mut statistics = Statistics::new_unknown(self.columns.table_schema());
        statistics.num_rows = rows.map_or(Precision::Absent, Precision::Inexact);
        statistics.total_byte_size = Precision::Inexact(bytes);
        let groups = files
            .chunks(files.len().div_ceil(groups).max(1))
            .map(|files| FileGroup::new(files.to_vec()))
            .collect();
        let compression = self.list.compression;
        let ours = |format, cut| {
            let columns = self.columns.clone();
            Arc::new(FormatSource::new(format, columns, self.given, cut, compression)) as Arc<dyn FileSource>
        };
        let source = match &self.reader {
            Reader::Ours(format) => ours(format.clone(), false),
            Reader::Csv(_, format) => {
                ours(Arc::new(*format), csv.is_some() && compression == Compression::None)
            }
            Reader::Engine(format) => format.file_source(self.columns.clone()),
        };
        let config = FileScanConfigBuilder::new(self.list.url.clone(), source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_statistics(statistics)
            .with_preserve_order(true)
            .build();
        let config = match &self.reader {
            Reader::Ours(_) | Reader::Csv(..) => config,
            Reader::Engine(format) => {
                let exec = format.create_physical_plan(state, config).await?;
                let scan = exec.downcast_ref::<DataSourceExec>();
                match scan.and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>()) {
                    Some(config) => config.clone(),
                    None => return internal_err!("a file format made a plan that is no file scan"),
                }
            }
        };
        let skipped = (self.list.on_error == FileErrors::Skip).then(|| self.list.skipped.clone());
        let begins = signature::of(&self.format);
        let named = Named::new(config.file_source().clone(), &self.list.root, begins, compression, skipped);
        let config = FileScanConfigBuilder::from(config).with_source(Arc::new(named)).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
