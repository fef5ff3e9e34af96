//! Text as vectors: [`CountVectorizer`], [`HashingVectorizer`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt32Type};
use serde::{Deserialize, Serialize};

use super::hash::place;
use super::normalize::Norm;
use super::tokens::{Tokens, each};
use super::vectors::{MAX_WIDTH, vectors, width};
use super::{Fitted, Preprocessor, checked, column, failed, replaced};
use crate::agg;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::expr::{asc, col, desc};

const COUNT: &str = "CountVectorizer";
const HASHING: &str = "HashingVectorizer";

/// Each column of text becomes one of vectors (`UInt32`): how often each token of the vocabulary is in it. The vocabulary is all tokens of the dataset, or the most frequent, in ascending order;
/// there are at most 4096. Columns may also hold lists of tokens. A null has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountVectorizer {
    columns: Vec<String>,
    tokens: Tokens,
    most: Option<usize>,
}

impl CountVectorizer {
    /// For these columns of text, with a vocabulary of all words.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, tokens: Tokens::default(), most: None }
    }

    /// What a token is.
    pub fn tokens(self, tokens: Tokens) -> Self {
        Self { tokens, ..self }
    }

    /// Only so many tokens of each column: those that occur most often, and of equals the smaller ones.
    pub fn max_features(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }

    fn vocabulary(&self, dataset: &Dataset, name: &str) -> Result<Vocabulary> {
        let most = self.most.map(|most| width(COUNT, name, most)).transpose()?;
        let schema = Arc::new(Schema::new(vec![Field::new("token", DataType::Utf8, false)]));
        let (rule, owned) = (self.tokens.clone(), name.to_owned());
        let found = dataset.select([col(name)]).map_batches_to(schema.clone(), move |batch| {
            let mut found = StringBuilder::new();
            each(COUNT, &owned, batch.column(0), &rule, |_, token| found.append_value(token))?;
            Ok(RecordBatch::try_new(schema.clone(), vec![Arc::new(found.finish())])?)
        });
        let counted = found.group_by(["token"]).aggregate([agg::count().alias("count")]);
        let counted = match most {
            Some(most) => counted.sort([desc("count"), asc("token")]).limit(most),
            // One more tells that there are too many.
            None => counted.limit(MAX_WIDTH + 1),
        };
        let mut tokens: Vec<String> = counted.select(["token"]).take_all()?;
        if tokens.len() > MAX_WIDTH {
            let reason = format!(
                "it has more than {MAX_WIDTH} different tokens; use max_features, or a HashingVectorizer"
            );
            return Err(failed(COUNT, name, reason));
        }
        if tokens.is_empty() {
            return Err(failed(COUNT, name, "it has no tokens to be fitted to"));
        }
        tokens.sort_unstable();
        Ok(Vocabulary { column: name.to_owned(), tokens, rule: self.tokens.clone() })
    }
}

/// The tokens of a column that are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// The column.
    pub column: String,
    /// The tokens by their places.
    pub tokens: Vec<String>,
    /// What a token is.
    pub rule: Tokens,
}

impl Preprocessor for CountVectorizer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        let columns = self.columns.iter().map(|name| self.vocabulary(dataset, name));
        Ok(Fitted::Counted { columns: columns.collect::<Result<_>>()? })
    }
}

impl Vocabulary {
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (index, texts) = column(batch, &self.column)?;
        let places: HashMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(place, token)| (token.as_str(), place)).collect();
        let (width, rows) = (self.tokens.len(), batch.num_rows());
        let mut counts = vec![0_u32; rows * width];
        each(COUNT, &self.column, texts, &self.rule, |row, token| {
            if let Some(place) = places.get(token) {
                counts[row * width + place] += 1;
            }
        })?;
        let counts = vectors::<UInt32Type>(counts, width, rows)?;
        replaced(batch, index, vec![(self.column.clone(), counts)])
    }
}

/// Each column of text becomes one of vectors of `f32` of a fixed length: how often each token is in it, at a place by its hash, about every second token counting negative. Nothing is learnt, so
/// nothing has to be kept and no token is unknown; tokens may share a place. Columns may also hold lists of tokens. A null has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashingVectorizer {
    /// The columns of text.
    pub columns: Vec<String>,
    /// Numbers in a vector, at most 4096.
    pub features: usize,
    /// What a token is.
    pub tokens: Tokens,
    /// What a vector is divided by, if it is not zeros.
    pub norm: Option<Norm>,
}

impl HashingVectorizer {
    /// For these columns of text: their words, in vectors of `features` numbers and length 1.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, features: usize) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, features, tokens: Tokens::default(), norm: Some(Norm::L2) }
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.columns.iter().try_fold(batch.clone(), |batch, name| {
            let (index, texts) = column(&batch, name)?;
            let (width, rows) = (width(HASHING, name, self.features)?, batch.num_rows());
            let mut sums = vec![0.0_f32; rows * width];
            each(HASHING, name, texts, &self.tokens, |row, token| {
                let (place, sign) = place(token, width);
                sums[row * width + place] += sign as f32;
            })?;
            if let Some(norm) = self.norm {
                for vector in sums.chunks_exact_mut(width) {
                    let length = norm.of(vector.iter().map(|x| f64::from(*x)));
                    if length > 0.0 {
                        for x in vector {
                            *x = (f64::from(*x) / length) as f32;
                        }
                    }
                }
            }
            replaced(&batch, index, vec![(name.clone(), vectors::<Float32Type>(sums, width, rows)?)])
        })
    }
}

impl Preprocessor for HashingVectorizer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        checked(Fitted::HashedText(self.clone()), dataset)
    }
}
