//! Scalers: numbers shifted and divided.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::unary;
use arrow::datatypes::Float64Type;
use datafusion::functions_aggregate::expr_fn::stddev_pop;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, column, failed, floats, numbers, replaced};
use crate::agg::{self, Aggregate};
use crate::dataset::Dataset;
use crate::error::Result;

/// How a column is scaled: `(x − shift) / scale`, as `f64`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The column.
    pub column: String,
    /// What is taken from its values.
    pub shift: f64,
    /// What they are then divided by; not 0.
    pub scale: f64,
}

impl Scaled {
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, values) = column(batch, &self.column)?;
        let values = floats("scaler", values, &self.column)?;
        let scaled: Float64Array =
            unary(values.as_primitive::<Float64Type>(), |x| (x - self.shift) / self.scale);
        replaced(batch, index, vec![(self.column.clone(), Arc::new(scaled) as ArrayRef)])
    }
}

macro_rules! scalers {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $measures:expr, $scaled:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            columns: Vec<String>,
        }

        impl $name {
            /// For these columns of numbers.
            pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
                Self { columns: columns.into_iter().map(Into::into).collect() }
            }
        }

        impl Preprocessor for $name {
            fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
                fit($text, &self.columns, dataset, $measures, $scaled)
            }
        }
    )*};
}

scalers! {
    /// Mean 0 and standard deviation 1 (of the population: divided by n). A column of one value becomes 0.
    StandardScaler, "StandardScaler",
        |x: Expr| vec![agg::mean(x.clone()), stddev_pop(x).into()],
        |m: &[f64]| (m[0], m[1]);
    /// The smallest value 0 and the largest 1. A column of one value becomes 0.
    MinMaxScaler, "MinMaxScaler",
        |x: Expr| vec![agg::min(x.clone()), agg::max(x)],
        |m: &[f64]| (m[0], m[1] - m[0]);
    /// The largest absolute value 1.
    MaxAbsScaler, "MaxAbsScaler",
        |x: Expr| vec![agg::abs_max(x)],
        |m: &[f64]| (0.0, m[0]);
    /// Median 0 and distance between the quartiles 1. It holds each column in memory while it is fitted.
    RobustScaler, "RobustScaler",
        |x: Expr| vec![agg::quantile(x.clone(), 0.5), agg::quantile(x.clone(), 0.25), agg::quantile(x, 0.75)],
        |m: &[f64]| (m[0], m[2] - m[1]);
}

/// All measures of all columns in one pass.
fn fit(
    op: &str,
    columns: &[String],
    dataset: &Dataset,
    measures: impl Fn(Expr) -> Vec<Aggregate>,
    scaled: impl Fn(&[f64]) -> (f64, f64),
) -> Result<Fitted> {
    let schema = dataset.schema()?;
    let mut aggregates = Vec::new();
    for name in columns {
        let value = numbers(op, &schema, name)?;
        let all = measures(value).into_iter();
        aggregates.extend(all.enumerate().map(|(index, measure)| measure.alias(format!("{name}:{index}"))));
    }
    if columns.is_empty() {
        return Ok(Fitted::Scaled { columns: Vec::new() });
    }
    let each = aggregates.len() / columns.len();
    let row = dataset.aggregate(aggregates).to_batch()?;
    let fitted = columns.iter().enumerate().map(|(index, name)| {
        let measured: Option<Vec<f64>> = (index * each..(index + 1) * each)
            .map(|measure| {
                let value = row.column(measure).as_primitive_opt::<Float64Type>()?;
                value.iter().next().flatten().filter(|value| value.is_finite())
            })
            .collect();
        let measured = measured
            .ok_or_else(|| failed(op, name, "it has no values, or infinite ones, to be fitted to"))?;
        let (shift, scale) = scaled(&measured);
        // What does not vary is not stretched.
        Ok(Scaled { column: name.clone(), shift, scale: if scale == 0.0 { 1.0 } else { scale } })
    });
    Ok(Fitted::Scaled { columns: fitted.collect::<Result<_>>()? })
}
