//! [`RunError`]: which file, which step, which verb, and why.

use air_core::config::Origin;
use air_core::{BoxError, CoreError};
use datafusion::common::DataFusionError;

use crate::DataError;

/// Why a pipeline cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The file is not there, or no TOML; or a `--set` is none.
    #[error(transparent)]
    Config(CoreError),
    /// A key or value that no pipeline has.
    #[error("{origin}: {message}")]
    Written {
        /// The file and line, or the flag.
        origin: String,
        /// The step and verb, what is wrong, and what was probably meant.
        message: String,
    },
    /// A table of the file cannot be planned.
    #[error("{file}: [{table}]: {source}")]
    Table { file: String, table: String, source: BoxError },
    /// A step cannot be planned.
    #[error("{file}: step {number} ({verb}): {source}")]
    Step { file: String, number: usize, verb: &'static str, source: BoxError },
    /// The steps cannot be run after each other.
    #[error("{file}: {source}")]
    Whole { file: String, source: BoxError },
}

/// What a text of SQL or a verb is refused for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

impl RunError {
    /// A key of the configuration that is wrong, `step[1].sample.seeds` as a step and its verb.
    pub(super) fn written(origin: &Origin, key: &str, message: &str, suggestion: Option<&str>) -> Self {
        let hint = suggestion.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        let message = match step_of(key) {
            None => message.to_owned(),
            Some((number, rest)) => {
                let plain = message.strip_prefix(&format!("`{key}`: ")).unwrap_or(message);
                let verb = rest.split(['.', '[']).next().unwrap_or_default();
                match plain.strip_prefix("unknown field ") {
                    Some(unknown) if rest == verb => format!("step {number}: unknown verb {unknown}"),
                    _ if verb.is_empty() => format!("step {number}: {plain}"),
                    _ => format!("step {number} ({verb}): {plain}"),
                }
            }
        };
        Self::Written { origin: origin.to_string(), message: message + &hint }
    }
}

/// The number of the step that a key lies in, from 1, and the rest of the key.
fn step_of(key: &str) -> Option<(usize, &str)> {
    let (index, rest) = key.strip_prefix("step[")?.split_once(']')?;
    Some((index.parse::<usize>().ok()? + 1, rest.trim_start_matches('.')))
}

/// An error of the engine as a user needs it: the cause, in plain words.
pub(super) fn plain(error: DataError) -> BoxError {
    match error.root() {
        DataError::Engine(engine) => Refused(engine_text(engine)).into(),
        _ => error.into(),
    }
}

/// [`plain`] of a text of SQL, which may have a column's name without the quotes that it needs.
pub(super) fn plain_sql(error: DataError, text: &str) -> BoxError {
    if let DataError::UnknownColumn { column, known, .. } = error.root()
        && let Some(name) = unquoted(text, column, known)
    {
        return Refused(format!("{error}; in SQL that column is written \"{name}\", in double quotes"))
            .into();
    }
    plain(error)
}

/// The column that stands in `text` without quotes, where the engine read `column`: it takes capitals for small letters, and what is before a
/// dot for a table.
fn unquoted<'a>(text: &str, column: &str, known: &'a [String]) -> Option<&'a String> {
    let text = text.to_lowercase();
    known.iter().find(|name| {
        let written = name.to_lowercase();
        *name != column
            && (written == column || written.ends_with(&format!(".{column}")))
            && text.contains(&written)
    })
}

/// The cause at the bottom, on one line.
fn engine_text(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::SQL(error, _) => error.to_string(),
        DataFusionError::Collection(errors) => return errors.first().map(engine_text).unwrap_or_default(),
        root => root.message().into_owned(),
    };
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    // Before it stands what each signature says, and after it there is a list of them all.
    let text = text.find("No function matches").map_or(text, |at| text[at..].lines().next().unwrap_or(text));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Names of the engine's own.
    lines.join(" ").replace("?table?.", "").replace("datafusion.public.", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_step_is_told_by_number_and_verb() {
        let told = |key: &str, message: &str| {
            RunError::written(&Origin::Flag("x".to_owned()), key, message, Some("seed")).to_string()
        };
        assert_eq!(
            told("step[1].sample.seeds", "`step[1].sample.seeds`: unknown field `seeds`, expected `seed`"),
            "--set x: step 2 (sample): unknown field `seeds`, expected `seed`; did you mean `seed`?"
        );
        assert_eq!(
            told("step[0].seede", "`step[0].seede`: unknown field `seede`, expected one of `a`, `seed`"),
            "--set x: step 1: unknown verb `seede`, expected one of `a`, `seed`; did you mean `seed`?"
        );
        assert!(told("step[9]", "`step[9]`: it has no verb").starts_with("--set x: step 10: it has no verb"));
        assert!(told("rad", "unknown field `rad`").starts_with("--set x: unknown field `rad`"));
    }

    #[test]
    fn a_column_that_needs_quotes_is_recognised() {
        let known = ["sepal.length", "petal.length", "Origin"].map(str::to_owned);
        let told = |text: &str, column: &str| unquoted(text, column, &known).map(String::as_str);
        assert_eq!(told("petal.length > 1", "length"), Some("petal.length"));
        assert_eq!(told("Origin = 'x'", "origin"), Some("Origin"));
        assert_eq!((told("length > 1", "length"), told("petal > 1", "petal")), (None, None));
    }
}
