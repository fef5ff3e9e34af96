//! [`Sql`]: texts of SQL to expressions, sort keys, aggregates, types and queries.

use std::cell::Cell;
use std::collections::BTreeMap;

use air_core::BoxError;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::utils::{find_aggregate_exprs, find_window_exprs};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::{Refused, plain, plain_sql};
use super::written::Param;
use crate::error::nearest;
use crate::expr::{DataType, Expr, SortKey, asc, col};
use crate::{Aggregate, DataError, Dataset, Session};

/// No text is longer.
const MAX_BYTES: usize = 64 << 10;
/// No pipeline has more operators, brackets and key words in its texts: the engine follows them, which may lie in each other, with nested calls.
const MAX_OPERATORS: usize = 1000;
/// As many characters of a text are shown in a message.
const SHOWN: usize = 120;

/// What reads texts of SQL, with the parameters that they may name.
pub(super) struct Sql {
    session: Session,
    state: SessionState,
    params: BTreeMap<String, ScalarValue>,
    /// In the texts so far.
    operators: Cell<usize>,
}

impl Sql {
    pub(super) fn new(session: &Session, params: BTreeMap<String, Param>) -> Self {
        let params = params.into_iter().map(|(name, Param(value))| (name, value)).collect();
        Self { session: session.clone(), state: session.context().state(), params, operators: Cell::new(0) }
    }

    /// Checks types, and rewrites nothing that stays.
    pub(super) fn check(&self, dataset: &Dataset) -> Result<(), BoxError> {
        let plan = dataset.logical_plan().map_err(plain)?.clone();
        let checked = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| ());
        checked.map(|_| ()).map_err(|error| plain(error.into()))
    }

    /// Gives a dataset a name in queries.
    pub(super) fn name(&self, name: &str, dataset: &Dataset) -> Result<(), BoxError> {
        Ok(self.session.register(name, dataset)?)
    }

    /// A value of each row: `b + 1`. A column's name is that column, whatever is in it.
    pub(super) fn value(&self, schema: &DFSchema, text: &str) -> Result<Expr, BoxError> {
        let expr = self.parse(schema, text)?;
        refuse_aggregates(text, &expr)?;
        Ok(expr)
    }

    /// [`value`](Self::value) by a name: the one after `as`, or else the text itself.
    pub(super) fn named(&self, schema: &DFSchema, text: &str) -> Result<Expr, BoxError> {
        Ok(match self.value(schema, text)? {
            named @ (Expr::Column(_) | Expr::Alias(_)) => named,
            unnamed => unnamed.alias(text.trim()),
        })
    }

    /// A condition: a value that is true or false, of this row alone.
    pub(super) fn condition(&self, schema: &DFSchema, text: &str) -> Result<Expr, BoxError> {
        let expr = self.value(schema, text)?.unalias();
        refuse_windows(text, &expr)?;
        Ok(expr)
    }

    /// A key to sort by: `a desc nulls first`.
    pub(super) fn sort_key(&self, schema: &DFSchema, text: &str) -> Result<SortKey, BoxError> {
        let (value, descending, nulls_first) =
            if is_column(schema, text) { (text, false, false) } else { direction(text) };
        let expr = self.value(schema, value)?.unalias();
        refuse_windows(text, &expr)?;
        Ok(SortKey { descending, nulls_first, ..asc(expr) })
    }

    /// An aggregate: `sum(x) as s`.
    pub(super) fn aggregate(&self, schema: &DFSchema, text: &str) -> Result<Aggregate, BoxError> {
        let expr = self.parse(schema, text)?;
        let name = if let Expr::Alias(alias) = &expr { alias.name.clone() } else { text.trim().to_owned() };
        match expr.unalias_nested().data {
            aggregate @ Expr::AggregateFunction(_) => Ok(Aggregate::from(aggregate).alias(name)),
            _ => Err(refused(text, "it is no aggregate, such as sum(x) as s or count(*) as n")),
        }
    }

    /// A query.
    pub(super) fn query(&self, text: &str) -> Result<Dataset, BoxError> {
        self.admit(text)?;
        let dataset = self.session.sql(text).map_err(|error| plain_sql(error, text))?;
        let plan = dataset.logical_plan().map_err(plain)?.clone();
        let mut named: Vec<String> = plan.get_parameter_names().map_err(engine)?.into_iter().collect();
        if named.is_empty() {
            return Ok(dataset);
        }
        named.sort();
        let values: Vec<(String, ScalarValue)> = named
            .iter()
            .map(|id| Ok((id.trim_start_matches('$').to_owned(), self.param(id)?)))
            .collect::<Result<_, Refused>>()?;
        Ok(Dataset::new(self.session.clone(), plan.with_param_values(values).map_err(engine)?))
    }

    /// A column of a file: its name, in double quotes where it has spaces, and its type.
    pub(super) fn column(&self, text: &str) -> Result<(String, DataType), BoxError> {
        let bad =
            || refused(text, "a column is its name and its SQL type, such as id bigint or \"my id\" bigint");
        let text = text.trim();
        let (name, kind) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"'),
            None => text.split_once(char::is_whitespace),
        }
        .filter(|(name, kind)| !name.is_empty() && !kind.trim().is_empty())
        .ok_or_else(bad)?;
        let cast = self.parse(&DFSchema::empty(), &format!("cast(null as {kind})")).map_err(|_| bad())?;
        match cast {
            Expr::Cast(Cast { field, .. }) => Ok((name.to_owned(), field.data_type().clone())),
            _ => Err(bad()),
        }
    }

    fn parse(&self, schema: &DFSchema, text: &str) -> Result<Expr, BoxError> {
        if is_column(schema, text) {
            return Ok(col(text));
        }
        self.admit(text)?;
        let expr = self.state.create_logical_expr(text, schema);
        let expr = expr.map_err(|error| refused(text, &plain_sql(error.into(), text).to_string()))?;
        let mut unknown = None;
        let expr = expr.transform_up(|expr| match expr {
            Expr::Placeholder(Placeholder { id, field }) => Ok(match self.param(&id) {
                Ok(value) => Transformed::yes(Expr::Literal(value, None)),
                Err(error) => {
                    unknown = unknown.take().or(Some(error));
                    Transformed::no(Expr::Placeholder(Placeholder { id, field }))
                }
            }),
            other => Ok(Transformed::no(other)),
        });
        match unknown {
            Some(error) => Err(refused(text, &error.to_string())),
            None => Ok(expr.map_err(engine)?.data),
        }
    }

    /// Takes a text in, if it leaves the pipeline within its limits.
    fn admit(&self, text: &str) -> Result<(), Refused> {
        if text.len() > MAX_BYTES {
            return Err(Refused(format!("a text of {} bytes; at most {MAX_BYTES}", text.len())));
        }
        self.operators.set(self.operators.get() + operators(text));
        match self.operators.get() {
            count if count <= MAX_OPERATORS => Ok(()),
            count => Err(Refused(format!(
                "with this text the pipeline has {count} operators, brackets and key words of SQL; at most {MAX_OPERATORS}: \
                 put long lists of values into a table and join it"
            ))),
        }
    }

    /// The parameter `$name`.
    fn param(&self, id: &str) -> Result<ScalarValue, Refused> {
        let name = id.trim_start_matches('$');
        self.params.get(name).cloned().ok_or_else(|| {
            let known: Vec<String> = self.params.keys().cloned().collect();
            let hint = nearest(name, &known).map_or_else(
                || format!("give it in [params], or with --set params.{name}=..."),
                |known| format!("did you mean ${known}?"),
            );
            Refused(format!("no parameter {id}; {hint}"))
        })
    }
}

