//! [`Step`]: exactly one verb, and what it takes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::written::Key;
use crate::JoinKind;

/// A step of a pipeline.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub(super) enum Step {
    Filter(String),
    Select(Vec<String>),
    With(BTreeMap<String, String>),
    Drop(Vec<String>),
    Rename(BTreeMap<String, String>),
    Sql(String),
    Sort(Vec<String>),
    Limit(usize),
    Distinct,
    Sample(Sample),
    Shuffle(Shuffle),
    Repartition(usize),
    GroupBy(GroupBy),
    Join(JoinWith),
    Preprocess(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) fraction: f64,
    #[serde(default)]
    pub(super) seed: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shuffle {
    #[serde(default)]
    pub(super) seed: u64,
}

/// Without keys, aggregates of the whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupBy {
    #[serde(default)]
    pub(super) keys: Vec<String>,
    pub(super) aggregates: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinWith {
    pub(super) table: String,
    pub(super) on: Vec<Key>,
    #[serde(default)]
    pub(super) how: JoinKind,
    #[serde(default)]
    pub(super) left_suffix: String,
    pub(super) right_suffix: Option<String>,
}

/// A step as it is written: the table's keys, of which one must be there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    filter: Option<String>,
    select: Option<Vec<String>>,
    with: Option<BTreeMap<String, String>>,
    drop: Option<Vec<String>>,
    rename: Option<BTreeMap<String, String>>,
    sql: Option<String>,
    sort: Option<Vec<String>>,
    limit: Option<usize>,
    distinct: Option<bool>,
    sample: Option<Sample>,
    shuffle: Option<Shuffle>,
    repartition: Option<usize>,
    group_by: Option<GroupBy>,
    join: Option<JoinWith>,
    preprocess: Option<String>,
}

const VERBS: &str = "filter, select, with, drop, rename, sql, sort, limit, distinct, sample, shuffle, repartition, group_by, join and preprocess";

impl TryFrom<Keys> for Step {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let verbs = [
            keys.filter.map(Self::Filter),
            keys.select.map(Self::Select),
            keys.with.map(Self::With),
            keys.drop.map(Self::Drop),
            keys.rename.map(Self::Rename),
            keys.sql.map(Self::Sql),
            keys.sort.map(Self::Sort),
            keys.limit.map(Self::Limit),
            match keys.distinct {
                Some(false) => return Err("distinct is true; leave the step out instead".to_owned()),
                given => given.map(|_| Self::Distinct),
            },
            keys.sample.map(Self::Sample),
            keys.shuffle.map(Self::Shuffle),
            keys.repartition.map(Self::Repartition),
            keys.group_by.map(Self::GroupBy),
            keys.join.map(Self::Join),
            keys.preprocess.map(Self::Preprocess),
        ];
        let mut given = verbs.into_iter().flatten();
        let Some(step) = given.next() else {
            return Err(format!("it has no verb; the verbs are {VERBS}"));
        };
        let more: Vec<&str> = given.map(|step| step.verb()).collect();
        if more.is_empty() {
            return Ok(step);
        }
        Err(format!(
            "it has more than one verb, {} and {}; write a [[step]] for each, in their order",
            step.verb(),
            more.join(" and ")
        ))
    }
}

impl Step {
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Filter(_) => "filter",
            Self::Select(_) => "select",
            Self::With(_) => "with",
            Self::Drop(_) => "drop",
            Self::Rename(_) => "rename",
            Self::Sql(_) => "sql",
            Self::Sort(_) => "sort",
            Self::Limit(_) => "limit",
            Self::Distinct => "distinct",
            Self::Sample(_) => "sample",
            Self::Shuffle(_) => "shuffle",
            Self::Repartition(_) => "repartition",
            Self::GroupBy(_) => "group_by",
            Self::Join(_) => "join",
            Self::Preprocess(_) => "preprocess",
        }
    }
}
