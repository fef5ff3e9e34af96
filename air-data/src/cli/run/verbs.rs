//! From a step to the verb of [`Dataset`].

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use air_core::BoxError;

use super::error::Refused;
use super::plan::INPUT;
use super::sql::Sql;
use super::step::{GroupBy, JoinWith, Step};
use crate::error::nearest;
use crate::preprocess::Fitted;
use crate::{Dataset, Join};

/// No file of a preprocessor is larger.
const MAX_PREPROCESSOR_BYTES: u64 = 64 << 20;

/// What steps are planned with.
pub(super) struct Place<'a> {
    pub(super) sql: &'a Sql,
    /// What joins may name.
    pub(super) tables: &'a BTreeMap<String, Dataset>,
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
}

impl Place<'_> {
    /// A dataset with a step on top.
    pub(super) fn apply(&self, step: &Step, input: &Dataset) -> Result<Dataset, BoxError> {
        let sql = self.sql;
        let schema = input.logical_plan()?.schema();
        let made = match step {
            Step::Filter(text) => input.filter_expr(sql.condition(schema, text)?),
            Step::Select(texts) => {
                let columns = texts.iter().map(|text| sql.named(schema, text));
                input.select(some("columns", columns.collect::<Result<Vec<_>, _>>()?)?)
            }
            Step::With(columns) => {
                let columns =
                    columns.iter().map(|(name, text)| Ok((name.clone(), sql.value(schema, text)?.unalias())));
                input.with_columns(some("columns", columns.collect::<Result<Vec<_>, BoxError>>()?)?)
            }
            Step::Drop(names) => input.drop_columns(names),
            Step::Rename(names) => input.rename_columns(names.iter().map(|(old, new)| (old, new.as_str()))),
            Step::Sql(query) => {
                sql.name(INPUT, input)?;
                sql.query(query)?
            }
            Step::Sort(keys) => {
                let keys = keys.iter().map(|text| sql.sort_key(schema, text));
                input.sort(keys.collect::<Result<Vec<_>, _>>()?)
            }
            Step::Limit(rows) => input.limit(*rows),
            Step::Distinct => input.distinct(),
            Step::Sample(sample) => input.random_sample(sample.fraction, sample.seed),
            Step::Shuffle(shuffle) => input.random_shuffle(shuffle.seed),
            Step::Repartition(blocks) => input.repartition(*blocks),
            Step::GroupBy(GroupBy { keys, aggregates }) => {
                let aggregates = aggregates.iter().map(|text| sql.aggregate(schema, text));
                let aggregates = aggregates.collect::<Result<Vec<_>, _>>()?;
                if keys.is_empty() {
                    input.aggregate(aggregates)
                } else {
                    input.group_by(keys).aggregate(aggregates)
                }
            }
            Step::Join(join) => input.join(self.table(&join.table)?, joined(join)),
            Step::Preprocess(path) => self.fitted(path)?.transform(input),
        };
        sql.check(&made)?;
        Ok(made)
    }

    fn table(&self, name: &str) -> Result<&Dataset, Refused> {
        self.tables.get(name).ok_or_else(|| {
            let known: Vec<String> = self.tables.keys().cloned().collect();
            let hint = match (nearest(name, &known), known.is_empty()) {
                (Some(nearest), _) => format!("did you mean `{nearest}`?"),
                (None, true) => format!("there is none; describe it as [tables.{name}]"),
                (None, false) => format!("the tables are {}", known.join(", ")),
            };
            Refused(format!("no table `{name}`; {hint}"))
        })
    }

    fn fitted(&self, path: &str) -> Result<Fitted, BoxError> {
        let path = self.folder.join(path);
        let mut text = String::new();
        let file = std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_PREPROCESSOR_BYTES + 1).read_to_string(&mut text));
        let name = path.display();
        file.map_err(|error| Refused(format!("cannot read {name}: {error}")))?;
        if text.len() as u64 > MAX_PREPROCESSOR_BYTES {
            return Err(Refused(format!("{name} is larger than {MAX_PREPROCESSOR_BYTES} bytes")).into());
        }
        let fitted = Fitted::from_json(&text);
        Ok(fitted.map_err(|error| Refused(format!("{name} is no saved preprocessor: {error}")))?)
    }
}

fn joined(join: &JoinWith) -> Join {
    let made = Join::new(join.how, join.on.iter().map(|key| (key.0.clone(), key.1.clone())));
    let right = join.right_suffix.clone().unwrap_or_else(|| made.right_suffix.clone());
    made.suffixes(&join.left_suffix, right)
}

fn some<T>(what: &str, list: Vec<T>) -> Result<Vec<T>, Refused> {
    if list.is_empty() { Err(Refused(format!("it needs some {what}"))) } else { Ok(list) }
}
