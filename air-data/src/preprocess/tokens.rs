//! [`Tokenizer`]: text as its words; and the words of a column, for what counts them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::{Fitted, Preprocessor, checked, column, failed, replaced};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::lists::lists;

/// What the tokens of a text are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// Words of two and more letters, digits and underscores (of any script), in lower case: what scikit-learn's vectorizers count.
    #[default]
    Words,
    /// What white space separates.
    Whitespace,
    /// What this text separates; nothing between two of them is a token, too.
    Separated(String),
}

impl Tokens {
    /// Shows every token of a text, in order.
    pub(super) fn each(&self, text: &str, mut f: impl FnMut(&str)) {
        match self {
            Self::Words => {
                let lower = text.to_lowercase();
                let words = lower.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.filter(|word| word.chars().nth(1).is_some()).for_each(f);
            }
            Self::Whitespace => text.split_whitespace().for_each(f),
            Self::Separated(separator) if separator.is_empty() => f(text),
            Self::Separated(separator) => text.split(separator.as_str()).for_each(f),
        }
    }
}

/// Text becomes the list of its tokens. Nothing is learnt; nulls stay null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// The columns of text.
    pub columns: Vec<String>,
    /// What a token is.
    pub tokens: Tokens,
}

impl Tokenizer {
    /// For these columns of text.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, tokens: Tokens) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), tokens }
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.columns.iter().try_fold(batch.clone(), |batch, name| {
            let (index, values) = column(&batch, name)?;
            let texts = text("Tokenizer", name, values)?;
            let mut lists = ListBuilder::new(StringBuilder::new());
            for text in texts.as_string::<i32>() {
                if let Some(text) = text {
                    self.tokens.each(text, |token| lists.values().append_value(token));
                }
                lists.append(text.is_some());
            }
            replaced(&batch, index, vec![(name.clone(), Arc::new(lists.finish()) as ArrayRef)])
        })
    }
}

impl Preprocessor for Tokenizer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        checked(Fitted::Tokenized(self.clone()), dataset)
    }
}

/// A column of text as `Utf8`.
pub(super) fn text(op: &str, name: &str, column: &ArrayRef) -> Result<ArrayRef> {
    let kind = match column.data_type() {
        DataType::Dictionary(_, kind) => kind,
        kind => kind,
    };
    if !matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) {
        return Err(failed(op, name, format!("it needs text, and the values are {kind}")));
    }
    cast(column, &DataType::Utf8).map_err(|error| failed(op, name, error.to_string()))
}

/// Shows every token of every row: of text by the rule, of lists of text their entries.
pub(super) fn each(
    op: &str,
    name: &str,
    column: &ArrayRef,
    tokens: &Tokens,
    mut f: impl FnMut(usize, &str),
) -> Result<()> {
    if let Some((rows, entries)) = lists(column) {
        let entries = text(op, name, &entries)?;
        let entries = entries.as_string::<i32>();
        for (row, range) in rows.into_iter().enumerate() {
            range.filter(|at| entries.is_valid(*at)).for_each(|at| f(row, entries.value(at)));
        }
        return Ok(());
    }
    let texts = text(op, name, column)?;
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        if let Some(text) = text {
            tokens.each(text, |token| f(row, token));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(rule: &Tokens, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        rule.each(text, |token| all.push(token.to_owned()));
        all
    }

    #[test]
    fn the_rules() {
        let text = "It's a B2B_deal: über-cool, ok?  x 42";
        assert_eq!(tokens(&Tokens::Words, text), ["it", "b2b_deal", "über", "cool", "ok", "42"]);
        assert_eq!(
            tokens(&Tokens::Whitespace, text),
            ["It's", "a", "B2B_deal:", "über-cool,", "ok?", "x", "42"]
        );
        assert_eq!(tokens(&Tokens::Separated("|".into()), "a||b"), ["a", "", "b"]);
        assert_eq!(tokens(&Tokens::Separated(String::new()), "ab"), ["ab"]);
        assert_eq!(tokens(&Tokens::Words, ""), [""; 0]);
    }
}
