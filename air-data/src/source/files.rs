//! [`Files`]: CSV, Parquet and JSON-lines files as a table.

use std::collections::HashSet;
use std::sync::Arc;

use air_core::BoxError;
use arrow::csv::reader::Format;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult, internal_err};
use datafusion::datasource::file_format::FileFormat as EngineFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::json_lines;
use super::named::Named;
use super::paths::{Found, find};
use crate::error::{DataError, Result};
use crate::session;

/// How many files are looked into at once for their columns.
const SCHEMAS_AT_ONCE: usize = 32;

/// How far into a CSV file the line with the columns' names may reach to be checked for names that come twice.
const HEADER_BYTES: u64 = 1 << 20;

/// Settings for reading and writing CSV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvOptions {
    /// Whether the first line names the columns; without names they are `column_1`, `column_2`, …
    pub header: bool,
    /// The character between two values.
    pub delimiter: char,
    /// The character around values that hold delimiters, quotes or line ends.
    pub quote: char,
    /// Lines that begin with this character are passed over.
    pub comment: Option<char>,
    /// Whether a quoted value may hold line ends. When not, large files are read by several threads at once.
    pub newlines_in_values: bool,
    /// Rows looked at to tell the columns' types.
    pub infer_rows: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: ',',
            quote: '"',
            comment: None,
            newlines_in_values: true,
            infer_rows: 10_000,
        }
    }
}

impl CsvOptions {
    fn byte(character: char, field: &'static str) -> Result<u8> {
        u8::try_from(character).ok().filter(u8::is_ascii).ok_or_else(|| DataError::Config {
            field,
            reason: format!("{character:?} is not an ASCII character"),
        })
    }

    /// The delimiter as the one byte that it must be.
    pub(crate) fn delimiter_byte(&self) -> Result<u8> {
        Self::byte(self.delimiter, "delimiter")
    }

    /// The quote as the one byte that it must be.
    pub(crate) fn quote_byte(&self) -> Result<u8> {
        Self::byte(self.quote, "quote")
    }

    fn engine(&self) -> Result<CsvFormat> {
        Ok(CsvFormat::default()
            .with_has_header(self.header)
            .with_delimiter(self.delimiter_byte()?)
            .with_quote(self.quote_byte()?)
            .with_comment(self.comment.map(|c| Self::byte(c, "comment")).transpose()?)
            .with_newlines_in_values(self.newlines_in_values)
            .with_schema_infer_max_rec(self.infer_rows))
    }
}

/// A file format, with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// Comma-separated values.
    Csv(CsvOptions),
    /// Apache Parquet.
    Parquet,
    /// JSON lines: one object a line.
    Json,
}

impl FileFormat {
    /// The format that the extension of `path` stands for.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`] for any other extension.
    pub fn of_path(path: &str) -> Result<Self> {
        let extension = path
            .rsplit('/')
            .next()
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("csv" | "tsv") => {
                let delimiter = if extension.as_deref() == Some("tsv") { '\t' } else { ',' };
                Ok(Self::Csv(CsvOptions { delimiter, ..CsvOptions::default() }))
            }
            Some("parquet" | "pq") => Ok(Self::Parquet),
            Some("json" | "jsonl" | "ndjson") => Ok(Self::Json),
            _ => Err(DataError::UnknownFormat { path: path.to_owned() }),
        }
    }

    /// The extensions that files of this format have; new files get the first.
    pub fn extensions(&self) -> &'static [&'static str] {
        match self {
            Self::Csv(_) => &["csv", "tsv"],
            Self::Parquet => &["parquet", "pq"],
            Self::Json => &["json", "jsonl", "ndjson"],
        }
    }

    fn engine(&self) -> Result<Arc<dyn EngineFormat>> {
        Ok(match self {
            Self::Csv(options) => Arc::new(options.engine()?),
            Self::Parquet => Arc::new(ParquetFormat::default().with_force_view_types(false)),
            Self::Json => Arc::new(JsonFormat::default()),
        })
    }
}

/// Files of one format as a table.
#[derive(Debug)]
pub(crate) struct Files {
    url: ObjectStoreUrl,
    root: String,
    found: Vec<ObjectMeta>,
    schema: SchemaRef,
    format: Arc<dyn EngineFormat>,
}

