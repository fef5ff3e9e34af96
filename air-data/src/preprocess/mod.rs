//! Preprocessors: what is learnt from a dataset (fit) and then done to it, to another one or to a single batch (transform).
//!
//! ```
//! # fn main() -> Result<(), air_data::DataError> {
//! use air_data::preprocess::{Chain, Fitted, LabelEncoder, Preprocessor, StandardScaler};
//!
//! # let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv");
//! let (train, test) = air_data::read_csv(iris)?.train_test_split(0.2, Some(1))?;
//! let fitted = Chain::new()
//!     .then(StandardScaler::new(["petal.length", "petal.width"]))
//!     .then(LabelEncoder::new("variety"))
//!     .fit(&train)?;
//! let mean: f64 = fitted.transform(&train).mean("petal.length")?;
//! assert!(mean.abs() < 1e-9);
//! assert_eq!(fitted.transform(&test).unique::<i64>("variety")?, [0, 1, 2]);
//! // What was learnt is plain data: it can be kept, and used on a single batch where there is no engine.
//! let again = Fitted::from_json(&fitted.to_json())?;
//! let batch = test.take_batch(1)?;
//! assert_eq!(again.transform_batch(&batch)?, fitted.transform_batch(&batch)?);
//! # Ok(())
//! # }
//! ```
//!
//! Each does what scikit-learn's of the same name does, to the numbers (`tests/it/preprocess.rs`), unless its text says otherwise. Nulls and NaN are no
//! values: they are left out of a fit, and pass through a transform as they are (an imputer and encoders aside).

mod bins;
mod concat;
mod encode;
mod hash;
mod impute;
mod items;
mod minimum;
mod multi_hot;
mod normalize;
mod power;
mod scale;
mod tokens;
mod vectorize;
mod vectors;

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::lit;
use serde::{Deserialize, Serialize};

pub use bins::KBinsDiscretizer;
pub use concat::Concatenator;
pub use encode::{LabelEncoder, OneHotEncoder, OrdinalEncoder};
pub use hash::FeatureHasher;
pub use impute::{SimpleImputer, Strategy};
pub use multi_hot::MultiHotEncoder;
pub use normalize::{Norm, Normalizer};
pub use power::{PowerMethod, PowerTransformer};
pub use scale::{MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler};
pub use tokens::{Tokenizer, Tokens};
pub use vectorize::{CountVectorizer, HashingVectorizer};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::expr::{self, Expr, col};
use crate::tensors::described;

/// Rows of a column that are taken at a time while it is fitted.
const BATCH_ROWS: usize = 8192;

/// What can be fitted to a dataset.
pub trait Preprocessor {
    /// Learns from a dataset what [`Fitted::transform`] needs to know.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`]; [`DataError::Preprocess`] for columns that it cannot be fitted to; whatever goes wrong in running the
    /// dataset.
    fn fit(&self, dataset: &Dataset) -> Result<Fitted>;

    /// [`fit`](Self::fit), and the dataset transformed by it.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    fn fit_transform(&self, dataset: &Dataset) -> Result<(Fitted, Dataset)> {
        let fitted = self.fit(dataset)?;
        let transformed = fitted.transform(dataset);
        Ok((fitted, transformed))
    }
}

