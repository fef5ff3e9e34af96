//! [`Table`]: what is measured over, and which of its columns a verb takes.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::scalar::ScalarValue;
use serde::Serialize;

use crate::cli::input;
use crate::expr::cast;
use crate::stats::Bytes;
use crate::{DataError, Dataset, Result, Session, col, lit};

/// Rows that are looked at for a value to filter by.
const LOOK: usize = 10_000;
/// How many groups generated rows have.
const GROUPS: i64 = 1009;

/// A table of at least one row.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    #[serde(skip)]
    from: Origin,
    pub(super) rows: u64,
    /// In Arrow's layout.
    pub(super) bytes: u64,
    /// The column to group by.
    pub(super) group: String,
    /// The column to sort and filter by.
    pub(super) sort: String,
    /// The column that a closure takes, if there is one of numbers.
    pub(super) number: Option<String>,
    /// A value of `sort`, from the middle of what was looked at.
    #[serde(skip)]
    pub(super) middle: ScalarValue,
}

#[derive(Debug)]
enum Origin {
    File(String),
    Memory(Vec<RecordBatch>),
}

impl Table {
    /// A file, or so many rows generated in memory.
    pub(super) fn new(session: &Session, file: Option<&str>, rows: u64) -> Result<Self> {
        let from = match file {
            Some(file) => Origin::File(file.to_owned()),
            None => Origin::Memory(generated(session, rows)?.collect()?),
        };
        let dataset = from.dataset(session)?;
        let (rows, bytes) = (dataset.count()?, dataset.size_bytes()?);
        let schema = dataset.schema()?;
        let pick = |wanted: fn(&DataType) -> bool| {
            let mut plain = schema.fields().iter().filter(|field| !field.data_type().is_nested());
            plain.find(|field| wanted(field.data_type())).map(|field| field.name().clone())
        };
        let number = pick(DataType::is_floating).or_else(|| pick(DataType::is_numeric));
        let plain = pick(|_| true);
        let (Some(any), true) = (plain, rows > 0) else {
            let reason = "a bench needs rows, and a column that is no list or struct".to_owned();
            return Err(DataError::BadPath { path: file.unwrap_or_default().to_owned(), reason });
        };
        let group = group(&schema).unwrap_or_else(|| any.clone());
        let sort = number.clone().unwrap_or(any);
        let middle = middle(&dataset, &sort)?;
        Ok(Self { from, rows, bytes, group, sort, number, middle })
    }

    pub(super) fn dataset(&self, session: &Session) -> Result<Dataset> {
        self.from.dataset(session)
    }
}

impl Origin {
    fn dataset(&self, session: &Session) -> Result<Dataset> {
        match self {
            Self::File(file) => input::open(session, file),
            Self::Memory(batches) => session.from_batches(batches.clone()),
        }
    }
}

/// `id`, a `key` of a thousand values in no order, and a `value` between 0 and 1 in no order.
fn generated(session: &Session, rows: u64) -> Result<Dataset> {
    let mixed = (col("id") * lit(7_919_i64)) % lit(1_000_003_i64);
    let value = cast(mixed, DataType::Float64) / lit(1_000_003.0);
    let key = (col("id") * lit(104_729_i64)) % lit(GROUPS);
    Ok(session.range(rows)?.with_columns([("key", key), ("value", value)]))
}

/// The column to group by: `key`, or the first of text, or the first of integers.
fn group(schema: &Schema) -> Option<String> {
    let find = |wanted: &dyn Fn(&str, &DataType) -> bool| {
        let field = schema.fields().iter().find(|field| wanted(field.name(), field.data_type()));
        field.map(|field| field.name().clone())
    };
    find(&|name, kind| name == "key" && !kind.is_nested())
        .or_else(|| {
            find(&|_, kind| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
        })
        .or_else(|| find(&|_, kind| kind.is_integer()))
}

/// The median of a column's first values; null where all of them are.
fn middle(dataset: &Dataset, column: &str) -> Result<ScalarValue> {
    let first = dataset.select([column]).limit(LOOK).filter_expr(col(column).is_not_null()).sort([column]);
    let first = first.to_batch()?;
    let values = first.column(0);
    match values.len() {
        0 => Ok(ScalarValue::try_from(values.data_type())?),
        rows => Ok(ScalarValue::try_from_array(values, rows / 2)?),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, bytes, group, sort, .. } = self;
        let from = match &self.from {
            Origin::File(file) => file,
            Origin::Memory(_) => "generated",
        };
        write!(
            f,
            "{from}: {rows} rows, {} in memory; grouped by {group}, sorted and filtered by {sort}",
            Bytes(*bytes)
        )
    }
}
