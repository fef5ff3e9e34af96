//! [`Query`]: a query as a source, in parts by ranges of a key.

use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};

use super::{SqlOptions, quoted};
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
    /// The column whose ranges are the parts, and where each begins; the first takes what has none, too.
    key: Option<String>,
    starts: Vec<i64>,
}

impl Query {
    pub(super) fn open(database: PathBuf, query: String, options: SqlOptions, parts: usize) -> Result<Self> {
        let name = database.display().to_string();
        let look = || -> std::result::Result<Self, BoxError> {
            let connection = connect(&database)?;
            // A query is put into others, which a semicolon at its end would cut.
            let query = query.trim().trim_end_matches(';').to_owned();
            let schema = match &options.schema {
                Some(schema) => schema.clone(),
                None => Arc::new(columns(&connection, &query)?),
            };
            for field in schema.fields() {
                plain(field)?;
            }
            let starts = match &options.partition_by {
                Some(key) => starts(&connection, &query, key, parts)?,
                None => Vec::new(),
            };
            Ok(Self {
                database: database.clone(),
                text: query,
                schema,
                key: options.partition_by.clone(),
                starts,
            })
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
        if let Some(key) = &self.key {
            let key = quoted(key)?;
            let from =
                self.starts.get(part).ok_or_else(|| format!("there are {} parts", self.starts.len()))?;
            let until = self.starts.get(part + 1);
            let until = until.map_or_else(String::new, |until| format!(" AND {key} < {until}"));
            let null = if part == 0 { format!(" OR {key} IS NULL") } else { String::new() };
            text = format!("{text} WHERE ({key} >= {from}{until}){null} ORDER BY {key}");
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

/// Where each part begins: ranges of the key of one length.
fn starts(
    connection: &Connection,
    query: &str,
    key: &str,
    parts: usize,
) -> std::result::Result<Vec<i64>, BoxError> {
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
    let (Some(low), Some(high)) = bounds else { return Ok(vec![i64::MIN]) };
    let span = i128::from(high) - i128::from(low) + 1;
    let parts = (parts.max(1) as i128).min(span);
    Ok((0..parts).map(|part| (i128::from(low) + span * part / parts) as i64).collect())
}

impl Source for Query {
    fn name(&self) -> String {
        self.database.display().to_string()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> std::result::Result<Vec<SourcePart>, BoxError> {
        let Some(key) = &self.key else { return Ok(vec![SourcePart::new("the query")]) };
        let name = |part: usize| match self.starts.get(part + 1) {
            Some(until) => format!("{key} from {} to {}", self.starts[part], until - 1),
            None => format!("{key} from {}", self.starts[part]),
        };
        Ok((0..self.starts.len()).map(|part| SourcePart::new(name(part))).collect())
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
