//! [`Concatenator`]: columns of numbers as one of vectors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchOptions,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, column, failed, floats};
use crate::dataset::Dataset;
use crate::error::{DataError, Result};

/// Columns of numbers become one of vectors of `f32`, after the others and in the order given: what a model takes. Nothing is learnt; a null is an
/// error, so impute first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concatenator {
    /// The columns, which are there no more afterwards.
    pub columns: Vec<String>,
    /// The new column.
    pub output: String,
}

impl Concatenator {
    /// These columns as `features`.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), output: "features".to_owned() }
    }

    /// With another name for the new column.
    pub fn output(self, name: impl Into<String>) -> Self {
        Self { output: name.into(), ..self }
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        const OP: &str = "Concatenator";
        let (rows, width) = (batch.num_rows(), self.columns.len());
        let mut values = vec![0.0_f32; rows * width];
        let mut used = Vec::with_capacity(width);
        for (place, name) in self.columns.iter().enumerate() {
            let (index, found) = column(batch, name)?;
            used.push(index);
            let found = floats(OP, found, name)?;
            if found.null_count() > 0 {
                return Err(failed(OP, name, "it has a null; impute it first"));
            }
            let found = found.as_primitive::<Float64Type>().values();
            for (row, value) in found.iter().enumerate() {
                values[row * width + place] = *value as f32;
            }
        }
        let left: Vec<usize> = (0..batch.num_columns()).filter(|index| !used.contains(index)).collect();
        let mut fields: Vec<FieldRef> =
            left.iter().map(|index| batch.schema_ref().fields()[*index].clone()).collect();
        if fields.iter().any(|field| *field.name() == self.output) {
            return Err(DataError::DuplicateColumn { column: self.output.clone(), path: OP.to_owned() });
        }
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let size = i32::try_from(width).map_err(|_| failed(OP, &self.output, "too many columns"))?;
        let values: ArrayRef = Arc::new(Float32Array::from(values));
        let vectors = FixedSizeListArray::try_new_with_length(item, size, values, None, rows)?;
        fields.push(Arc::new(Field::new(&self.output, vectors.data_type().clone(), false)));
        let mut columns: Vec<ArrayRef> = left.iter().map(|index| batch.column(*index).clone()).collect();
        columns.push(Arc::new(vectors));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

impl Preprocessor for Concatenator {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        let fitted = Fitted::Concatenated(self.clone());
        // A mistake is better told now than by the first transform.
        fitted.transform_batch(&RecordBatch::new_empty(dataset.schema()?))?;
        Ok(fitted)
    }
}
