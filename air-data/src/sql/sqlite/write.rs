//! [`Table`]: a table as a sink. All parts are one transaction of one connection, each in a temporary table until the commit puts them behind each other.

use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql, params_from_iter};

use super::super::quoted;
use crate::session::blocking;
use crate::sink::{Sink, SinkPart, SinkWrite, WriteMode};

/// A table to be written.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) database: PathBuf,
    pub(super) name: String,
    pub(super) mode: WriteMode,
}

impl Sink for Table {
    type Write = Writing;

    fn name(&self) -> String {
        format!("{} of {}", self.name, self.database.display())
    }

    async fn begin(&self, schema: &SchemaRef, _: usize) -> Result<Writing, BoxError> {
        let kinds = schema.fields().iter().map(|field| {
            Kind::of(field.data_type()).ok_or_else(|| {
                format!("column '{}' is {}, which SQLite does not hold", field.name(), field.data_type())
            })
        });
        let kinds = kinds.collect::<Result<Vec<Kind>, String>>()?;
        let columns = schema.fields().iter().zip(&kinds).map(|(field, kind)| {
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            Ok(format!("{} {}{null}", quoted(field.name())?, kind.name()))
        });
        let columns = columns.collect::<Result<Vec<_>, BoxError>>()?.join(", ");
        let table = quoted(&self.name)?;
        let connection = blocking(|| -> Result<Connection, BoxError> {
            let connection = Connection::open(&self.database)?;
            connection.execute_batch("BEGIN IMMEDIATE")?;
            if self.mode == WriteMode::Overwrite {
                connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
            }
            connection.execute_batch(&format!("CREATE TABLE {table} ({columns})"))?;
            Ok(connection)
        })?;
        Ok(Writing { connection: Arc::new(Mutex::new(connection)), table, columns, kinds: kinds.into() })
    }
}

/// What a column is in SQLite.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Integer,
    Real,
    Text,
    Blob,
}

impl Kind {
    fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Boolean => Self::Integer,
            kind if kind.is_integer() => Self::Integer,
            kind if kind.is_floating() => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Blob,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }

    fn stored(self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Blob => DataType::Binary,
        }
    }
}

/// A transaction under way.
pub(super) struct Writing {
    connection: Arc<Mutex<Connection>>,
    table: String,
    columns: String,
    kinds: Arc<[Kind]>,
}

impl SinkWrite for Writing {
    type Part = Part;

    async fn open(&self, part: usize) -> Result<Part, BoxError> {
        let table = format!("temp.\"part {part}\"");
        let create = format!("CREATE TABLE {table} ({})", self.columns);
        blocking(|| self.connection.lock().execute_batch(&create))?;
        Ok(Part { connection: self.connection.clone(), table, kinds: self.kinds.clone() })
    }

    async fn commit(&self, parts: Vec<String>) -> Result<Vec<String>, BoxError> {
        blocking(|| {
            let connection = self.connection.lock();
            let put = || {
                for part in &parts {
                    let table = &self.table;
                    connection.execute_batch(&format!(
                        "INSERT INTO {table} SELECT * FROM {part} ORDER BY rowid; DROP TABLE {part}"
                    ))?;
                }
                connection.execute_batch("COMMIT")
            };
            put().inspect_err(|_| {
                let _ = connection.execute_batch("ROLLBACK");
            })
        })?;
        Ok(Vec::new())
    }

    async fn abort(&self, _: Vec<String>) {
        // A connection that is closed takes back its transaction as well.
        let _ = blocking(|| self.connection.lock().execute_batch("ROLLBACK"));
    }
}

/// A part under way.
pub(super) struct Part {
    connection: Arc<Mutex<Connection>>,
    table: String,
    kinds: Arc<[Kind]>,
}

impl SinkPart for Part {
    type Finished = String;

    async fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().zip(self.kinds.iter());
        let columns = columns.map(|(column, kind)| cast_with_options(column, &kind.stored(), &strict));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let marks = vec!["?"; columns.len()].join(", ");
        blocking(|| -> Result<(), BoxError> {
            let connection = self.connection.lock();
            let mut insert =
                connection.prepare_cached(&format!("INSERT INTO {} VALUES ({marks})", self.table))?;
            for row in 0..batch.num_rows() {
                let values = columns
                    .iter()
                    .zip(self.kinds.iter())
                    .map(|(column, kind)| Cell(value(column, *kind, row)));
                insert.execute(params_from_iter(values))?;
            }
            Ok(())
        })
    }

    async fn finish(self) -> Result<String, BoxError> {
        Ok(self.table)
    }

    async fn abort(self) {
        // What it wrote goes with the transaction.
    }
}

struct Cell<'a>(ValueRef<'a>);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

fn value(column: &ArrayRef, kind: Kind, row: usize) -> ValueRef<'_> {
    if column.is_null(row) {
        return ValueRef::Null;
    }
    match kind {
        Kind::Integer => ValueRef::Integer(column.as_primitive::<Int64Type>().value(row)),
        Kind::Real => ValueRef::Real(column.as_primitive::<Float64Type>().value(row)),
        Kind::Text => ValueRef::Text(column.as_string::<i32>().value(row).as_bytes()),
        Kind::Blob => ValueRef::Blob(column.as_binary::<i32>().value(row)),
    }
}
