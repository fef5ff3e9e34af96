//! The user's functions, each as an [`Op`] that turns one block of rows into another.
//!
//! Between two neighbouring functions whose types agree the rows stay Rust values; only at the end of a chain, or where
//! types differ, are they written to Arrow.

use std::any::Any;

use air_core::BoxError;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Fields, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rows::{Reader, Shape, Writer};

/// Rows on their way from one function to the next.
pub(crate) enum Block {
    /// As Arrow columns.
    Batch(RecordBatch),
    /// As Rust values.
    Rows(Box<dyn Rows>),
}

/// A vector of rows whose type the receiver has to guess.
pub(crate) trait Rows: Send {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn into_batch(self: Box<Self>) -> Result<RecordBatch, BoxError>;
    fn as_any(&self) -> &dyn Any;
}

struct Typed<T> {
    rows: Vec<T>,
    writer: Writer,
}

impl<T: Serialize + Send + 'static> Rows for Typed<T> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn into_batch(self: Box<Self>) -> Result<RecordBatch, BoxError> {
        self.writer.write(&self.rows)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Why a function did not turn its block into another.
#[derive(Debug)]
pub(crate) struct OpFailure {
    /// The row of the block, where it is known.
    pub(crate) row: Option<usize>,
    pub(crate) kind: FailureKind,
}

#[derive(Debug)]
pub(crate) enum FailureKind {
    /// The user's function returned this.
    User(BoxError),
    /// The rows are not what the function takes or should return.
    Rows { type_name: &'static str, source: BoxError },
}

/// One user function.
pub(crate) trait Op: Send + Sync {
    /// The verb that made it: `map`, `filter`, …
    fn name(&self) -> &'static str;

    /// The columns it makes out of `input`'s.
    fn schema(&self, input: &SchemaRef) -> SchemaRef;

    /// The columns it reads, when it reads only those and passes none through.
    fn reads(&self) -> Option<&Fields>;

    /// Whether it makes exactly one row out of each row.
    fn keeps_count(&self) -> bool;

    fn apply(&self, block: Block) -> Result<Block, OpFailure>;
}

impl Block {
    pub(crate) fn into_batch(self, type_name: &'static str) -> Result<RecordBatch, OpFailure> {
        match self {
            Self::Batch(batch) => Ok(batch),
            Self::Rows(rows) => rows.into_batch().map_err(|source| bad_rows(None, type_name, source)),
        }
    }
}

fn bad_rows(row: Option<usize>, type_name: &'static str, source: BoxError) -> OpFailure {
    OpFailure { row, kind: FailureKind::Rows { type_name, source } }
}

fn user(row: usize) -> impl Fn(BoxError) -> OpFailure {
    move |error| OpFailure { row: Some(row), kind: FailureKind::User(error) }
}

/// The rows of a block as values of type `T`, without a detour when they already are.
fn values<T: DeserializeOwned + 'static>(block: Block, reader: &Reader<T>) -> Result<Vec<T>, OpFailure> {
    let type_name = std::any::type_name::<T>();
    let batch = match block {
        Block::Rows(rows) if rows.as_any().is::<Typed<T>>() => {
            return match rows.into_any().downcast::<Typed<T>>() {
                Ok(typed) => Ok(typed.rows),
                Err(_) => Err(bad_rows(None, type_name, "rows changed their type".into())),
            };
        }
        other => other.into_batch(type_name)?,
    };
    reader.read(&batch).map_err(|bad| bad_rows(bad.row, type_name, bad.source))
}

fn reads<T: DeserializeOwned>(reader: &Reader<T>) -> Option<&Fields> {
    match reader.shape() {
        Shape::Struct(fields) => Some(fields),
        Shape::Plain(_) | Shape::Dynamic => None,
    }
}

/// `map`: one row in, one row out.
pub(crate) struct Map<In, F> {
    pub(crate) f: F,
    pub(crate) reader: Reader<In>,
    pub(crate) writer: Writer,
}

impl<In, Out, F> Op for Map<In, F>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Send + 'static,
    F: Fn(In) -> Result<Out, BoxError> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "map"
    }

    fn schema(&self, _: &SchemaRef) -> SchemaRef {
        self.writer.schema().clone()
    }

    fn reads(&self) -> Option<&Fields> {
        reads(&self.reader)
    }

    fn keeps_count(&self) -> bool {
        true
    }

    fn apply(&self, block: Block) -> Result<Block, OpFailure> {
        let input = values(block, &self.reader)?;
        let mut rows = Vec::with_capacity(input.len());
        for (number, row) in input.into_iter().enumerate() {
            rows.push((self.f)(row).map_err(user(number))?);
        }
        Ok(Block::Rows(Box::new(Typed { rows, writer: self.writer.clone() })))
    }
}