/// Finds the files of `paths` and tells their columns.
pub(crate) async fn open(session: session::Session, paths: Vec<String>, format: FileFormat) -> Result<Files> {
    let Found { url, store, files } = find(&paths, format.extensions(), session.stores()).await?;
    let root = match url.as_str() {
        local if local.starts_with("file:") => "/".to_owned(),
        remote => remote.to_owned(),
    };
    let engine = format.engine()?;
    let state = Arc::new(session.context().state());
    let looks: Vec<_> = files
        .iter()
        .map(|file| {
            let path = format!("{root}{}", file.location);
            look(file.clone(), path, format.clone(), engine.clone(), state.clone(), store.clone())
        })
        .collect();
    let schemas: Vec<SchemaRef> =
        futures::stream::iter(looks).buffered(SCHEMAS_AT_ONCE).try_collect().await?;
    let mut schema = Schema::empty();
    for (part, file) in schemas.iter().zip(&files) {
        schema = Schema::try_merge([schema, part.as_ref().clone()])
            .map_err(|e| DataError::File { path: format!("{root}{}", file.location), source: Box::new(e) })?;
    }
    // Metadata of one file says nothing about the others.
    let schema = Arc::new(Schema::new(schema.fields));
    Ok(Files { url, root, found: files, schema, format: engine })
}

/// The columns of one file.
async fn look(
    file: ObjectMeta,
    path: String,
    format: FileFormat,
    engine: Arc<dyn EngineFormat>,
    state: Arc<SessionState>,
    store: Arc<dyn ObjectStore>,
) -> Result<SchemaRef> {
    let failed = |source: BoxError| DataError::File { path: path.clone(), source };
    if let FileFormat::Csv(options) = &format
        && options.header
    {
        // The engine merges columns of one name without a word.
        let start = store
            .get_range(&file.location, 0..file.size.min(HEADER_BYTES))
            .await
            .map_err(|e| failed(e.into()))?;
        let header = Format::default()
            .with_header(true)
            .with_delimiter(options.delimiter_byte()?)
            .with_quote(options.quote_byte()?);
        if let Ok((header, _)) = header.infer_schema(start.as_ref(), Some(0)) {
            unique(&header, &path)?;
        }
    }
    let schema = engine.infer_schema(state.as_ref(), &store, std::slice::from_ref(&file)).await;
    let schema = match schema {
        Ok(schema) => schema,
        Err(error) if format == FileFormat::Json && json_lines::is_about_content(&error) => {
            let spoilt = json_lines::find(store.as_ref(), &file.location, None).await;
            return Err(failed(spoilt.map_or_else(|| plain(error), Into::into)));
        }
        Err(error) => return Err(failed(plain(error))),
    };
    unique(&schema, &path)?;
    Ok(schema)
}

/// The engine's error without its own word on the file, which ours names already.
fn plain(error: DataFusionError) -> BoxError {
    match error {
        DataFusionError::Context(_, inner) => plain(*inner),
        other => other.into(),
    }
}

fn unique(schema: &Schema, path: &str) -> Result<()> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        Some(twice) => {
            Err(DataError::DuplicateColumn { column: twice.name().clone(), path: path.to_owned() })
        }
        None => Ok(()),
    }
}

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        // Contiguous runs of files, so that the order of partitions is the order of files.
        let groups = self.found.len().min(state.config().target_partitions()).max(1);
        let files: Vec<PartitionedFile> = self.found.iter().cloned().map(PartitionedFile::from).collect();
        let groups = files
            .chunks(files.len().div_ceil(groups).max(1))
            .map(|files| FileGroup::new(files.to_vec()))
            .collect();
        let source = self.format.file_source(TableSchema::from(self.schema.clone()));
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_preserve_order(true)
            .build();
        let exec = self.format.create_physical_plan(state, config).await?;
        let Some(config) = exec
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
        else {
            return internal_err!("a file format made a plan that is no file scan");
        };
        let named = Named::new(config.file_source().clone(), &self.root);
        let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(named)).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
