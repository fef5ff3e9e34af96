//! [`SimpleImputer`]: values for those that are missing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast, cast_with_options, is_null};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::lit;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, column, failed, floats, replaced};
use crate::agg;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::expr::{self, col};

/// What missing values are replaced with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The mean of the column, which becomes `f64`.
    Mean,
    /// The median of the column, which becomes `f64`.
    Median,
    /// The value that occurs most often, of several the smallest. The column keeps its type.
    MostFrequent,
    /// A value, given as text, as it would stand in CSV. The column keeps its type.
    Constant(String),
}

/// Replaces nulls, and NaN in columns of floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleImputer {
    columns: Vec<String>,
    strategy: Strategy,
}

impl SimpleImputer {
    /// For these columns.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, strategy: Strategy) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), strategy }
    }
}

/// What the missing values of a column are replaced with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// The column.
    pub column: String,
    /// The value.
    pub value: FillValue,
}

/// A value for those that are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FillValue {
    /// A number; the column becomes `f64`.
    Number(f64),
    /// Text that is read as the column's type.
    Text(String),
}

impl Preprocessor for SimpleImputer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        const OP: &str = "SimpleImputer";
        if let Strategy::Constant(text) = &self.strategy {
            let fill =
                |column: &String| Fill { column: column.clone(), value: FillValue::Text(text.clone()) };
            return Ok(Fitted::Imputed { columns: self.columns.iter().map(fill).collect() });
        }
        if self.columns.is_empty() {
            return Ok(Fitted::Imputed { columns: Vec::new() });
        }
        let schema = dataset.schema()?;
        let mut aggregates = Vec::new();
        for (index, name) in self.columns.iter().enumerate() {
            let kind = schema.column_with_name(name).map(|(_, field)| field.data_type());
            let floating = kind.is_some_and(DataType::is_floating);
            let value = match &self.strategy {
                Strategy::Mean | Strategy::Median => {
                    if let Some(kind) = kind.filter(|kind| !kind.is_numeric()) {
                        return Err(failed(OP, name, format!("it needs numbers, and the values are {kind}")));
                    }
                    nullif(expr::cast(col(name), DataType::Float64), lit(f64::NAN))
                }
                _ if floating => nullif(col(name), lit(f64::NAN)),
                _ => col(name),
            };
            let aggregate = match self.strategy {
                Strategy::Mean => agg::mean(value),
                Strategy::Median => agg::quantile(value, 0.5),
                _ => agg::value_counts(value),
            };
            aggregates.push(aggregate.alias(index.to_string()));
        }
        let row = dataset.aggregate(aggregates).to_batch()?;
        let fills = self.columns.iter().zip(row.columns()).map(|(name, found)| {
            let none = || failed(OP, name, "it has no values to be fitted to");
            let value = if let Some(counts) = found.as_list_opt::<i32>() {
                let counts = counts.value(0);
                let values = counts.as_struct().column(0);
                if values.is_empty() {
                    return Err(none());
                }
                FillValue::Text(array_value_to_string(values, 0)?)
            } else {
                let number = found.as_primitive::<Float64Type>().iter().next().flatten();
                FillValue::Number(number.filter(|number| number.is_finite()).ok_or_else(none)?)
            };
            Ok(Fill { column: name.clone(), value })
        });
        Ok(Fitted::Imputed { columns: fills.collect::<Result<_>>()? })
    }
}

impl Fill {
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, values) = column(batch, &self.column)?;
        let bad = |reason: String| failed("SimpleImputer", &self.column, reason);
        let (values, fill): (ArrayRef, ArrayRef) = match &self.value {
            FillValue::Number(number) => {
                let fill = Arc::new(arrow::array::Float64Array::from(vec![*number]));
                (floats("SimpleImputer", values, &self.column)?, fill)
            }
            FillValue::Text(text) => {
                let strict = CastOptions { safe: false, ..CastOptions::default() };
                let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
                let fill =
                    cast_with_options(&text, values.data_type(), &strict).map_err(|e| bad(e.to_string()))?;
                (values.clone(), fill)
            }
        };
        let missing = missing(&values)?;
        let filled = zip(&missing, &Scalar::new(fill), &values)?;
        replaced(batch, index, vec![(self.column.clone(), filled)])
    }
}

/// Where values are null or NaN.
fn missing(values: &ArrayRef) -> Result<BooleanArray> {
    if !values.data_type().is_floating() {
        return Ok(is_null(values)?);
    }
    let floats = cast(values, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    Ok(floats.iter().map(|value| Some(value.is_none_or(f64::is_nan))).collect())
}
