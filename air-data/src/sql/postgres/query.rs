//! [`Query`]: what a query is: its columns, its parts, and the statement that reads one of them.

use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tokio_postgres::Column;
use tokio_postgres::types::Type;

use super::super::ranges::Ranges;
use super::super::{SqlOptions, bare, quoted};
use super::database::{Connection, Database};
use super::kind::{Kind, Reading};
use super::snapshot;
use super::told::{Within, told};
use crate::source::ReadRequest;

/// What is before a user's query where it is another's table, and behind it. A comment at its end must not hide what follows.
const BEFORE: &str = "SELECT * FROM (\n";
const BEHIND: &str = "\n) AS q";

/// A query of a database.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) database: Database,
    text: String,
    pub(super) schema: SchemaRef,
    readings: Arc<[Reading]>,
    pub(super) ranges: Option<Ranges>,
}

impl Query {
    /// Asks the server for the columns, and for the ends of the key.
    pub(super) async fn open(
        database: Database,
        query: &str,
        options: &SqlOptions,
        parts: usize,
    ) -> Result<Self, BoxError> {
        let text = bare(query).to_owned();
        if text.is_empty() {
            return Err("the query is empty".into());
        }
        let connection = snapshot::begin(&database, None).await?;
        let within = Within { before: BEFORE.chars().count(), length: text.chars().count() };
        let statement = connection.client.prepare(&format!("{BEFORE}{text}{BEHIND}")).await;
        let statement = statement.map_err(|error| told(&error, within))?;
        if !statement.params().is_empty() {
            return Err("the query has parameters ($1): put the values into it".into());
        }
        let found = statement.columns();
        let (schema, readings) = match &options.schema {
            Some(schema) => (schema.clone(), as_given(schema, found)?),
            None => as_found(found)?,
        };
        let ranges = match &options.partition_by {
            Some(key) => Some(ranges(&connection, &text, found, key, parts).await?),
            None => None,
        };
        drop(statement);
        connection.close().await;
        Ok(Self { database, text, schema, readings: readings.into(), ranges })
    }

    /// How the columns are read that are asked for.
    pub(super) fn kinds(&self, request: &ReadRequest) -> Vec<Kind> {
        self.wanted(request).into_iter().map(|column| self.readings[column].kind.clone()).collect()
    }

    fn wanted(&self, request: &ReadRequest) -> Vec<usize> {
        request.columns.clone().unwrap_or_else(|| (0..self.readings.len()).collect())
    }

    /// The statement that copies a part, and where the query stands in it.
    pub(super) fn copy(&self, part: usize, request: &ReadRequest) -> Result<(String, Within), BoxError> {
        let columns = self.wanted(request).into_iter().map(|column| {
            let name = quoted(self.schema.field(column).name())?;
            let reading = &self.readings[column];
            let cast = if reading.cast { format!("::{}", reading.kind.sql()) } else { String::new() };
            Ok(format!("q.{name}{cast}"))
        });
        let columns = columns.collect::<Result<Vec<_>, BoxError>>()?.join(", ");
        let mut behind = BEHIND.to_owned();
        if let Some(ranges) = &self.ranges {
            let key = format!("q.{}", quoted(&ranges.key)?);
            if let Some(condition) = ranges.condition(part, &key, |value| format!("'{value}'::bigint"))? {
                behind = format!("{behind} WHERE {condition}");
            }
            // Only the first part has rows without a key; the others can be read in an index's order.
            let nulls = if part == 0 { " NULLS FIRST" } else { "" };
            behind = format!("{behind} ORDER BY {key}{nulls}");
        } else if part > 0 {
            return Err("there is 1 part".into());
        }
        if let Some(limit) = request.limit {
            behind = format!("{behind} LIMIT {limit}");
        }
        let before = format!("COPY (SELECT {columns} FROM (\n");
        let within = Within { before: before.chars().count(), length: self.text.chars().count() };
        Ok((format!("{before}{}{behind}) TO STDOUT (FORMAT binary)", self.text), within))
    }
}

/// The columns that the query has.
fn as_found(columns: &[Column]) -> Result<(SchemaRef, Vec<Reading>), BoxError> {
    let (mut fields, mut readings) = (Vec::new(), Vec::new());
    for column in columns {
        let (name, kind) = (column.name(), column.type_());
        let reading = Reading::of(kind, column.type_modifier())
            .map_err(|why| format!("column '{name}' is {kind}, {why}"))?;
        fields.push(Field::new(name, reading.kind.arrow(), true));
        readings.push(reading);
    }
    Ok((Arc::new(Schema::new(fields)), readings))
}

/// The columns of a schema that was given, which the server casts the query's to.
fn as_given(schema: &Schema, columns: &[Column]) -> Result<Vec<Reading>, BoxError> {
    let reading = |field: &Arc<Field>| {
        let (name, wanted) = (field.name(), field.data_type());
        let column = named(columns, name, "")?;
        let kind = Kind::of(wanted).filter(|kind| kind.arrow() == *wanted).ok_or_else(|| {
            format!("column '{name}' cannot be read as {wanted}; give a type that PostgreSQL has and cast it after reading")
        })?;
        let as_it_is = Reading::of(column.type_(), column.type_modifier());
        let cast = as_it_is.map_or(true, |found| found.cast || found.kind != kind);
        Ok(Reading { kind, cast })
    };
    schema.fields().iter().map(reading).collect()
}

/// The column of a name; where there is none, the error says what it is needed for.
fn named<'a>(columns: &'a [Column], name: &str, needed: &str) -> Result<&'a Column, BoxError> {
    columns.iter().find(|column| column.name() == name).ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(Column::name).collect();
        format!("the query has no column '{name}'{needed}, but {}", names.join(", ")).into()
    })
}

/// Ranges of a key's values.
async fn ranges(
    connection: &Connection,
    query: &str,
    columns: &[Column],
    key: &str,
    parts: usize,
) -> Result<Ranges, BoxError> {
    let column = named(columns, key, " to tell the parts by")?;
    if !matches!(*column.type_(), Type::INT2 | Type::INT4 | Type::INT8) {
        let kind = column.type_();
        return Err(format!("'{key}' is {kind}, and parts are told by an integer column").into());
    }
    let name = quoted(key)?;
    let ends = format!("SELECT min(q.{name})::bigint, max(q.{name})::bigint FROM (\n{query}{BEHIND}");
    let ends = connection.client.query_one(&ends, &[]).await;
    let ends = ends.map_err(|error| told(&error, Within::default()))?;
    let low: Option<i64> = ends.try_get(0)?;
    Ok(Ranges::new(key, low.zip(ends.try_get(1)?), parts))
}
