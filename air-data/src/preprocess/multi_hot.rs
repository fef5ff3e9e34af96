//! [`MultiHotEncoder`]: lists of categories as vectors of ones and zeros.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, UInt8Type};

use super::encode::{Categories, categories};
use super::vectors::{MAX_WIDTH, vectors};
use super::{Fitted, Preprocessor, column, failed, replaced};
use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::expr::col;
use crate::lists::{entry, lists};

const OP: &str = "MultiHotEncoder";

/// Each column of lists becomes one of vectors (`UInt8`), one number for each different entry, in ascending order: 1 where the row's list has it, else 0. A null
/// list has 0 in all, and entries that the fit has not seen have no place. [`Fitted::labels`] has the entries by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiHotEncoder {
    columns: Vec<String>,
}

impl MultiHotEncoder {
    /// For these columns of lists.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect() }
    }
}

impl Preprocessor for MultiHotEncoder {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        let schema = dataset.schema()?;
        let columns = self.columns.iter().map(|name| {
            let Some((_, field)) = schema.column_with_name(name) else {
                let known = schema.fields().iter().map(|field| field.name().clone()).collect();
                return Err(DataError::unknown_column(name, known));
            };
            let Some(item) = entry(field.data_type()) else {
                let reason = format!("it needs lists, and the values are {}", field.data_type());
                return Err(failed(OP, name, reason));
            };
            let entries = Schema::new(vec![Field::new(name, item.data_type().clone(), true)]);
            let entries =
                dataset.select([col(name)]).map_batches_to(Arc::new(entries.clone()), move |batch| {
                    let found = entries_of(batch.column(0))?;
                    Ok(RecordBatch::try_new(Arc::new(entries.clone()), vec![found])?)
                });
            let mut found = categories(OP, std::slice::from_ref(name), MAX_WIDTH, &entries)?;
            found.pop().ok_or_else(|| failed(OP, name, "it has no values to be fitted to"))
        });
        Ok(Fitted::MultiHot { columns: columns.collect::<Result<_>>()? })
    }
}

/// The entries of all lists, one after the other.
fn entries_of(column: &ArrayRef) -> std::result::Result<ArrayRef, BoxError> {
    let Some((rows, entries)) = lists(column) else { return Err("its columns have changed".into()) };
    let places = UInt64Array::from_iter_values(rows.into_iter().flatten().map(|place| place as u64));
    Ok(take(&entries, &places, None)?)
}

impl Categories {
    pub(super) fn multi_hot(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, found) = column(batch, &self.column)?;
        let Some((rows, entries)) = lists(found) else {
            let reason = format!("it needs lists, and the values are {}", found.data_type());
            return Err(failed(OP, &self.column, reason));
        };
        let entries = cast(&entries, &DataType::Utf8).map_err(|e| failed(OP, &self.column, e.to_string()))?;
        let entries = entries.as_string::<i32>();
        let (places, width) = (self.by_value(), self.values.len());
        let mut hot = vec![0_u8; rows.len() * width];
        for (row, range) in rows.iter().enumerate() {
            for at in range.clone().filter(|at| entries.is_valid(*at)) {
                if let Some(place) = places.get(entries.value(at)) {
                    hot[row * width + place] = 1;
                }
            }
        }
        let hot = vectors::<UInt8Type>(hot, width, rows.len())?;
        replaced(batch, index, vec![(self.column.clone(), hot)])
    }
}
