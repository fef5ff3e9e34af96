//! [`KBinsDiscretizer`]: numbers as the bins they fall into.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, checked, column, failed, floats, replaced, values_of};
use crate::dataset::Dataset;
use crate::error::Result;

/// More bins are not made.
const MAX_BINS: usize = 1 << 16;

/// Edges of quantiles that are nearer to each other make one.
const NARROWEST: f64 = 1e-8;

/// Each number becomes its bin (`Int64`, from 0). What lies outside of what the fit has seen falls into the first or the last bin; nulls and NaN become null.
#[derive(Debug, Clone, PartialEq)]
pub struct KBinsDiscretizer {
    columns: Vec<String>,
    bins: Binning,
}

#[derive(Debug, Clone, PartialEq)]
enum Binning {
    Uniform(usize),
    Quantile(usize),
    Custom(Vec<Vec<f64>>),
}

impl KBinsDiscretizer {
    /// Bins of equal width, between the smallest value and the largest. Columns are held in memory while they are fitted, one at a time.
    pub fn uniform<C: Into<String>>(columns: impl IntoIterator<Item = C>, bins: usize) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), bins: Binning::Uniform(bins) }
    }

    /// Bins of equally many values: between quantiles, interpolated linearly. Where equal values make a bin narrower than 1e-8 it is left out, so there may be fewer. Columns are held in
    /// memory while they are fitted, one at a time.
    pub fn quantile<C: Into<String>>(columns: impl IntoIterator<Item = C>, bins: usize) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), bins: Binning::Quantile(bins) }
    }

    /// The edges between bins given, ascending: `[("age", vec![18.0, 65.0])]` makes three bins, of which the second begins with 18. Nothing is learnt.
    pub fn custom<C: Into<String>>(edges: impl IntoIterator<Item = (C, Vec<f64>)>) -> Self {
        let (columns, edges) = edges.into_iter().map(|(column, edges)| (column.into(), edges)).unzip();
        Self { columns, bins: Binning::Custom(edges) }
    }
}

/// The bins of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bins {
    /// The column.
    pub column: String,
    /// Where each bin but the first begins, ascending.
    pub edges: Vec<f64>,
}

impl Preprocessor for KBinsDiscretizer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        const OP: &str = "KBinsDiscretizer";
        let columns = self.columns.iter().enumerate().map(|(index, name)| {
            let edges = match &self.bins {
                Binning::Custom(edges) => {
                    let edges = edges[index].clone();
                    let rises = edges.windows(2).all(|pair| pair[0] < pair[1]);
                    if !rises || edges.iter().any(|edge| !edge.is_finite()) || edges.len() >= MAX_BINS {
                        let reason = format!("its edges are not fewer than {MAX_BINS} finite numbers, each larger than the one before");
                        return Err(failed(OP, name, reason));
                    }
                    edges
                }
                Binning::Uniform(bins) | Binning::Quantile(bins) => {
                    if !(2..=MAX_BINS).contains(bins) {
                        return Err(failed(OP, name, format!("between 2 and {MAX_BINS} bins, not {bins}")));
                    }
                    let mut values = values_of(OP, dataset, name)?;
                    values.sort_unstable_by(f64::total_cmp);
                    match self.bins {
                        Binning::Uniform(_) => uniform(&values, *bins),
                        _ => quantiles(&values, *bins),
                    }
                }
            };
            Ok(Bins { column: name.clone(), edges })
        });
        checked(Fitted::Binned { columns: columns.collect::<Result<_>>()? }, dataset)
    }
}

/// The inner edges of even bins over ascending values.
fn uniform(values: &[f64], bins: usize) -> Vec<f64> {
    let (smallest, largest) = (values[0], values[values.len() - 1]);
    if smallest == largest {
        return Vec::new();
    }
    let width = (largest - smallest) / bins as f64;
    (1..bins).map(|edge| edge as f64 * width + smallest).collect()
}

/// The inner edges of bins of equally many of ascending values.
fn quantiles(values: &[f64], bins: usize) -> Vec<f64> {
    if values[0] == values[values.len() - 1] {
        return Vec::new();
    }
    let edges: Vec<f64> = (0..=bins)
        .map(|edge| {
            let place = (values.len() - 1) as f64 * edge as f64 / bins as f64;
            let (below, part) = (place.floor() as usize, place.fract());
            let (a, b) = (values[below], values[(below + 1).min(values.len() - 1)]);
            a + (b - a) * part
        })
        .collect();
    let mut wide: Vec<f64> = vec![edges[0]];
    wide.extend(edges.windows(2).filter(|pair| pair[1] - pair[0] > NARROWEST).map(|pair| pair[1]));
    wide[1..].iter().take(wide.len().saturating_sub(2)).copied().collect()
}

impl Bins {
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, values) = column(batch, &self.column)?;
        let values = floats("KBinsDiscretizer", values, &self.column)?;
        let values = values.as_primitive::<Float64Type>().iter();
        let bins: Int64Array = values
            .map(|value| {
                let value = value.filter(|value| !value.is_nan())?;
                Some(self.edges.partition_point(|edge| *edge <= value) as i64)
            })
            .collect();
        replaced(batch, index, vec![(self.column.clone(), Arc::new(bins) as ArrayRef)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_few_and_of_equal_values() {
        assert_eq!(uniform(&[0.0, 1.0, 10.0], 4), [2.5, 5.0, 7.5]);
        assert_eq!(uniform(&[3.0, 3.0], 4), [0.0; 0]);
        assert_eq!(quantiles(&[0.0, 1.0, 2.0, 3.0, 4.0], 4), [1.0, 2.0, 3.0]);
        assert_eq!(quantiles(&[0.0, 1.0], 4), [0.25, 0.5, 0.75]);
        // Half of the values are one.
        assert_eq!(quantiles(&[0.0, 0.0, 0.0, 1.0, 2.0], 4), [1.0]);
        assert_eq!(quantiles(&[0.0, 1.0, 1.0, 1.0, 1.0], 4), [0.0; 0]);
    }
}
