//! Joins: rows of two datasets that go together by keys.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType};
use datafusion::functions::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::columns::known;
use crate::error::{DataError, Result};

/// Which rows a join has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinKind {
    /// The pairs of rows with equal keys.
    #[default]
    Inner,
    /// Those, and the left rows without a partner, with nulls for the right one's columns.
    Left,
    /// Those, and the right rows without a partner, with nulls for the left one's columns.
    Right,
    /// Those, and all rows without a partner.
    Full,
    /// The left rows that have a partner, once each, without its columns.
    LeftSemi,
    /// The right rows that have a partner, once each, without its columns.
    RightSemi,
    /// The left rows that have no partner.
    LeftAnti,
    /// The right rows that have no partner.
    RightAnti,
}

/// How two datasets are joined: `Join::left(["id"])`, `Join::inner([("id", "user_id")]).suffixes("", "_user")`.
///
/// A null is equal to nothing, not even to a null. The order of the result's rows is not promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Which rows there are.
    pub kind: JoinKind,
    /// The columns that must be equal: each a left and a right one. At least one pair.
    pub on: Vec<(String, String)>,
    /// Put after the names of left columns that a right one has, too; keys aside, which become one column.
    #[serde(default)]
    pub left_suffix: String,
    /// Put after the names of right columns that a left one has, too.
    #[serde(default = "right_suffix")]
    pub right_suffix: String,
}

fn right_suffix() -> String {
    "_right".to_owned()
}

/// A key of a join: one name for both sides, or a left and a right one.
pub trait IntoJoinKey {
    /// The left and the right name.
    fn into_pair(self) -> (String, String);
}

impl IntoJoinKey for &str {
    fn into_pair(self) -> (String, String) {
        (self.to_owned(), self.to_owned())
    }
}

impl IntoJoinKey for String {
    fn into_pair(self) -> (String, String) {
        (self.clone(), self)
    }
}

impl<L: Into<String>, R: Into<String>> IntoJoinKey for (L, R) {
    fn into_pair(self) -> (String, String) {
        (self.0.into(), self.1.into())
    }
}

macro_rules! kinds {
    ($($name:ident $kind:ident $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $name<K: IntoJoinKey>(on: impl IntoIterator<Item = K>) -> Self {
            Self::new(JoinKind::$kind, on)
        }
    )*};
}

impl Join {
    /// A join of any kind.
    pub fn new<K: IntoJoinKey>(kind: JoinKind, on: impl IntoIterator<Item = K>) -> Self {
        Self {
            kind,
            on: on.into_iter().map(IntoJoinKey::into_pair).collect(),
            left_suffix: String::new(),
            right_suffix: right_suffix(),
        }
    }

    kinds! {
        inner Inner "[`JoinKind::Inner`] on these keys.";
        left Left "[`JoinKind::Left`] on these keys.";
        right Right "[`JoinKind::Right`] on these keys.";
        full Full "[`JoinKind::Full`] on these keys.";
        left_semi LeftSemi "[`JoinKind::LeftSemi`] on these keys.";
        right_semi RightSemi "[`JoinKind::RightSemi`] on these keys.";
        left_anti LeftAnti "[`JoinKind::LeftAnti`] on these keys.";
        right_anti RightAnti "[`JoinKind::RightAnti`] on these keys.";
    }

    /// What is put after names that both sides have.
    pub fn suffixes(self, left: impl Into<String>, right: impl Into<String>) -> Self {
        Self { left_suffix: left.into(), right_suffix: right.into(), ..self }
    }

    fn engine(&self) -> JoinType {
        match self.kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Left,
            JoinKind::Right => JoinType::Right,
            JoinKind::Full => JoinType::Full,
            JoinKind::LeftSemi => JoinType::LeftSemi,
            JoinKind::RightSemi => JoinType::RightSemi,
            JoinKind::LeftAnti => JoinType::LeftAnti,
            JoinKind::RightAnti => JoinType::RightAnti,
        }
    }
}

