//! [`Normalizer`]: rows of length 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, checked, column, floats, replaced};
use crate::dataset::Dataset;
use crate::error::Result;

/// How the length of a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The largest absolute value.
    Max,
}

impl Norm {
    pub(super) fn of(self, values: impl Iterator<Item = f64>) -> f64 {
        match self {
            Self::L1 => values.map(f64::abs).sum(),
            Self::L2 => values.map(|x| x * x).sum::<f64>().sqrt(),
            Self::Max => values.map(f64::abs).fold(0.0, f64::max),
        }
    }
}

/// Each row divided by its length over these columns, as `f64`. Nothing is learnt. A row of zeros stays as it is; nulls and NaN have no part in the length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    /// The columns that make a row's vector.
    pub columns: Vec<String>,
    /// How its length is measured.
    pub norm: Norm,
}

impl Normalizer {
    /// For these columns of numbers.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, norm: Norm) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), norm }
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut places = Vec::with_capacity(self.columns.len());
        let mut columns = Vec::with_capacity(self.columns.len());
        for name in &self.columns {
            let (index, values) = column(batch, name)?;
            places.push(index);
            columns.push(floats("Normalizer", values, name)?.as_primitive::<Float64Type>().clone());
        }
        let lengths: Vec<f64> = (0..batch.num_rows())
            .map(|row| {
                let values = columns.iter().filter(|column| column.is_valid(row));
                let values = values.map(|column| column.value(row)).filter(|value| !value.is_nan());
                let length = self.norm.of(values);
                if length == 0.0 { 1.0 } else { length }
            })
            .collect();
        let mut batch = batch.clone();
        for ((index, name), column) in places.into_iter().zip(&self.columns).zip(&columns) {
            let normal: Float64Array =
                column.iter().zip(&lengths).map(|(value, length)| Some(value? / length)).collect();
            batch = replaced(&batch, index, vec![(name.clone(), Arc::new(normal) as ArrayRef)])?;
        }
        Ok(batch)
    }
}

impl Preprocessor for Normalizer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        checked(Fitted::Normalized(self.clone()), dataset)
    }
}
