//! Expressions over columns: what [`with_column`](crate::Dataset::with_column), [`select`](crate::Dataset::select),
//! [`filter_expr`](crate::Dataset::filter_expr) and the sort keys take.
//!
//! An [`Expr`] is DataFusion's: operators (`col("a") + lit(1)`), comparisons (`.gt(..)`, `.eq(..)`, `.between(..)`, `.in_list(..)`,
//! `.is_null()`), `.and(..)`, `.or(..)`, `.alias("name")`, [`cast`], [`when`], the [`functions`], the functions over a [`window`], and closures as [`Udf`].
//! The engine sees through them, so they are pushed into files and computed on whole columns.
//!
//! ```
//! # fn main() -> Result<(), air_data::DataError> {
//! use air_data::expr::{DataType, ExprFunctionExt, cast, functions, when, window};
//! use air_data::{asc, col, lit, range};
//!
//! let numbers = range(6)?.with_columns([
//!     ("text", cast(col("id"), DataType::Utf8)),
//!     ("root", functions::sqrt(cast(col("id"), DataType::Float64))),
//!     ("size", when(col("id").lt(lit(3)), lit("small")).otherwise(lit("large"))?),
//!     ("before", window::lag(col("id"), Some(1), None).order_by(vec![asc("id").into()]).build()?),
//! ]);
//! assert_eq!(numbers.select(["size"]).take::<String>(4)?, ["small", "small", "small", "large"]);
//! assert_eq!(numbers.select(["before"]).take::<Option<i64>>(3)?, [None, Some(0), Some(1)]);
//! # Ok(())
//! # }
//! ```

mod udf;

use std::fmt;

pub use arrow::datatypes::DataType;
pub use datafusion::logical_expr::{Expr, ExprFunctionExt, case, cast, lit, try_cast, when};
pub use udf::Udf;

/// Functions of a row: mathematics, text, dates, regular expressions, hashes.
pub mod functions {
    pub use datafusion::functions::expr_fn::*;
}

/// The engine's functions of many rows, beyond those of [`agg`](crate::agg): an expression of one is an [`Aggregate`](crate::Aggregate), too.
pub mod aggregates {
    pub use datafusion::functions_aggregate::expr_fn::*;
}

/// Functions of a row and its neighbours; [`ExprFunctionExt`] says which those are: `.partition_by(..)`,
/// `.order_by(..)`, `.window_frame(..)`, and at the end `.build()`.
pub mod window {
    use datafusion::logical_expr::Expr;
    use datafusion::logical_expr::expr::WindowFunction;
    use datafusion::scalar::ScalarValue;

    pub use datafusion::functions_window::expr_fn::*;
    pub use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};

    /// An aggregate, such as `aggregates::sum(col("x"))`, of the rows around each row instead of a group's: of all rows of the partition, or where they have an
    /// order of those up to this one and its equals, unless `.window_frame(..)` says otherwise. Its `.filter(..)` and `.distinct()` come after this. Other
    /// expressions stay what they are.
    pub fn over(aggregate: Expr) -> Expr {
        match aggregate {
            Expr::AggregateFunction(aggregate) => {
                WindowFunction::new(aggregate.func, aggregate.params.args).into()
            }
            other => other,
        }
    }

    /// The rows from so many before a row to so many after it; without a number, all of them. `rows(None, Some(0))` is all up to this one.
    pub fn rows(before: Option<u64>, after: Option<u64>) -> WindowFrame {
        let bound = |rows, side: fn(ScalarValue) -> WindowFrameBound| match rows {
            Some(0) => WindowFrameBound::CurrentRow,
            rows => side(ScalarValue::UInt64(rows)),
        };
        let (before, after) =
            (bound(before, WindowFrameBound::Preceding), bound(after, WindowFrameBound::Following));
        WindowFrame::new_bounds(WindowFrameUnits::Rows, before, after)
    }
}

/// The column `name` in an expression: exactly that name, dots and capitals included.
pub fn col(name: &str) -> Expr {
    datafusion::prelude::ident(name)
}

/// A column by its name, or an expression.
pub trait IntoExpr {
    /// The expression.
    fn into_expr(self) -> Expr;
}

impl IntoExpr for Expr {
    fn into_expr(self) -> Expr {
        self
    }
}

impl IntoExpr for &Expr {
    fn into_expr(self) -> Expr {
        self.clone()
    }
}

impl IntoExpr for &str {
    fn into_expr(self) -> Expr {
        col(self)
    }
}

impl IntoExpr for &&str {
    fn into_expr(self) -> Expr {
        col(self)
    }
}

impl IntoExpr for String {
    fn into_expr(self) -> Expr {
        col(&self)
    }
}

impl IntoExpr for &String {
    fn into_expr(self) -> Expr {
        col(self)
    }
}

/// What to sort by: an expression, its direction, and where its nulls go. A name alone is that column, ascending.
///
/// Numbers are ordered by value with NaN after all others, text by its bytes, `false` before `true`. Nulls come last in
/// either direction unless [`nulls_first`](Self::nulls_first) is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    /// What is compared.
    pub expr: Expr,
    /// Whether large values come first.
    pub descending: bool,
    /// Whether nulls come before all values.
    pub nulls_first: bool,
}

impl SortKey {
    /// Nulls before all values.
    pub fn nulls_first(self) -> Self {
        Self { nulls_first: true, ..self }
    }

    /// Nulls after all values, which is so anyway.
    pub fn nulls_last(self) -> Self {
        Self { nulls_first: false, ..self }
    }
}

/// Small values first.
pub fn asc(key: impl IntoExpr) -> SortKey {
    SortKey { expr: key.into_expr(), descending: false, nulls_first: false }
}

/// Large values first.
pub fn desc(key: impl IntoExpr) -> SortKey {
    SortKey { expr: key.into_expr(), descending: true, nulls_first: false }
}

impl<E: IntoExpr> From<E> for SortKey {
    fn from(key: E) -> Self {
        asc(key)
    }
}

impl From<SortKey> for datafusion::logical_expr::SortExpr {
    fn from(key: SortKey) -> Self {
        key.expr.sort(!key.descending, key.nulls_first)
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expr, if self.descending { "desc" } else { "asc" })
    }
}