/// What a preprocessor has learnt: plain data, which transforms datasets and batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fitted {
    /// Of a scaler: each column less its shift, divided by its scale.
    Scaled {
        /// The columns.
        columns: Vec<scale::Scaled>,
    },
    /// Of an ordinal or a label encoder: each value becomes its place among the categories.
    Ordinal {
        /// The columns.
        columns: Vec<encode::Categories>,
    },
    /// Of a one-hot encoder: each column becomes one for each category.
    OneHot {
        /// The columns.
        columns: Vec<encode::Categories>,
    },
    /// Of an imputer: missing values are replaced.
    Imputed {
        /// The columns.
        columns: Vec<impute::Fill>,
    },
    /// Of a concatenator: columns become one of vectors.
    Concatenated(Concatenator),
    /// Of a normalizer: each row divided by its length.
    Normalized(Normalizer),
    /// Of a power transformer: each column bent by a power.
    Power {
        /// The columns.
        columns: Vec<power::Powered>,
    },
    /// Of a discretizer: each number becomes its bin.
    Binned {
        /// The columns.
        columns: Vec<bins::Bins>,
    },
    /// Of a multi-hot encoder: each list becomes a vector.
    MultiHot {
        /// The columns.
        columns: Vec<encode::Categories>,
    },
    /// Of a feature hasher: columns become one of vectors.
    Hashed(FeatureHasher),
    /// Of a tokenizer: each text becomes the list of its tokens.
    Tokenized(Tokenizer),
    /// Of a count vectorizer: each text becomes a vector.
    Counted {
        /// The columns.
        columns: Vec<vectorize::Vocabulary>,
    },
    /// Of a hashing vectorizer: each text becomes a vector.
    HashedText(HashingVectorizer),
    /// Of a chain: one after the other.
    Chain {
        /// The steps.
        steps: Vec<Fitted>,
    },
}

impl Fitted {
    /// A dataset with its columns transformed. Mistakes are told by the terminal that runs it.
    pub fn transform(&self, dataset: &Dataset) -> Dataset {
        let schema = dataset
            .schema()
            .and_then(|schema| Ok(self.transform_batch(&RecordBatch::new_empty(schema))?.schema()));
        let this = self.clone();
        match schema {
            Ok(schema) => dataset
                .map_batches_to(schema, move |batch| this.transform_batch(&batch).map_err(BoxError::from)),
            Err(error) => dataset.failed(error),
        }
    }

    /// A batch with its columns transformed.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`]; [`DataError::Preprocess`] for values that cannot be transformed.
    pub fn transform_batch(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        /// One column after the other.
        fn each<C>(
            batch: &RecordBatch,
            columns: &[C],
            f: impl Fn(&C, &RecordBatch) -> Result<RecordBatch>,
        ) -> Result<RecordBatch> {
            columns.iter().try_fold(batch.clone(), |batch, column| f(column, &batch))
        }
        match self {
            Self::Scaled { columns } => each(batch, columns, scale::Scaled::apply),
            Self::Ordinal { columns } => each(batch, columns, encode::Categories::ordinal),
            Self::OneHot { columns } => each(batch, columns, encode::Categories::one_hot),
            Self::MultiHot { columns } => each(batch, columns, encode::Categories::multi_hot),
            Self::Imputed { columns } => each(batch, columns, impute::Fill::apply),
            Self::Power { columns } => each(batch, columns, power::Powered::apply),
            Self::Binned { columns } => each(batch, columns, bins::Bins::apply),
            Self::Counted { columns } => each(batch, columns, vectorize::Vocabulary::apply),
            Self::Concatenated(concatenator) => concatenator.apply(batch),
            Self::Normalized(normalizer) => normalizer.apply(batch),
            Self::Hashed(hasher) => hasher.apply(batch),
            Self::HashedText(vectorizer) => vectorizer.apply(batch),
            Self::Tokenized(tokenizer) => tokenizer.apply(batch),
            Self::Chain { steps } => each(batch, steps, Self::transform_batch),
        }
    }

    /// It as JSON.
    pub fn to_json(&self) -> String {
        // Numbers, text and lists of them: there is nothing in it that JSON has not.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What [`to_json`](Self::to_json) made.
    ///
    /// # Errors
    /// [`DataError::Preprocess`] for text that it did not make.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| failed("from_json", "", error.to_string()))
    }
}

/// Several preprocessors, each fitted to what the ones before it make of the dataset.
#[derive(Default)]
pub struct Chain {
    steps: Vec<Box<dyn Preprocessor + Send + Sync>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("steps", &self.steps.len()).finish()
    }
}

impl Chain {
    /// One without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more step.
    pub fn then(mut self, step: impl Preprocessor + Send + Sync + 'static) -> Self {
        self.steps.push(Box::new(step));
        self
    }
}