fn engine(error: datafusion::common::DataFusionError) -> BoxError {
    plain(DataError::from(error))
}

fn refused(text: &str, reason: &str) -> BoxError {
    let (text, long) = (text.trim(), text.trim().chars().count() > SHOWN);
    let shown: String = text.chars().take(SHOWN).collect();
    Refused(format!("in `{shown}{}`: {reason}", if long { "…" } else { "" })).into()
}

/// How many operators, brackets and key words a text has, which is more than how deep anything lies in it.
fn operators(text: &str) -> usize {
    // What is no text of SQL is refused by the parser.
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let nests = |token: &&Token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::Whitespace(_) => false,
        _ => true,
    };
    tokens.iter().filter(nests).count()
}

fn is_column(schema: &DFSchema, text: &str) -> bool {
    schema.fields().iter().any(|field| field.name() == text)
}

fn refuse_aggregates(text: &str, expr: &Expr) -> Result<(), BoxError> {
    if find_aggregate_exprs([expr]).is_empty() {
        return Ok(());
    }
    Err(refused(text, "aggregates belong in a group_by, or over a window: sum(x) over (...)"))
}

fn refuse_windows(text: &str, expr: &Expr) -> Result<(), BoxError> {
    if find_window_exprs([expr]).is_empty() {
        return Ok(());
    }
    Err(refused(text, "a function over a window; make it a column in a `with` step before"))
}

/// A sort key's value, whether it is descending, and whether nulls come first.
fn direction(text: &str) -> (&str, bool, bool) {
    let text = text.trim();
    let (rest, nulls_first) = match (ending(text, "first"), ending(text, "last")) {
        (Some(before), _) => (ending(before, "nulls"), true),
        (_, Some(before)) => (ending(before, "nulls"), false),
        _ => (None, false),
    };
    let (text, nulls_first) = rest.map_or((text, false), |rest| (rest, nulls_first));
    match (ending(text, "desc"), ending(text, "asc")) {
        (Some(value), _) => (value, true, nulls_first),
        (_, Some(value)) => (value, false, nulls_first),
        _ => (text, false, nulls_first),
    }
}

/// What is before the last word, if that is `word`.
fn ending<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(word.len())?;
    let (before, last) = (text.get(..at)?, text.get(at..)?);
    let stands_alone = last.eq_ignore_ascii_case(word) && before.ends_with(char::is_whitespace);
    stands_alone.then(|| before.trim_end()).filter(|before| !before.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_no_operators() {
        assert_eq!(operators("a in (1, 2, 'x', 4.5)"), 3);
        assert_eq!(operators("1 + 1 + 1"), 2);
        assert_eq!(operators("select \"a.b\", c from t where not c"), 4);
        assert_eq!(operators("'not closed"), 0);
    }

    #[test]
    fn a_sort_key_ends_in_its_direction() {
        assert_eq!(direction("a"), ("a", false, false));
        assert_eq!(direction(" a  DESC "), ("a", true, false));
        assert_eq!(direction("a + 1 asc nulls first"), ("a + 1", false, true));
        assert_eq!(direction("a desc\tNulls Last"), ("a", true, false));
        assert_eq!(direction("a nulls first"), ("a", false, true));
        // Names, not directions.
        assert_eq!(direction("desc"), ("desc", false, false));
        assert_eq!(direction("cross_asc"), ("cross_asc", false, false));
        assert_eq!(direction("at last"), ("at last", false, false));
        assert_eq!(direction("größe desc"), ("größe", true, false));
    }
}
