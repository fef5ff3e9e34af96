//! [`FileList`]: the files that a table reads, and the columns that lie in their paths.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result as EngineResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::scalar::ScalarValue;
use object_store::{ObjectMeta, ObjectStore};

use super::hive;
use super::options::{FileErrors, ReadOptions, Skipped};
use super::paths::{Found, FoundFile};
use super::unpacked::{Purpose, Unpacked};
use crate::error::{DataError, Result};
use crate::format::{Compression, FileBytes};

/// The files that a table reads, in their order.
pub(crate) struct FileList {
    pub(super) url: ObjectStoreUrl,
    /// For looks at the files: it unpacks what is compressed.
    pub(super) store: Arc<dyn ObjectStore>,
    /// How the files are compressed: `None` where none is.
    pub(super) compression: Compression,
    pub(super) root: String,
    pub(super) files: Vec<FoundFile>,
    /// The columns that lie in paths, and each file's values of them.
    fields: Vec<FieldRef>,
    pub(super) values: Vec<Vec<ScalarValue>>,
    pub(super) on_error: FileErrors,
    pub(crate) skipped: Skipped,
}

impl std::fmt::Debug for FileList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileList")
            .field("root", &self.root)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl FileList {
    pub(super) fn new(found: Found, compression: Compression, on_error: FileErrors) -> Self {
        let packed = |file: &FoundFile| compression.of(file.meta.location.as_ref()).is_some();
        let compression = if found.files.iter().any(packed) { compression } else { Compression::None };
        let root = match found.url.as_str() {
            local if local.starts_with("file:") => "/".to_owned(),
            remote => remote.to_owned(),
        };
        let values = vec![Vec::new(); found.files.len()];
        Self {
            url: found.url,
            store: Unpacked::over(found.store, compression, Purpose::Look),
            compression,
            root,
            files: found.files,
            fields: Vec::new(),
            values,
            on_error,
            skipped: Skipped::default(),
        }
    }

    /// A file's path or URL, as a user would give it.
    pub(super) fn name(&self, file: &ObjectMeta) -> String {
        format!("{}{}", self.root, file.location)
    }

    /// The bytes of a file, unpacked, for a look at them.
    pub(super) fn bytes(&self, file: &ObjectMeta) -> FileBytes {
        FileBytes::unpacked(self.store.clone(), file.clone(), self.compression)
    }

    /// The files' paths or URLs, in the order they are read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|file| self.name(&file.meta))
    }

    /// The same with the files' sizes.
    pub(crate) fn paths_and_bytes(&self) -> impl Iterator<Item = (String, u64)> {
        self.files.iter().map(|file| (self.name(&file.meta), file.meta.size))
    }

    /// Leaves only these files.
    pub(super) fn keep(&mut self, indices: &[usize]) {
        let mut index = 0;
        self.files.retain(|_| {
            index += 1;
            indices.binary_search(&(index - 1)).is_ok()
        });
    }

    /// Tells the columns that lie in paths, beside those of `schema`, which the files have.
    pub(super) fn keys(&mut self, schema: &Schema, options: &ReadOptions) -> Result<Vec<FieldRef>> {
        let taken = |name: &str| schema.column_with_name(name).is_some();
        let mut found = if options.hive {
            hive::keys(self.files.iter().map(|file| &file.directories[..]), taken)
        } else {
            hive::Keys { fields: Vec::new(), values: vec![Vec::new(); self.files.len()] }
        };
        if let Some(name) = &options.include_paths {
            if taken(name) || found.fields.iter().any(|field| field.name() == name) {
                let path = "the files, as a column of theirs and as include_paths".to_owned();
                return Err(DataError::DuplicateColumn { column: name.clone(), path });
            }
            found.fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
            for (values, path) in found.values.iter_mut().zip(self.paths()) {
                values.push(ScalarValue::Utf8(Some(path)));
            }
        }
        (self.fields, self.values) = (found.fields, found.values);
        Ok(self.fields.clone())
    }

    /// Which filters tell by the path alone whether a file's rows are wanted.
    pub(super) fn pushdown(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        let known = |name: &str| self.fields.iter().any(|field| field.name() == name);
        let exact = |filter: &Expr| {
            let columns = filter.column_refs();
            !columns.is_empty() && !filter.is_volatile() && columns.iter().all(|column| known(&column.name))
        };
        let support = |filter: &&Expr| {
            if exact(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        filters.iter().map(support).collect()
    }

    /// The files whose paths do not rule their rows out.
    pub(super) fn chosen(&self, filters: &[Expr], state: &dyn Session) -> EngineResult<Vec<usize>> {
        let all = 0..self.files.len();
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(all.collect()) };
        let schema = Arc::new(Schema::new(self.fields.clone()));
        let columns: Vec<ArrayRef> = (0..self.fields.len())
            .map(|column| ScalarValue::iter_to_array(self.values.iter().map(|values| values[column].clone())))
            .collect::<EngineResult<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.files.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let wanted = filter.evaluate(&batch)?.into_array(self.files.len())?;
        let wanted = wanted.as_boolean();
        Ok(all.filter(|index| wanted.is_valid(*index) && wanted.value(*index)).collect())
    }
}