/// `flat_map`: one row in, any number of rows out.
pub(crate) struct FlatMap<In, F> {
    pub(crate) f: F,
    pub(crate) reader: Reader<In>,
    pub(crate) writer: Writer,
}

impl<In, Many, F> Op for FlatMap<In, F>
where
    In: DeserializeOwned + Send + 'static,
    Many: IntoIterator,
    Many::Item: Serialize + Send + 'static,
    F: Fn(In) -> Result<Many, BoxError> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "flat_map"
    }

    fn schema(&self, _: &SchemaRef) -> SchemaRef {
        self.writer.schema().clone()
    }

    fn reads(&self) -> Option<&Fields> {
        reads(&self.reader)
    }

    fn keeps_count(&self) -> bool {
        false
    }

    fn apply(&self, block: Block) -> Result<Block, OpFailure> {
        let input = values(block, &self.reader)?;
        let mut rows = Vec::with_capacity(input.len());
        for (number, row) in input.into_iter().enumerate() {
            rows.extend((self.f)(row).map_err(user(number))?);
        }
        Ok(Block::Rows(Box::new(Typed { rows, writer: self.writer.clone() })))
    }
}

/// `filter`: the rows the function says yes to, with all their columns, also those it does not read.
pub(crate) struct Filter<T, F> {
    pub(crate) f: F,
    pub(crate) reader: Reader<T>,
}

impl<T, F> Op for Filter<T, F>
where
    T: DeserializeOwned + Serialize + Send + 'static,
    F: Fn(&T) -> Result<bool, BoxError> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "filter"
    }

    fn schema(&self, input: &SchemaRef) -> SchemaRef {
        input.clone()
    }

    fn reads(&self) -> Option<&Fields> {
        None
    }

    fn keeps_count(&self) -> bool {
        false
    }

    fn apply(&self, block: Block) -> Result<Block, OpFailure> {
        match block {
            Block::Rows(rows) if rows.as_any().is::<Typed<T>>() => {
                let writer = rows.as_any().downcast_ref::<Typed<T>>().map(|typed| typed.writer.clone());
                let input = values(Block::Rows(rows), &self.reader)?;
                let mut kept = Vec::with_capacity(input.len());
                for (number, row) in input.into_iter().enumerate() {
                    if (self.f)(&row).map_err(user(number))? {
                        kept.push(row);
                    }
                }
                match writer {
                    Some(writer) => Ok(Block::Rows(Box::new(Typed { rows: kept, writer }))),
                    None => Err(bad_rows(None, std::any::type_name::<T>(), "rows changed their type".into())),
                }
            }
            other => {
                let type_name = std::any::type_name::<T>();
                let batch = other.into_batch(type_name)?;
                let rows =
                    self.reader.read(&batch).map_err(|bad| bad_rows(bad.row, type_name, bad.source))?;
                let mut keep = Vec::with_capacity(rows.len());
                for (number, row) in rows.iter().enumerate() {
                    keep.push((self.f)(row).map_err(user(number))?);
                }
                let kept = filter_record_batch(&batch, &BooleanArray::from(keep));
                kept.map(Block::Batch).map_err(|e| bad_rows(None, type_name, e.into()))
            }
        }
    }
}

/// `map_batches`: a whole Arrow batch at a time.
pub(crate) struct MapBatches<F> {
    pub(crate) f: F,
    pub(crate) schema: SchemaRef,
}

impl<F> Op for MapBatches<F>
where
    F: Fn(RecordBatch) -> Result<RecordBatch, BoxError> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "map_batches"
    }

    fn schema(&self, _: &SchemaRef) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self) -> Option<&Fields> {
        None
    }

    fn keeps_count(&self) -> bool {
        false
    }

    fn apply(&self, block: Block) -> Result<Block, OpFailure> {
        let batch = block.into_batch("RecordBatch")?;
        let made =
            (self.f)(batch).map_err(|error| OpFailure { row: None, kind: FailureKind::User(error) })?;
        conform(made, &self.schema).map(Block::Batch).map_err(|source| bad_rows(None, "RecordBatch", source))
    }
}

/// The batch under the promised schema: the columns' names and types must be the promised ones; metadata and
/// nullability may differ as long as no null sits in a column that has none.
pub(crate) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, BoxError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let describe = |schema: &SchemaRef| -> String {
        let columns: Vec<String> =
            schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        columns.join(", ")
    };
    let found = batch.schema();
    let same = found.fields().len() == schema.fields().len()
        && found
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if !same {
        return Err(format!("expected columns ({}), got ({})", describe(schema), describe(&found)).into());
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}
