//! [`Summary`]: a dataset's columns in numbers.

use std::fmt;

use arrow::util::display::array_value_to_string;
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::agg::{self, Aggregate};
use crate::error::Result;
use crate::expr::col;

/// A dataset's columns in numbers: what [`Dataset::summary`] makes. It prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows in all.
    pub rows: u64,
    /// The columns, in order.
    pub columns: Vec<ColumnSummary>,
}

/// A column in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
    /// Values that are not null.
    pub count: u64,
    /// Nulls, and NaN in columns of floats, in percent of the rows; absent where there are no rows.
    pub missing_percentage: Option<f64>,
    /// Different values, nearly (HyperLogLog); absent for types that it cannot count.
    pub distinct: Option<u64>,
    /// The smallest value as text, where values have an order.
    pub min: Option<String>,
    /// The largest value as text.
    pub max: Option<String>,
    /// The mean, of numbers.
    pub mean: Option<f64>,
    /// The standard deviation of a sample, of numbers.
    pub std: Option<f64>,
    /// Zeros among the values, in percent, of numbers.
    pub zero_percentage: Option<f64>,
}

impl Dataset {
    /// Every column in numbers, in one pass over the rows.
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset.
    pub fn summary(&self) -> Result<Summary> {
        let schema = self.schema()?;
        // An aggregate is called `column:measure`, its column by number.
        let mut aggregates = vec![agg::count().alias("rows")];
        for (index, field) in schema.fields().iter().enumerate() {
            let (value, kind) = (col(field.name()), field.data_type());
            let mut add = |measure: &str, aggregate: Aggregate| {
                aggregates.push(aggregate.alias(format!("{index}:{measure}")));
            };
            add("count", agg::count_values(value.clone()));
            add("missing", agg::missing_percentage(value.clone()));
            if !kind.is_nested() && !kind.is_null() {
                add("distinct", agg::approx_count_distinct(value.clone()));
                add("min", agg::min(value.clone()));
                add("max", agg::max(value.clone()));
            }
            if kind.is_numeric() {
                add("mean", agg::mean(value.clone()));
                add("std", agg::std(value.clone()));
                add("zero", agg::zero_percentage(value));
            }
        }
        let row = self.aggregate(aggregates).to_batch()?;
        let text = |name: &str| {
            let value = row.column_by_name(name)?;
            if value.is_empty() || value.is_null(0) { None } else { array_value_to_string(value, 0).ok() }
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
        let whole = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let of = |measure: &str| format!("{index}:{measure}");
            ColumnSummary {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                count: whole(&of("count")).unwrap_or(0),
                missing_percentage: number(&of("missing")),
                distinct: whole(&of("distinct")),
                min: text(&of("min")),
                max: text(&of("max")),
                mean: number(&of("mean")),
                std: number(&of("std")),
                zero_percentage: number(&of("zero")),
            }
        });
        Ok(Summary { rows: whole("rows").unwrap_or(0), columns: columns.collect() })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["column", "type", "count", "missing %", "distinct", "min", "max", "mean", "std", "zero %"];
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
        let mut table = vec![head.map(str::to_owned)];
        table.extend(self.columns.iter().map(|column| {
            [
                column.name.clone(),
                column.data_type.clone(),
                column.count.to_string(),
                number(column.missing_percentage),
                column.distinct.map_or_else(String::new, |count| count.to_string()),
                column.min.clone().unwrap_or_default(),
                column.max.clone().unwrap_or_default(),
                number(column.mean),
                number(column.std),
                number(column.zero_percentage),
            ]
        }));
        let width = |index: usize| table.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        write!(f, "{} rows", self.rows)?;
        for row in &table {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            write!(f, "\n{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}
