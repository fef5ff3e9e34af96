//! The results by column, each of one type: what tables of text, CSV and Arrow are made of.

use std::collections::HashSet;

use serde_json::Value;

use super::{ResultGrid, TrialResult};

/// The value of one trial in one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    /// A whole number.
    Whole(i64),
    /// A number, also one that is not finite.
    Number(f64),
    /// A time in seconds.
    Seconds(f64),
    /// True or false.
    Truth(bool),
    /// Text; what has no type of its own as JSON.
    Text(String),
}

impl Field {
    /// A parameter's value.
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(truth) => Self::Truth(*truth),
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Whole(whole),
                (None, Some(number)) => Self::Number(number),
                (None, None) => Self::Text(number.to_string()),
            },
            other => Self::Text(other.to_string()),
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            // As JSON writes it: 1.0 stays a number with a point.
            Self::Number(number) if number.is_finite() => write!(f, "{}", Value::from(*number)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Seconds(seconds) => write!(f, "{seconds:.3}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One column: a name that no other has, and a field a trial where the trial has one.
pub(super) struct Column {
    pub name: String,
    pub fields: Vec<Option<Field>>,
    /// Whether it holds numbers even where no trial has one.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "text has no types"))]
    pub numbers: bool,
}

/// What stands before the parameters.
const FIRST: [&str; 4] = ["trial", "status", "iterations", "seconds"];
/// What stands after all that was reported.
pub(super) const LAST: [&str; 3] = ["attempts", "stop", "cause"];

/// The results by column: [`FIRST`], the parameters by their paths, the metric and whatever else was reported, [`LAST`]. A parameter
/// that is called as another column is `config/NAME`, a reported number that is called as one of ours `metrics/NAME`.
pub(super) fn columns(grid: &ResultGrid) -> Vec<Column> {
    let mut params = Names::default();
    let mut metrics = Names::default();
    metrics.see(grid.metric());
    for trial in grid {
        trial.config.paths().iter().for_each(|(path, _)| params.see(path));
        trial.metrics.iter().for_each(|(name, _)| metrics.see(name));
    }
    let mut taken: HashSet<String> = FIRST.iter().chain(&LAST).map(|name| (*name).to_owned()).collect();
    let mut free = |prefix: &str, name: &str| {
        let mut name = name.to_owned();
        while !taken.insert(name.clone()) {
            name.insert_str(0, prefix);
        }
        name
    };
    let metric_names: Vec<String> = metrics.0.iter().map(|name| free("metrics/", name)).collect();
    let param_names: Vec<String> = params.0.iter().map(|name| free("config/", name)).collect();

    let column = |name: String, field: &dyn Fn(&TrialResult) -> Option<Field>| Column {
        name,
        fields: grid.iter().map(field).collect(),
        numbers: false,
    };
    let mut columns = vec![
        column(FIRST[0].to_owned(), &|trial| Some(whole(trial.trial))),
        column(FIRST[1].to_owned(), &|trial| Some(Field::Text(trial.status.to_string()))),
        column(FIRST[2].to_owned(), &|trial| Some(whole(trial.iterations))),
        column(FIRST[3].to_owned(), &|trial| Some(Field::Seconds(trial.seconds))),
    ];
    for (path, name) in params.0.iter().zip(param_names) {
        columns.push(column(name, &|trial| trial.config.get(path).map(Field::of)));
    }
    for (metric, name) in metrics.0.iter().zip(metric_names) {
        let reported = column(name, &|trial| {
            let value = if metric == grid.metric() { trial.value } else { trial.metrics.get(metric) };
            value.map(Field::Number)
        });
        columns.push(Column { numbers: true, ..reported });
    }
    columns.push(column(LAST[0].to_owned(), &|trial| Some(Field::Whole(i64::from(trial.attempts)))));
    columns.push(column(LAST[1].to_owned(), &|trial| trial.stop.map(|stop| Field::Text(stop.to_string()))));
    columns.push(column(LAST[2].to_owned(), &|trial| {
        trial.cause.as_ref().map(|cause| Field::Text(cause.to_string()))
    }));
    columns
}

fn whole(count: u64) -> Field {
    Field::Whole(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Names in the order they were first seen.
#[derive(Default)]
struct Names(Vec<String>, HashSet<String>);

impl Names {
    fn see(&mut self, name: &str) {
        if self.1.insert(name.to_owned()) {
            self.0.push(name.to_owned());
        }
    }
}
