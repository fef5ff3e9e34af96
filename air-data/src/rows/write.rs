//! Rust values → Arrow batch.

use air_core::BoxError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, SchemaRef};
use serde::Serialize;
use serde_arrow::utils::Items;
use std::sync::Arc;

use super::shape::{ITEM, Shape};

/// Writes rows of one shape as Arrow batches of one schema.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    schema: SchemaRef,
    fields: Vec<FieldRef>,
    plain: bool,
}

impl Writer {
    /// `name` is the column that plain values go to. `None` for a shape that only the data tells.
    pub(crate) fn new(shape: &Shape, name: &str) -> Option<Self> {
        shape.schema(name).map(|schema| Self::with_schema(schema, matches!(shape, Shape::Plain(_))))
    }

    /// Writes into `schema`; `plain` when each value is the row's only column.
    pub(crate) fn with_schema(schema: SchemaRef, plain: bool) -> Self {
        let fields = match (&schema.fields()[..], plain) {
            ([field], true) => {
                vec![Arc::new(Field::new(ITEM, field.data_type().clone(), field.is_nullable()))]
            }
            (fields, _) => fields.to_vec(),
        };
        Self { schema, fields, plain }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows as one batch of [`Writer::schema`].
    pub(crate) fn write<T: Serialize>(&self, rows: &[T]) -> Result<RecordBatch, BoxError> {
        let columns = if self.plain {
            serde_arrow::to_arrow(&self.fields, Items(rows))?
        } else {
            serde_arrow::to_arrow(&self.fields, rows)?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}
