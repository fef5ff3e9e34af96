//! Arrow batch → Rust values.

use std::marker::PhantomData;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde::de::DeserializeOwned;
use serde_arrow::Deserializer;
use serde_arrow::utils::Item;

use super::shape::{ITEM, Shape};

/// Reads rows of one type out of Arrow batches.
#[derive(Debug, Clone)]
pub(crate) struct Reader<T> {
    shape: Shape,
    of: PhantomData<fn() -> T>,
}

/// A row that could not be read, by its number in the batch; the whole batch where that is unknown.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) row: Option<usize>,
    pub(crate) source: BoxError,
}

impl<T: DeserializeOwned> Reader<T> {
    pub(crate) fn new() -> Self {
        Self { shape: Shape::of::<T>(), of: PhantomData }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Every row of the batch, in order.
    pub(crate) fn read(&self, batch: &RecordBatch) -> Result<Vec<T>, BadRow> {
        let whole = |source: BoxError| BadRow { row: None, source };
        match &self.shape {
            Shape::Plain(field) => {
                let [column] = batch.columns() else {
                    let names: Vec<_> =
                        batch.schema_ref().fields().iter().map(|f| f.name().clone()).collect();
                    let text = format!(
                        "a plain value needs one column, and there are {}: {}",
                        names.len(),
                        names.join(", ")
                    );
                    return Err(whole(text.into()));
                };
                let column =
                    convert(column, field.data_type(), batch.schema_ref().field(0).name()).map_err(whole)?;
                let field = Field::new(ITEM, column.data_type().clone(), true);
                let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column])
                    .map_err(|e| whole(e.into()))?;
                rows::<Item<T>, T>(&batch, |item| item.0)
            }
            Shape::Struct(fields) => rows::<T, T>(&select(batch, fields).map_err(whole)?, |row| row),
            Shape::Dynamic => rows::<T, T>(batch, |row| row),
        }
    }
}

fn rows<D: DeserializeOwned, T>(batch: &RecordBatch, unwrap: impl Fn(D) -> T) -> Result<Vec<T>, BadRow> {
    let rows = Deserializer::from_record_batch(batch).map_err(|e| BadRow { row: None, source: e.into() })?;
    let mut values = Vec::with_capacity(batch.num_rows());
    for (number, row) in rows.iter().enumerate() {
        let value = D::deserialize(row).map_err(|e| BadRow { row: Some(number), source: e.into() })?;
        values.push(unwrap(value));
    }
    Ok(values)
}

/// The columns that `fields` name, each as the type the field has. Columns that are missing are left out: serde knows
/// whether the field has a default.
fn select(batch: &RecordBatch, fields: &Fields) -> Result<RecordBatch, BoxError> {
    let mut chosen = Vec::with_capacity(fields.len());
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        if let Some((index, _)) = batch.schema_ref().column_with_name(field.name()) {
            let column = convert(batch.column(index), field.data_type(), field.name())?;
            chosen.push(Field::new(field.name(), column.data_type().clone(), true));
            columns.push(column);
        }
    }
    // An alias or a flattened field may need columns that the names do not tell of.
    if chosen.len() < fields.len() {
        return Ok(batch.clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(chosen)), columns)?)
}

/// A column as another simple type: wider numbers, dates as text. Nested types are left for serde to read.
fn convert(
    column: &arrow::array::ArrayRef,
    to: &DataType,
    name: &str,
) -> Result<arrow::array::ArrayRef, BoxError> {
    let simple = |t: &DataType| {
        t.is_primitive()
            || matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean)
    };
    let from = column.data_type();
    if from == to || !simple(from) || !simple(to) {
        return Ok(column.clone());
    }
    // Text is read as text only: turning "12" into a number silently hides a mistake in the schema.
    if !from.is_primitive() && to.is_primitive() {
        return Err(format!("column '{name}' has type {from}, which does not convert to {to}").into());
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &strict).map_err(|e| format!("column '{name}': {e}").into())
}
