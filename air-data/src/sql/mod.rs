//! Databases: the rows of a query as a source, a table as a sink.
//!
//! | module | what |
//! |---|---|
//! | `ranges` | a query in parts by ranges of an integer key |
//! | `sqlite` | SQLite, in this process |
//! | `postgres` | PostgreSQL, over the network |

#[cfg(feature = "postgres")]
mod postgres;
mod ranges;
#[cfg(feature = "sqlite")]
mod sqlite;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;

use crate::error::{DataError, Result};
use crate::session::Session;

/// How the rows of a query are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlOptions {
    /// An integer column of the query by whose ranges it is read in parts: rows then come in its order, those without it first. Without one the query is one part.
    pub partition_by: Option<String>,
    /// How many parts; as many as the session has threads when 0.
    pub parts: usize,
    /// The columns and their types. Of SQLite (`Int64`, `Float64`, `Float32`, `Utf8`, `Binary`), instead of what the first 1000 rows tell; of PostgreSQL, instead of
    /// those of the query, which casts its columns to them.
    pub schema: Option<SchemaRef>,
}

/// More parts than these are an error.
const MAX_PARTS: usize = 100_000;

impl SqlOptions {
    /// How many parts are asked for.
    fn parts(&self, session: &Session) -> Result<usize> {
        match self.parts {
            0 => Ok(session.parallelism()),
            parts if parts <= MAX_PARTS => Ok(parts),
            _ => Err(DataError::Config { field: "parts", reason: format!("at most {MAX_PARTS}") }),
        }
    }
}

/// A name in quotes.
fn quoted(name: &str) -> std::result::Result<String, BoxError> {
    if name.is_empty() || name.contains('\0') {
        return Err(format!("{name:?} cannot be the name of a table or a column").into());
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A query as it is put into others, which a semicolon at its end would cut.
fn bare(query: &str) -> &str {
    query.trim().trim_end_matches([';', ' ', '\t', '\r', '\n'])
}
