//! Datasets out of numbers, values, batches and files.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, UNNAMED_TABLE};
use serde::Serialize;

use super::Dataset;
use crate::error::{DataError, Result};
#[cfg(feature = "images")]
use crate::format::ImageOptions;
use crate::format::{CsvOptions, FileFormat};
use crate::plan::{conform, kept};
use crate::rows::{ITEM, Writer, infer};
use crate::session::Session;
use crate::source::{FileErrors, Integers, IntoPaths, Memory, ReadOptions, Source, SourceTable, open};

/// The plan that reads all of a table.
pub(crate) fn scan(table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(table), None)?.build()?)
}

impl Session {
    /// The integers `0..end` in one column, `id`.
    ///
    /// # Errors
    /// [`DataError::Engine`] when the engine refuses the plan, which it does not for this source.
    pub fn range(&self, end: u64) -> Result<Dataset> {
        self.read_source(Integers::new(end, self.parallelism()))
    }

    /// One row for each value. A struct becomes a column for each field; a plain value becomes the column `item`.
    ///
    /// # Errors
    /// [`DataError::SchemaUnknown`] when the values do not tell their columns, as an empty vector does not;
    /// [`DataError::Row`] when they do not agree with each other.
    pub fn from_items<T: Serialize>(&self, items: Vec<T>) -> Result<Dataset> {
        let op = || "from_items".to_owned();
        let shape = infer(&items)?;
        let writer = Writer::new(&shape, ITEM).ok_or_else(|| DataError::SchemaUnknown {
            op: op(),
            reason: "there is nothing to tell them from; use from_batches to give them".to_owned(),
        })?;
        let batch = writer.write(&items).map_err(|source| DataError::Row {
            op: op(),
            type_name: std::any::type_name::<T>(),
            place: crate::error::Place { rows: 0..items.len() as u64, ..Default::default() },
            source,
        })?;
        self.in_memory(writer.schema().clone(), vec![batch])
    }

    /// Arrow batches as they are. The first one's schema holds for all.
    ///
    /// # Errors
    /// [`DataError::SchemaUnknown`] for no batches at all, [`DataError::Row`] for one whose columns differ.
    pub fn from_batches(&self, batches: Vec<RecordBatch>) -> Result<Dataset> {
        let op = "from_batches".to_owned();
        let Some(first) = batches.first() else {
            return Err(DataError::SchemaUnknown { op, reason: "there are no batches".to_owned() });
        };
        let schema = first.schema();
        let mut seen = 0_u64;
        let batches = batches.into_iter().map(|batch| {
            let rows = seen..seen + batch.num_rows() as u64;
            seen = rows.end;
            conform(batch, &schema).map_err(|source| DataError::Row {
                op: op.clone(),
                type_name: "RecordBatch",
                place: crate::error::Place { rows, ..Default::default() },
                source,
            })
        });
        let batches = batches.collect::<Result<_>>()?;
        self.in_memory(schema, batches)
    }

    fn in_memory(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Dataset> {
        self.read_source(Memory::new(schema, batches, self.parallelism(), self.budget()))
    }

    /// The rows of a place that this crate does not know; see [`Source`].
    ///
    /// # Errors
    /// [`DataError::Source`] when the source cannot tell its parts, [`DataError::DuplicateColumn`] for two columns of one name.
    pub fn read_source(&self, source: impl Source) -> Result<Dataset> {
        self.read_source_with(source, FileErrors::Fail)
    }

    /// [`Session::read_source`], and what to do about parts that cannot be read. Those that are skipped are in [`Dataset::skipped_files`].
    ///
    /// # Errors
    /// As [`Session::read_source`].
    pub fn read_source_with(&self, source: impl Source, on_error: FileErrors) -> Result<Dataset> {
        let schema = source.schema();
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
            return Err(DataError::DuplicateColumn { column: twice.name().clone(), path: source.name() });
        }
        let table = SourceTable::new(Arc::new(source), on_error)?;
        Ok(Dataset::new(self.clone(), scan(Arc::new(table))?))
    }

