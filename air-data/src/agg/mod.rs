//! Aggregates: many rows → one value. They take a column's name or an expression; [`Aggregate::alias`] names the result.
//!
//! ```
//! # fn main() -> Result<(), air_data::DataError> {
//! use air_data::{agg, asc, range, col, lit};
//!
//! let sums = range(10)?
//!     .with_column("odd", col("id") % lit(2))
//!     .group_by(["odd"])
//!     .aggregate([agg::count(), agg::sum("id").alias("sum"), agg::quantile("id", 0.5)])
//!     .sort([asc("odd")]);
//! assert_eq!(sums.columns()?, ["odd", "count()", "sum", "quantile(id)"]);
//! assert_eq!(sums.select(["sum"]).take_all::<i64>()?, [20, 25]);
//! # Ok(())
//! # }
//! ```
//!
//! Nulls are left out, as if their rows were not there, by all but [`count`], [`list`] and [`missing_percentage`]. Of no rows at all the counts are 0, the
//! lists of values are empty and the others are null.

mod counter;
mod few;
mod quantile;
mod weighted;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::functions::expr_fn::{abs, isnan};
use datafusion::functions_aggregate::count::count_all;
use datafusion::functions_aggregate::expr_fn as engine;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit, when};

use crate::error::{DataError, Result};
use crate::expr::IntoExpr;
use counter::Counting;

/// One value out of many rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    kind: Kind,
    value: Option<Expr>,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Rows,
    Count,
    Sum,
    Min,
    Max,
    Mean,
    Std,
    AbsMax,
    Quantile(f64),
    ApproxQuantile(f64),
    Unique,
    CountDistinct,
    ApproxCountDistinct,
    FewDistinct,
    List,
    Values,
    TopK(usize),
    Missing,
    Zero,
    Custom,
}

impl Aggregate {
    fn new(kind: Kind, verb: &str, value: impl IntoExpr) -> Self {
        let value = value.into_expr();
        let name = format!("{verb}({})", value.qualified_name().1);
        Self { kind, value: Some(value), name }
    }

    /// The same under another name.
    pub fn alias(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The name of the column that it makes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the engine computes, of rows of `schema`.
    pub(crate) fn expr(&self, schema: &DFSchema) -> Result<Expr> {
        let Some(value) = self.value.clone() else { return Ok(count_all().alias(&self.name)) };
        let kind = value.get_type(schema)?;
        let as_number = || {
            if kind.is_numeric() || kind.is_null() {
                return Ok(value.clone());
            }
            Err(DataError::Aggregate {
                name: self.name.clone(),
                reason: format!("it needs numbers, and the values are {kind}"),
            })
        };
        let percent = |yes: Expr| when(yes, lit(100.0)).otherwise(lit(0.0));
        let expr = match self.kind {
            Kind::Rows => count_all(),
            Kind::Custom => value,
            Kind::Count => engine::count(value),
            Kind::Sum => engine::sum(as_number()?),
            Kind::Min => engine::min(value),
            Kind::Max => engine::max(value),
            Kind::Mean => engine::avg(as_number()?),
            Kind::Std => engine::stddev(as_number()?),
            Kind::AbsMax => engine::max(abs(as_number()?)),
            Kind::Quantile(at) | Kind::ApproxQuantile(at) => {
                if !(0.0..=1.0).contains(&at) {
                    let reason = format!("a quantile lies between 0 and 1, not at {at}");
                    return Err(DataError::Aggregate { name: self.name.clone(), reason });
                }
                // Between two integers lies a fraction.
                let value = cast(as_number()?, DataType::Float64);
                match self.kind {
                    Kind::Quantile(_) => quantile::quantile(value, at),
                    _ => engine::approx_percentile_cont(value.sort(true, false), lit(at), None),
                }
            }
            Kind::Unique => Counting::Values.of(value),
            Kind::CountDistinct => engine::count_distinct(value),
            // The engine's does not take floats; as text they differ where they are different.
            Kind::ApproxCountDistinct if kind.is_floating() => {
                engine::approx_distinct(cast(value, DataType::Utf8))
            }
            Kind::ApproxCountDistinct => engine::approx_distinct(value),
            Kind::FewDistinct => few::few_distinct(value),
            Kind::List => engine::array_agg(value),
            Kind::Values => Counting::All.of(value),
            Kind::TopK(0) => {
                let reason = "it needs room for one value at least".to_owned();
                return Err(DataError::Aggregate { name: self.name.clone(), reason });
            }
            Kind::TopK(k) => Counting::Top(k).of(value),
            Kind::Missing if kind.is_floating() => {
                engine::avg(percent(value.clone().is_null().or(isnan(value)))?)
            }
            Kind::Missing => engine::avg(percent(value.is_null())?),
            Kind::Zero => {
                let value = as_number()?;
                let zero = when(value.clone().is_null(), lit(datafusion::scalar::ScalarValue::Float64(None)))
                    .when(value.eq(lit(0)), lit(100.0))
                    .otherwise(lit(0.0))?;
                engine::avg(zero)
            }
        };
        Ok(expr.alias(&self.name))
    }
}

impl From<Expr> for Aggregate {
    /// Any aggregate expression, see [`aggregates`](crate::expr::aggregates); the name is its alias, or what it reads like.
    fn from(value: Expr) -> Self {
        let name = value.qualified_name().1;
        Self { kind: Kind::Custom, value: Some(value.unalias()), name }
    }
}

/// The number of rows: `count()`.
pub fn count() -> Aggregate {
    Aggregate { kind: Kind::Rows, value: None, name: "count()".to_owned() }
}

/// The number of values that are not null: `count(x)`.
pub fn count_values(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Count, "count", value)
}

