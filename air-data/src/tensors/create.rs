//! Datasets out of tensors.

use std::sync::Arc;

use air_core::tensor::Tensor;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int64Type, Schema};

use super::column::TensorColumns;
use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::session::Session;

impl Session {
    /// Tensors as columns, not copied: each has a shape `[rows, ...]`, with the same number of rows. See [`TensorColumns::with_tensor`].
    ///
    /// # Errors
    /// [`DataError::SchemaUnknown`] for no tensors at all, [`DataError::TensorColumn`] for tensors of other numbers of rows or that make no column, [`DataError::DuplicateColumn`].
    pub fn from_tensors<N: AsRef<str>>(
        &self,
        columns: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<Dataset> {
        let mut batch: Option<RecordBatch> = None;
        for (name, tensor) in columns {
            let name = name.as_ref();
            let so_far = if let Some(batch) = batch {
                batch
            } else {
                let rows = tensor.shape().first().copied().unwrap_or(0);
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?
            };
            if so_far.column_by_name(name).is_some() {
                return Err(DataError::DuplicateColumn {
                    column: name.to_owned(),
                    path: "from_tensors".to_owned(),
                });
            }
            batch = Some(so_far.with_tensor(name, &tensor)?);
        }
        let Some(batch) = batch else {
            return Err(DataError::SchemaUnknown {
                op: "from_tensors".to_owned(),
                reason: "there are no tensors".to_owned(),
            });
        };
        self.from_batches(vec![batch])
    }

    /// `end` tensors of one shape in one column, `data`, made as they are asked for: all elements of each are its number (`i64`).
    ///
    /// # Errors
    /// [`DataError::TensorColumn`] for a shape that no column has.
    pub fn range_tensor(&self, end: u64, shape: &[usize]) -> Result<Dataset> {
        let shape = shape.to_vec();
        let make = move |ids: &[i64]| -> Result<RecordBatch> {
            let mut whole = vec![ids.len()];
            whole.extend(&shape);
            let width =
                shape.iter().try_fold(1_usize, |all, axis| all.checked_mul(*axis)).unwrap_or(usize::MAX);
            let count = ids.len().saturating_mul(width);
            // Its shape is looked at before there is memory for it.
            let mut tensor = Tensor::zeros::<i64>(&whole).map_err(|error| told(error.to_string()))?;
            if count > 0 {
                let values = tensor.as_slice_mut::<i64>().map_err(|error| told(error.to_string()))?;
                values.chunks_exact_mut(width).zip(ids).for_each(|(row, id)| row.fill(*id));
            }
            let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
            RecordBatch::try_from_iter([("data", ids)])?.with_tensor("data", &tensor)
        };
        let schema = make(&[])?.schema();
        Ok(self.range(end)?.map_batches_to(schema, move |batch| {
            Ok(make(batch.column(0).as_primitive::<Int64Type>().values())?)
        }))
    }
}

fn told(reason: String) -> DataError {
    DataError::TensorColumn { column: "data".to_owned(), reason }
}
