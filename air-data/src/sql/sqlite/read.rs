//! [`Query`]: a query as a source, in parts by ranges of a key.

use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};

use super::super::ranges::Ranges;
use super::super::{SqlOptions, bare, quoted};
use crate::error::{DataError, Result};
use crate::format::cells::{Cells, Shape, Values};
use crate::source::{ReadRequest, Source, SourceBatches, SourcePart};

/// Rows that tell the columns' types.
const LOOK_ROWS: usize = 1000;

/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 32 << 20;

/// A query of a database.
#[derive(Debug, Clone)]
pub(super) struct Query {
    database: PathBuf,
    text: String,
    schema: SchemaRef,
    ranges: Option<Ranges>,
}

impl Query {
    pub(super) fn open(database: PathBuf, query: String, options: SqlOptions, parts: usize) -> Result<Self> {
        let name = database.display().to_string();
        let look = || -> std::result::Result<Self, BoxError> {
            let connection = connect(&database)?;
            let query = bare(&query).to_owned();
            let schema = match &options.schema {
                Some(schema) => schema.clone(),
                None => Arc::new(columns(&connection, &query)?),
            };
            for field in schema.fields() {
                plain(field)?;
            }
            let ranges = match &options.partition_by {
                Some(key) => Some(ranges(&connection, &query, key, parts)?),
                None => None,
            };
            Ok(Self { database: database.clone(), text: query, schema, ranges })
        };
        look().map_err(|source| DataError::Source { name, part: "the query".to_owned(), row: 0, source })
    }

    /// The query of a part.
    fn part(&self, part: usize, request: &ReadRequest) -> std::result::Result<String, BoxError> {
        let wanted = request.schema(&self.schema)?;
        let names: Vec<String> = wanted
            .fields()
            .iter()
            .map(|field| quoted(field.name()))
            .collect::<std::result::Result<_, _>>()?;
        let names = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
        let mut text = format!("SELECT {names} FROM ({})", self.text);
        if let Some(ranges) = &self.ranges {
            let key = quoted(&ranges.key)?;
            if let Some(condition) = ranges.condition(part, &key, |value| value.to_string())? {
                text = format!("{text} WHERE {condition}");
            }
            text = format!("{text} ORDER BY {key}");
        } else if part > 0 {
            return Err("there is 1 part".into());
        }
        Ok(match request.limit {
            Some(limit) => format!("{text} LIMIT {limit}"),
            None => text,
        })
    }
}

fn connect(database: &PathBuf) -> std::result::Result<Connection, BoxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(database, flags)?)
}

/// Whether a column can be filled with plain values.
fn plain(field: &Field) -> std::result::Result<Cells, BoxError> {
    let cells = Cells::new(field)?;
    match cells.shape {
        Shape::One => Ok(cells),
        _ => Err(format!("column '{}' cannot be {}", field.name(), field.data_type()).into()),
    }
}