/// The sum: `sum(x)`. Integers stay integers of 64 bits.
pub fn sum(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Sum, "sum", value)
}

/// The smallest value: `min(x)`.
pub fn min(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Min, "min", value)
}

/// The largest value: `max(x)`. NaN is larger than any other number.
pub fn max(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Max, "max", value)
}

/// The arithmetic mean: `mean(x)`.
pub fn mean(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Mean, "mean", value)
}

/// The standard deviation of a sample (divided by n − 1), by Welford's method: `std(x)`. Null for a single value.
pub fn std(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Std, "std", value)
}

/// The mean of values of different weight, `Σ w x / Σ w`: `weighted_mean(x)`. Rows without a value or a weight are left out; null where the weights that are left add up to 0.
pub fn weighted_mean(value: impl IntoExpr, weight: impl IntoExpr) -> Aggregate {
    let value = value.into_expr();
    let name = format!("weighted_mean({})", value.qualified_name().1);
    Aggregate::from(weighted::mean(value, weight.into_expr())).alias(name)
}

/// The largest absolute value: `abs_max(x)`.
pub fn abs_max(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::AbsMax, "abs_max", value)
}

/// The quantile at `at` (0.5 is the median), exactly, interpolated between the two nearest values: `quantile(x)`. It holds all values
/// of a group in memory.
pub fn quantile(value: impl IntoExpr, at: f64) -> Aggregate {
    Aggregate::new(Kind::Quantile(at), "quantile", value)
}

/// The quantile at `at`, nearly, in little memory (t-digest): `approx_quantile(x)`.
pub fn approx_quantile(value: impl IntoExpr, at: f64) -> Aggregate {
    Aggregate::new(Kind::ApproxQuantile(at), "approx_quantile", value)
}

/// The different values as a list, in ascending order: `unique(x)`.
pub fn unique(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Unique, "unique", value)
}

/// How many different values there are: `count_distinct(x)`.
pub fn count_distinct(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::CountDistinct, "count_distinct", value)
}

/// How many different values there are, nearly, in little memory (HyperLogLog): `approx_count_distinct(x)`.
pub fn approx_count_distinct(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::ApproxCountDistinct, "approx_count_distinct", value)
}

/// How many different values there are where they are few (some thousand), exactly; null where they are many: `few_distinct(x)`.
pub(crate) fn few_distinct(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::FewDistinct, "few_distinct", value)
}

/// All values as a list, nulls included: `list(x)`. Their order is not promised.
pub fn list(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::List, "list", value)
}

/// The different values and how often each occurs, as a list of `{value, count}`, the most frequent first and equals in ascending order:
/// `value_counts(x)`.
pub fn value_counts(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Values, "value_counts", value)
}

/// The `k` most frequent values, nearly, in little memory, as [`value_counts`] has them: `approx_top_k(x)`.
///
/// A summary of Misra and Gries with room for m = max(1024, 16 k) values, merged as Agarwal et al. do ("Mergeable summaries", 2012): a count is at
/// most the true one, and at most n / (m + 1) less, of n values. With fewer different values than m it is exact.
pub fn approx_top_k(value: impl IntoExpr, k: usize) -> Aggregate {
    Aggregate::new(Kind::TopK(k), "approx_top_k", value)
}

/// How many of the values are null or NaN, in percent: `missing_percentage(x)`.
pub fn missing_percentage(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Missing, "missing_percentage", value)
}

/// How many of the values are zero, in percent: `zero_percentage(x)`.
pub fn zero_percentage(value: impl IntoExpr) -> Aggregate {
    Aggregate::new(Kind::Zero, "zero_percentage", value)
}
