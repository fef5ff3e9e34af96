//! Encoders: values as numbers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, column, failed, replaced};
use crate::agg;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::expr::col;

/// A column with more different values is no category.
const MAX_CATEGORIES: usize = 1 << 20;

/// More columns are not made of one.
const MAX_COLUMNS: usize = 4096;

/// The different values of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    /// The column.
    pub column: String,
    /// Its values as text, in their ascending order.
    pub values: Vec<String>,
}

impl Categories {
    /// For each row the place of its value; nothing for null and for values that the fit has not seen.
    fn places(&self, batch: &RecordBatch) -> Result<(usize, Vec<Option<usize>>)> {
        let (index, values) = column(batch, &self.column)?;
        let text =
            cast(values, &DataType::Utf8).map_err(|e| failed("encoder", &self.column, e.to_string()))?;
        let places = self.by_value();
        let found = text.as_string::<i32>().iter().map(|value| places.get(value?).copied());
        Ok((index, found.collect()))
    }

    /// The place of each value.
    pub(super) fn by_value(&self) -> HashMap<&str, usize> {
        self.values.iter().enumerate().map(|(place, value)| (value.as_str(), place)).collect()
    }

    pub(super) fn ordinal(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, places) = self.places(batch)?;
        let places: Int64Array = places.into_iter().map(|place| place.map(|place| place as i64)).collect();
        replaced(batch, index, vec![(self.column.clone(), Arc::new(places) as ArrayRef)])
    }

    pub(super) fn one_hot(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, places) = self.places(batch)?;
        let columns = self.values.iter().enumerate().map(|(category, value)| {
            let hot =
                UInt8Array::from_iter_values(places.iter().map(|place| u8::from(*place == Some(category))));
            (format!("{}_{value}", self.column), Arc::new(hot) as ArrayRef)
        });
        replaced(batch, index, columns.collect())
    }
}

/// The categories of all columns in one pass.
pub(super) fn categories(
    op: &str,
    columns: &[String],
    most: usize,
    dataset: &Dataset,
) -> Result<Vec<Categories>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let unique =
        columns.iter().enumerate().map(|(index, name)| agg::unique(col(name)).alias(index.to_string()));
    let row = dataset.aggregate(unique.collect::<Vec<_>>()).to_batch()?;
    let categories = columns.iter().zip(row.columns()).map(|(name, list)| {
        let values = list.as_list::<i32>().value(0);
        if values.len() > most {
            return Err(failed(
                op,
                name,
                format!("it has {} different values; at most {most} are encoded", values.len()),
            ));
        }
        if values.is_empty() {
            return Err(failed(op, name, "it has no values to be fitted to"));
        }
        let text = cast(&values, &DataType::Utf8).map_err(|e| failed(op, name, e.to_string()))?;
        let values = text.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        Ok(Categories { column: name.clone(), values })
    });
    categories.collect()
}

/// Each value becomes its place (`Int64`) among the different values in ascending order. Nulls, and values that the fit has not seen, become
/// null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdinalEncoder {
    columns: Vec<String>,
}

impl OrdinalEncoder {
    /// For these columns.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect() }
    }
}

impl Preprocessor for OrdinalEncoder {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        Ok(Fitted::Ordinal { columns: categories("OrdinalEncoder", &self.columns, MAX_CATEGORIES, dataset)? })
    }
}

/// [`OrdinalEncoder`] for the one column that is to be predicted. [`Fitted::labels`] has the values by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelEncoder {
    column: String,
}

impl LabelEncoder {
    /// For this column.
    pub fn new(column: impl Into<String>) -> Self {
        Self { column: column.into() }
    }
}

impl Preprocessor for LabelEncoder {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        let columns = std::slice::from_ref(&self.column);
        Ok(Fitted::Ordinal { columns: categories("LabelEncoder", columns, MAX_CATEGORIES, dataset)? })
    }
}

/// Each column becomes one (`UInt8`) for each of its different values, in ascending order and called `column_value`: 1 where the row has that value,
/// else 0. A row with a null, or with a value that the fit has not seen, has 0 in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneHotEncoder {
    columns: Vec<String>,
}

impl OneHotEncoder {
    /// For these columns.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect() }
    }
}

impl Preprocessor for OneHotEncoder {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        Ok(Fitted::OneHot { columns: categories("OneHotEncoder", &self.columns, MAX_COLUMNS, dataset)? })
    }
}

impl Fitted {
    /// What the numbers of an encoded column stand for: value `labels[n]` was encoded as `n`, or has place `n` in the vectors. Nothing for a column that it does not
    /// encode.
    pub fn labels(&self, column: &str) -> Option<&[String]> {
        match self {
            Self::Ordinal { columns } | Self::OneHot { columns } | Self::MultiHot { columns } => {
                columns.iter().find(|categories| categories.column == column).map(|found| &found.values[..])
            }
            Self::Counted { columns } => {
                columns.iter().find(|vocabulary| vocabulary.column == column).map(|found| &found.tokens[..])
            }
            Self::Chain { steps } => steps.iter().find_map(|step| step.labels(column)),
            _ => None,
        }
    }
}