/// The columns that the first rows tell. SQLite's values have types, its columns need not.
fn columns(connection: &Connection, query: &str) -> std::result::Result<Schema, BoxError> {
    let mut statement = connection.prepare(&format!("SELECT * FROM ({query}) LIMIT {LOOK_ROWS}"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut kinds: Vec<Option<DataType>> = vec![None; names.len()];
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for (index, kind) in kinds.iter_mut().enumerate() {
            let found = match row.get_ref(index)?.data_type() {
                Type::Null => continue,
                Type::Integer => DataType::Int64,
                Type::Real => DataType::Float64,
                Type::Text => DataType::Utf8,
                Type::Blob => DataType::Binary,
            };
            *kind = Some(match (kind.take(), found) {
                (None, found) => found,
                (Some(DataType::Int64), DataType::Float64) | (Some(DataType::Float64), DataType::Int64) => {
                    DataType::Float64
                }
                (Some(before), found) if before == found => found,
                (Some(before), found) => {
                    let name = &names[index];
                    return Err(format!(
                        "column '{name}' has both {before} and {found}; cast it in the query"
                    )
                    .into());
                }
            });
        }
    }
    let fields = names.into_iter().zip(kinds);
    Ok(Schema::new(
        fields.map(|(name, kind)| Field::new(name, kind.unwrap_or(DataType::Utf8), true)).collect::<Vec<_>>(),
    ))
}

/// Ranges of the key's values.
fn ranges(
    connection: &Connection,
    query: &str,
    key: &str,
    parts: usize,
) -> std::result::Result<Ranges, BoxError> {
    let name = quoted(key)?;
    let text = format!("SELECT count(*) FROM ({query}) WHERE typeof({name}) NOT IN ('integer', 'null')");
    let others: i64 = connection.query_row(&text, [], |row| row.get(0))?;
    if others > 0 {
        return Err(
            format!("'{key}' has {others} values that are no integers, and cannot tell the parts").into()
        );
    }
    let bounds =
        connection.query_row(&format!("SELECT min({name}), max({name}) FROM ({query})"), [], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
    Ok(Ranges::new(key, bounds.0.zip(bounds.1), parts))
}

impl Source for Query {
    fn name(&self) -> String {
        self.database.display().to_string()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> std::result::Result<Vec<SourcePart>, BoxError> {
        Ok(self.ranges.as_ref().map_or_else(|| vec![SourcePart::new("the query")], Ranges::parts))
    }

    fn open(&self, part: usize, request: &ReadRequest) -> std::result::Result<SourceBatches, BoxError> {
        let text = self.part(part, request)?;
        let schema = Arc::new(request.schema(&self.schema)?);
        let (database, rows) = (self.database.clone(), request.batch_rows.max(1));
        Ok(SourceBatches::blocking_with(move |put| {
            let connection = connect(&database)?;
            let mut statement = connection.prepare(&text)?;
            let mut found = statement.query([])?;
            let mut cells = schema
                .fields()
                .iter()
                .map(|field| plain(field))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let (mut count, mut bytes) = (0, 0);
            while let Some(row) = found.next()? {
                for (index, (cells, field)) in cells.iter_mut().zip(schema.fields()).enumerate() {
                    bytes += cell(cells, row, index)
                        .map_err(|error| format!("column '{}' {error}", field.name()))?;
                }
                count += 1;
                if count == rows || bytes >= BATCH_BYTES {
                    if !put(batch(&schema, &mut cells, count)?) {
                        return Ok(());
                    }
                    (count, bytes) = (0, 0);
                }
            }
            if count > 0 {
                put(batch(&schema, &mut cells, count)?);
            }
            Ok(())
        }))
    }
}

fn batch(schema: &SchemaRef, cells: &mut [Cells], rows: usize) -> std::result::Result<RecordBatch, BoxError> {
    let columns = cells.iter_mut().map(Cells::take).collect::<std::result::Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Puts a value into its column; about how many bytes it takes.
fn cell(cells: &mut Cells, row: &Row<'_>, index: usize) -> std::result::Result<usize, BoxError> {
    let value = row.get_ref(index)?;
    let mut size = 8;
    match (value, &mut cells.values) {
        (ValueRef::Null, _) => return cells.null().map(|()| size),
        (ValueRef::Integer(value), Values::Ints(all)) => all.push(value),
        (ValueRef::Integer(value), Values::Doubles(all)) => all.push(value as f64),
        (ValueRef::Integer(value), Values::Floats(all)) => all.push(value as f32),
        (ValueRef::Real(value), Values::Doubles(all)) => all.push(value),
        (ValueRef::Real(value), Values::Floats(all)) => all.push(value as f32),
        (ValueRef::Text(value) | ValueRef::Blob(value), Values::Bytes { .. }) => {
            size += value.len();
            cells.push_bytes(value)?;
        }
        (value, _) => {
            return Err(format!(
                "has a value of type {}, which it does not hold; cast it in the query",
                value.data_type()
            )
            .into());
        }
    }
    cells.end()?;
    Ok(size)
}
