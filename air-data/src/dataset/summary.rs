//! [`Summary`]: a dataset's columns in numbers.

use std::fmt;

use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::agg::{self, Aggregate};
use crate::error::Result;
use crate::expr::{cast, col};

/// The most characters of a value in a table.
const CELL: usize = 32;

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
    /// Nulls.
    pub nulls: u64,
    /// Nulls, and NaN in columns of floats, in percent of the rows; absent where there are no rows.
    pub missing_percentage: Option<f64>,
    /// Different values; absent for nested types.
    pub distinct: Option<u64>,
    /// Whether `distinct` is exact, as it is up to 4096 values, or nearly right (HyperLogLog).
    pub distinct_exact: bool,
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
            // What a dictionary holds are values like any other.
            let (value, kind) = match field.data_type() {
                DataType::Dictionary(_, kind) => {
                    (cast(col(field.name()), kind.as_ref().clone()), kind.as_ref())
                }
                kind => (col(field.name()), kind),
            };
            let mut add = |measure: &str, aggregate: Aggregate| {
                aggregates.push(aggregate.alias(format!("{index}:{measure}")));
            };
            add("count", agg::count_values(value.clone()));
            add("missing", agg::missing_percentage(value.clone()));
            if !kind.is_nested() && !kind.is_null() {
                add("distinct", agg::approx_count_distinct(value.clone()));
                add("few", agg::few_distinct(value.clone()));
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
        let rows = whole("rows").unwrap_or(0);
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let of = |measure: &str| format!("{index}:{measure}");
            let (count, few) = (whole(&of("count")).unwrap_or(0), whole(&of("few")));
            ColumnSummary {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                count,
                nulls: rows.saturating_sub(count),
                missing_percentage: number(&of("missing")),
                distinct: few.or_else(|| whole(&of("distinct"))),
                distinct_exact: few.is_some(),
                min: text(&of("min")),
                max: text(&of("max")),
                mean: number(&of("mean")),
                std: number(&of("std")),
                zero_percentage: number(&of("zero")),
            }
        });
        Ok(Summary { rows, columns: columns.collect() })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["column", "type", "nulls", "missing %", "distinct", "min", "max", "mean", "std", "zero %"];
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
        let mut table = vec![head.map(str::to_owned)];
        table.extend(self.columns.iter().map(|column| {
            [
                column.name.clone(),
                column.data_type.clone(),
                column.nulls.to_string(),
                number(column.missing_percentage),
                column.distinct.map_or_else(String::new, |count| format!("{}{count}", column.nearly())),
                column.min.as_deref().map(short).unwrap_or_default(),
                column.max.as_deref().map(short).unwrap_or_default(),
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
        if self.columns.iter().any(|column| !column.nearly().is_empty()) {
            write!(f, "\n~ nearly (HyperLogLog)")?;
        }
        Ok(())
    }
}

impl ColumnSummary {
    /// What is written before the number of different values.
    fn nearly(&self) -> &'static str {
        if self.distinct.is_some() && !self.distinct_exact { "~" } else { "" }
    }
}

/// A text as a cell of a table: its beginning, on one line.
fn short(text: &str) -> String {
    let cut = text.chars().count() > CELL;
    let shown: String = text.chars().take(CELL).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cut { format!("{shown}…") } else { shown }
}
