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

mod concat;
mod encode;
mod impute;
mod scale;

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use serde::{Deserialize, Serialize};

pub use concat::Concatenator;
pub use encode::{LabelEncoder, OneHotEncoder, OrdinalEncoder};
pub use impute::{SimpleImputer, Strategy};
pub use scale::{MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};

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
        match self {
            Self::Scaled { columns } => {
                columns.iter().try_fold(batch.clone(), |batch, column| column.apply(&batch))
            }
            Self::Ordinal { columns } => {
                columns.iter().try_fold(batch.clone(), |batch, column| column.ordinal(&batch))
            }
            Self::OneHot { columns } => {
                columns.iter().try_fold(batch.clone(), |batch, column| column.one_hot(&batch))
            }
            Self::Imputed { columns } => {
                columns.iter().try_fold(batch.clone(), |batch, column| column.apply(&batch))
            }
            Self::Concatenated(concatenator) => concatenator.apply(batch),
            Self::Chain { steps } => {
                steps.iter().try_fold(batch.clone(), |batch, step| step.transform_batch(&batch))
            }
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

/// A batch with other columns in the place of one.
fn replaced(batch: &RecordBatch, index: usize, new: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    let new_fields = new
        .iter()
        .map(|(name, column)| -> FieldRef { Arc::new(Field::new(name, column.data_type().clone(), true)) });
    fields.splice(index..=index, new_fields.collect::<Vec<_>>());
    columns.splice(index..=index, new.into_iter().map(|(_, column)| column));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
