//! [`Concatenator`]: columns of numbers as one of vectors.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type};
use serde::{Deserialize, Serialize};

use super::vectors::vectors;
use super::{Fitted, Preprocessor, appended, checked, column, failed, floats};
use crate::dataset::Dataset;
use crate::error::Result;

const OP: &str = "Concatenator";

/// Columns of numbers, and of vectors, become one of vectors of `f32`, after the others and in the order given: what a model takes. Nothing is learnt; a null is an
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
        let rows = batch.num_rows();
        let (mut used, mut parts, mut width) = (Vec::new(), Vec::new(), 0);
        for name in &self.columns {
            let (index, found) = column(batch, name)?;
            used.push(index);
            let (numbers, length) = match found.as_fixed_size_list_opt() {
                Some(lists) => (lists.values(), usize::try_from(lists.value_length()).unwrap_or(0)),
                None => (found, 1),
            };
            if found.null_count() > 0 || numbers.null_count() > 0 {
                return Err(failed(OP, name, "it has a null; impute it first"));
            }
            parts.push((width, length, floats(OP, numbers, name)?));
            width += length;
        }
        if i32::try_from(width).is_err() {
            return Err(failed(OP, &self.output, format!("a vector of {width} numbers")));
        }
        let mut values = vec![0.0_f32; rows * width];
        for (place, length, numbers) in parts {
            let numbers = numbers.as_primitive::<Float64Type>().values();
            for row in 0..rows {
                let vector = &mut values[row * width + place..][..length];
                for (to, from) in vector.iter_mut().zip(&numbers[row * length..]) {
                    *to = *from as f32;
                }
            }
        }
        appended(OP, batch, &used, &self.output, vectors::<Float32Type>(values, width, rows)?)
    }
}

impl Preprocessor for Concatenator {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        checked(Fitted::Concatenated(self.clone()), dataset)
    }
}