impl Preprocessor for Chain {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        let (mut steps, mut dataset) = (Vec::with_capacity(self.steps.len()), dataset.clone());
        for step in &self.steps {
            let fitted = step.fit(&dataset)?;
            dataset = fitted.transform(&dataset);
            steps.push(fitted);
        }
        Ok(Fitted::Chain { steps })
    }
}

fn failed(name: &str, column: &str, reason: impl Into<String>) -> DataError {
    DataError::Preprocess { name: name.to_owned(), column: column.to_owned(), reason: reason.into() }
}

/// Where a column is, and what it holds.
fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<(usize, &'a ArrayRef)> {
    let schema = batch.schema_ref();
    let Some((index, _)) = schema.column_with_name(name) else {
        let known = schema.fields().iter().map(|field| field.name().clone()).collect();
        return Err(DataError::unknown_column(name, known));
    };
    Ok((index, batch.column(index)))
}

/// A column as `f64`, without a detour when it is.
fn floats(op: &str, column: &ArrayRef, name: &str) -> Result<ArrayRef> {
    if !column.data_type().is_numeric() && !column.data_type().is_null() {
        return Err(failed(op, name, format!("it needs numbers, and the values are {}", column.data_type())));
    }
    cast(column, &DataType::Float64).map_err(|error| failed(op, name, error.to_string()))
}

/// A column of numbers as an expression of `f64`, its NaN as nulls.
fn numbers(op: &str, schema: &Schema, name: &str) -> Result<Expr> {
    if let Some((_, field)) = schema.column_with_name(name)
        && !field.data_type().is_numeric()
    {
        return Err(failed(op, name, format!("it needs numbers, and the values are {}", field.data_type())));
    }
    Ok(nullif(expr::cast(col(name), DataType::Float64), lit(f64::NAN)))
}

/// The values of a column of numbers, of which there is at least one and none is infinite.
fn values_of(op: &str, dataset: &Dataset, name: &str) -> Result<Vec<f64>> {
    const VALUE: &str = "value";
    let schema = dataset.schema()?;
    let column =
        dataset.select([numbers(op, &schema, name)?.alias(VALUE)]).filter_expr(col(VALUE).is_not_null());
    let mut values = Vec::new();
    for batch in column.batches(BATCH_ROWS)? {
        values.extend_from_slice(batch?.column(0).as_primitive::<Float64Type>().values());
    }
    if values.is_empty() || values.iter().any(|value| value.is_infinite()) {
        return Err(failed(op, name, "it has no values, or infinite ones, to be fitted to"));
    }
    Ok(values)
}

/// What has nothing to learn. A mistake is better told now than by the first transform.
fn checked(fitted: Fitted, dataset: &Dataset) -> Result<Fitted> {
    fitted.transform_batch(&RecordBatch::new_empty(dataset.schema()?))?;
    Ok(fitted)
}

/// A batch without some columns, and with another one after those that are left.
fn appended(
    op: &str,
    batch: &RecordBatch,
    without: &[usize],
    name: &str,
    new: ArrayRef,
) -> Result<RecordBatch> {
    let left: Vec<usize> = (0..batch.num_columns()).filter(|index| !without.contains(index)).collect();
    let mut fields: Vec<FieldRef> =
        left.iter().map(|index| batch.schema_ref().fields()[*index].clone()).collect();
    if fields.iter().any(|field| field.name() == name) {
        return Err(DataError::DuplicateColumn { column: name.to_owned(), path: op.to_owned() });
    }
    fields.push(Arc::new(described(Field::new(name, new.data_type().clone(), false))));
    let mut columns: Vec<ArrayRef> = left.iter().map(|index| batch.column(*index).clone()).collect();
    columns.push(new);
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// A batch with other columns in the place of one.
fn replaced(batch: &RecordBatch, index: usize, new: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    let new_fields = new.iter().map(|(name, column)| -> FieldRef {
        Arc::new(described(Field::new(name, column.data_type().clone(), true)))
    });
    fields.splice(index..=index, new_fields.collect::<Vec<_>>());
    columns.splice(index..=index, new.into_iter().map(|(_, column)| column));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