impl Dataset {
    /// Rows of this dataset (left) and of `right` that go together by keys. The columns are the left ones, a key under its left name, then the right
    /// ones without the keys; semi and anti joins have one side's columns as they are. A key of a row without a partner is the one that
    /// there is.
    ///
    /// One side is held in memory. Where the session has a memory limit and neither side is sure to be small against it, both are sorted instead,
    /// which can go to disk.
    ///
    /// [`DataError::JoinKeys`] where the types of two keys cannot be compared: integers compare with integers, floats with floats, text with text, and
    /// anything with its own type.
    pub fn join(&self, right: &Self, join: Join) -> Self {
        self.then(|left| joined(left, right.logical_plan()?.clone(), &join))
    }
}

fn joined(left: LogicalPlan, right: LogicalPlan, join: &Join) -> Result<LogicalPlan> {
    if join.on.is_empty() {
        return Err(DataError::Config { field: "on", reason: "a join needs at least one key".to_owned() });
    }
    let mut keys = (Vec::new(), Vec::new());
    for (left_name, right_name) in &join.on {
        let (l, r) = (known(&left, left_name)?, known(&right, right_name)?);
        let (left_type, right_type) =
            (left.schema().field(l).data_type(), right.schema().field(r).data_type());
        if !comparable(left_type, right_type) {
            return Err(DataError::JoinKeys {
                left: left_name.clone(),
                left_type: left_type.to_string(),
                right: right_name.clone(),
                right_type: right_type.to_string(),
            });
        }
        keys.0.push(Column::new(Some("left"), left_name));
        keys.1.push(Column::new(Some("right"), right_name));
    }
    let columns = output(&left, &right, join)?;
    let left = LogicalPlanBuilder::from(left).alias("left")?;
    let right = LogicalPlanBuilder::from(right).alias("right")?.build()?;
    Ok(left.join(right, join.engine(), keys, None)?.project(columns)?.build()?)
}

/// The columns that a join has.
fn output(left: &LogicalPlan, right: &LogicalPlan, join: &Join) -> Result<Vec<Expr>> {
    let names = |plan: &LogicalPlan| -> Vec<String> {
        plan.schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    let of = |side: &str, name: &str| Expr::Column(Column::new(Some(side), name));
    let (left, right) = (names(left), names(right));
    match join.kind {
        JoinKind::LeftSemi | JoinKind::LeftAnti => {
            return Ok(left.iter().map(|name| of("left", name).alias(name)).collect());
        }
        JoinKind::RightSemi | JoinKind::RightAnti => {
            return Ok(right.iter().map(|name| of("right", name).alias(name)).collect());
        }
        JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => {}
    }
    let right: Vec<String> =
        right.into_iter().filter(|name| join.on.iter().all(|(_, key)| key != name)).collect();
    let mut columns = Vec::with_capacity(left.len() + right.len());
    for name in &left {
        let value = match join.on.iter().find(|(key, _)| key == name) {
            Some((key, partner)) => {
                let value = match join.kind {
                    JoinKind::Right => of("right", partner),
                    JoinKind::Full => coalesce(vec![of("left", key), of("right", partner)]),
                    _ => of("left", key),
                };
                value.alias(key)
            }
            None if right.contains(name) => of("left", name).alias(format!("{name}{}", join.left_suffix)),
            None => of("left", name).alias(name),
        };
        columns.push(value);
    }
    columns.extend(right.iter().map(|name| {
        let taken = left.contains(name);
        let suffix = if taken { &join.right_suffix[..] } else { "" };
        of("right", name).alias(format!("{name}{suffix}"))
    }));
    let mut seen = HashSet::new();
    for column in &columns {
        let name = column.qualified_name().1;
        if !seen.insert(name.clone()) {
            return Err(DataError::DuplicateColumn {
                column: name,
                path: "the join; give it other suffixes".to_owned(),
            });
        }
    }
    Ok(columns)
}

/// Whether values of two types can be told to be equal without losing any.
fn comparable(left: &DataType, right: &DataType) -> bool {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    left == right
        || left.is_integer() && right.is_integer()
        || left.is_floating() && right.is_floating()
        || text(left) && text(right)
}
