//! [`Layout`]: which columns are in files and which are directories; and batches split accordingly.

use std::collections::HashMap;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;

use crate::error::{DataError, Result};
use crate::source::NULL;

/// Which columns are directories, and which are in the files.
#[derive(Debug)]
pub(super) struct Layout {
    keys: Vec<usize>,
    content: Vec<usize>,
    pub(super) schema: SchemaRef,
}

impl Layout {
    pub(super) fn new(schema: &Schema, partition_by: &[String]) -> Result<Self> {
        let names = || schema.fields().iter().map(|field| field.name().clone()).collect();
        let keys: Vec<usize> = partition_by
            .iter()
            .map(|name| schema.index_of(name).map_err(|_| DataError::unknown_column(name, names())))
            .collect::<Result<_>>()?;
        let bad = |reason: String| DataError::Config { field: "partition_by", reason };
        if let Some(nested) = keys.iter().find(|key| schema.field(**key).data_type().is_nested()) {
            return Err(bad(format!("'{}' is no plain value", schema.field(*nested).name())));
        }
        // Such directories are passed over by who reads, or read as another column.
        let hidden = |name: &&String| name.is_empty() || name.starts_with(['_', '.']) || name.contains('=');
        if let Some(name) = partition_by.iter().find(hidden) {
            return Err(bad(format!(
                "'{name}' cannot begin with `_` or `.` or have a `=` in it; rename the column first"
            )));
        }
        let content: Vec<usize> = (0..schema.fields().len()).filter(|index| !keys.contains(index)).collect();
        if content.is_empty() && !keys.is_empty() {
            return Err(bad("there has to be a column left for the files".to_owned()));
        }
        Ok(Self { schema: Arc::new(schema.project(&content)?), keys, content })
    }

    /// The rows of a batch by the directories that they go to, each below the one before; rows of a directory keep their order.
    pub(super) fn split(
        &self,
        batch: &RecordBatch,
    ) -> std::result::Result<Vec<(Vec<String>, RecordBatch)>, BoxError> {
        if self.keys.is_empty() {
            return Ok(vec![(Vec::new(), batch.clone())]);
        }
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let types = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let rows = RowConverter::new(types)?.convert_columns(&keys)?;
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let group = *groups.entry(row.data()).or_insert(members.len());
            if group == members.len() {
                members.push(Vec::new());
            }
            members[group].push(index as u32);
        }
        let content = batch.project(&self.content)?;
        let pieces = members.into_iter().map(|rows| {
            let first = rows[0] as usize;
            let directories = self.keys.iter().zip(&keys).map(|(index, key)| {
                let value =
                    if key.is_null(first) { NULL.to_owned() } else { array_value_to_string(key, first)? };
                Ok(format!("{}={value}", batch.schema_ref().field(*index).name()))
            });
            let directories = directories.collect::<std::result::Result<Vec<_>, BoxError>>()?;
            Ok((directories, take_record_batch(&content, &UInt32Array::from(rows))?))
        });
        pieces.collect()
    }
}
