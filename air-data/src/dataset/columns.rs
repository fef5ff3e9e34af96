//! What can be done to columns.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::logical_expr::utils::find_window_exprs;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::Dataset;
use crate::error::{DataError, Result};
use crate::expr::IntoExpr;

impl Dataset {
    /// The columns named, or expressions over them, in that order: `select(["a", "b"])`, `select([col("a") + lit(1)])`.
    /// An expression's column is called as the expression reads; `.alias("name")` gives it a name.
    pub fn select<E: IntoExpr>(&self, columns: impl IntoIterator<Item = E>) -> Self {
        self.then(|plan| {
            project("select", plan, columns.into_iter().map(IntoExpr::into_expr).collect::<Vec<_>>())
        })
    }

    /// The columns named, for a verb that needs no others: its run is this dataset's.
    pub(crate) fn narrowed<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.within(|plan| {
            project("select", plan, columns.into_iter().map(IntoExpr::into_expr).collect::<Vec<_>>())
        })
    }

    /// All columns but those named.
    pub fn drop_columns<C: AsRef<str>>(&self, columns: impl IntoIterator<Item = C>) -> Self {
        self.then(|plan| {
            let mut kept: Vec<Column> = plan.schema().columns();
            for name in columns {
                known(&plan, name.as_ref())?;
                kept.retain(|column| column.name != name.as_ref());
            }
            Ok(LogicalPlanBuilder::from(plan).project(kept.into_iter().map(Expr::Column))?.build()?)
        })
    }

    /// Columns under other names, in their places: `rename_columns([("old", "new")])`. All renames happen at once, so two names can be
    /// exchanged.
    pub fn rename_columns<Old: AsRef<str>, New: Into<String>>(
        &self,
        names: impl IntoIterator<Item = (Old, New)>,
    ) -> Self {
        self.then(|plan| {
            let columns = plan.schema().columns();
            let mut renamed: Vec<Option<String>> = vec![None; columns.len()];
            for (old, new) in names {
                let index = known(&plan, old.as_ref())?;
                renamed[index] = Some(new.into());
            }
            let columns = columns.into_iter().zip(renamed).map(|(column, new)| {
                let name = new.unwrap_or_else(|| column.name.clone());
                if name == column.name { Expr::Column(column) } else { Expr::Column(column).alias(name) }
            });
            project("rename_columns", plan, columns.collect())
        })
    }

    /// A column computed from the others, in the place of one of that name or after the last.
    pub fn with_column(&self, name: &str, value: Expr) -> Self {
        self.with_columns([(name, value)])
    }

    /// Several columns computed at once: each sees the columns as they were, not the others' results.
    pub fn with_columns<N: Into<String>>(&self, columns: impl IntoIterator<Item = (N, Expr)>) -> Self {
        self.then(|plan| {
            let mut new: Vec<(String, Option<Expr>)> =
                columns.into_iter().map(|(name, value)| (name.into(), Some(value))).collect();
            let mut all = Vec::new();
            for column in plan.schema().columns() {
                let value =
                    new.iter_mut().find(|(name, _)| *name == column.name).and_then(|(_, value)| value.take());
                all.push(match value {
                    Some(value) => value.alias(&column.name),
                    None => Expr::Column(column),
                });
            }
            all.extend(new.into_iter().filter_map(|(name, value)| Some(value?.alias(name))));
            project("with_columns", plan, all)
        })
    }
}

/// The columns that `exprs` make; functions over a window are computed before.
pub(super) fn project(op: &str, plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    let mut seen = HashSet::new();
    for expr in &exprs {
        let name = expr.qualified_name().1;
        if !seen.insert(name.clone()) {
            return Err(DataError::DuplicateColumn { column: name, path: op.to_owned() });
        }
    }
    let windows = find_window_exprs(&exprs);
    let plan = if windows.is_empty() { plan } else { LogicalPlanBuilder::window_plan(plan, windows)? };
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// Where the column `name` is.
pub(super) fn known(plan: &LogicalPlan, name: &str) -> Result<usize> {
    let columns = plan.schema().columns();
    columns.iter().position(|column| column.name == name).ok_or_else(|| {
        DataError::unknown_column(name, columns.into_iter().map(|column| column.name).collect())
    })
}

/// The column `name` of a plan.
pub(super) fn column(plan: &LogicalPlan, name: &str) -> Result<Expr> {
    let index = known(plan, name)?;
    Ok(Expr::Column(Column::from(plan.schema().qualified_field(index))))
}

/// A name that no column has.
pub(super) fn free_name(plan: &LogicalPlan, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while plan.schema().fields().iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    name
}