    /// CSV files; the first line names the columns and the values tell their types. Those that end in `.gz` or `.zst` are unpacked, here and where JSON and
    /// text are read. See [`IntoPaths`] for the paths.
    ///
    /// # Errors
    /// [`DataError::NotFound`], [`DataError::EmptyDirectory`], [`DataError::BadPath`] for the path;
    /// [`DataError::File`] and [`DataError::DuplicateColumn`] for the content looked at so far.
    pub fn read_csv(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Csv(CsvOptions::default()))
    }

    /// CSV files with settings.
    ///
    /// # Errors
    /// As [`Session::read_csv`]; [`DataError::Config`] for a setting out of range.
    pub fn read_csv_with(&self, paths: impl IntoPaths, options: CsvOptions) -> Result<Dataset> {
        self.read(paths, FileFormat::Csv(options))
    }

    /// Parquet files.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_parquet(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Parquet)
    }

    /// JSON files: one object a line, or one array of objects a file; the first file's beginning tells which.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_json(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Json)
    }

    /// Arrow's own files and streams.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_ipc(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Ipc)
    }

    /// Text files: a row for each line, in the column `text`; empty lines are rows, too.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_text(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Text)
    }

    /// Whole files: a row for each, in the column `bytes`. [`ReadOptions::include_paths`] tells which is which.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_binary(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Binary)
    }

    /// NumPy's `.npy` files: a row for each entry along the first axis, in the column `data`.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_npy(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Npy)
    }

    /// TensorFlow's TFRecord files: a row for each `Example`, a column for each feature; see [`FileFormat::TfRecord`].
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_tfrecord(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::TfRecord)
    }

    /// WebDataset's tar archives: a row for each sample, a column for each ending; see [`FileFormat::WebDataset`].
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_webdataset(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::WebDataset)
    }

    /// Avro's object container files.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    #[cfg(feature = "avro")]
    pub fn read_avro(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read(paths, FileFormat::Avro)
    }

    /// Images, PNG and JPEG: a row for each file, decoded; see [`FileFormat::Images`].
    ///
    /// # Errors
    /// As [`Session::read_csv`]; [`DataError::Config`] for a setting out of range.
    #[cfg(feature = "images")]
    pub fn read_images(&self, paths: impl IntoPaths, options: ImageOptions) -> Result<Dataset> {
        self.read(paths, FileFormat::Images(options))
    }

    /// Files of any format.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read(&self, paths: impl IntoPaths, format: FileFormat) -> Result<Dataset> {
        self.read_with(paths, format, ReadOptions::default())
    }

    /// Files of any format, with settings: columns given, columns out of paths, what to do about files that cannot be read.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub fn read_with(
        &self,
        paths: impl IntoPaths,
        format: FileFormat,
        options: ReadOptions,
    ) -> Result<Dataset> {
        let files = self.block_on(open(self.clone(), paths.into_paths(), format, options))?;
        Ok(Dataset::new(self.clone(), scan(files)?))
    }

    /// [`Session::read`] for asynchronous code.
    ///
    /// # Errors
    /// As [`Session::read_csv`].
    pub async fn read_async(&self, paths: impl IntoPaths, format: FileFormat) -> Result<Dataset> {
        let files = self.run(open(self.clone(), paths.into_paths(), format, ReadOptions::default())).await?;
        Ok(Dataset::new(self.clone(), scan(files)?))
    }
}

impl Session {
    /// Gives a dataset a name in [`Session::sql`]; one of that name is replaced. Names are case-sensitive where quoted.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn register(&self, name: &str, dataset: &Dataset) -> Result<()> {
        let view = ViewTable::new(dataset.logical_plan()?.clone(), None);
        let table = TableReference::bare(name);
        self.context().deregister_table(table.clone())?;
        self.context().register_table(table, Arc::new(view))?;
        Ok(())
    }

    /// The result of a query over the registered datasets, as a dataset. Only queries: nothing that creates or changes.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], or [`DataError::Engine`] for a query that does not parse or names an unknown table.
    pub fn sql(&self, query: &str) -> Result<Dataset> {
        let (this, query) = (self.clone(), query.to_owned());
        self.block_on(async move {
            let only_queries =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            let frame = this.context().sql_with_options(&query, only_queries).await?;
            Ok(Dataset::new(this.clone(), kept(frame.into_unoptimized_plan())?))
        })
    }
}
