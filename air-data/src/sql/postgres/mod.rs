//! PostgreSQL: the rows of a query as a source, a table as a sink, both by binary `COPY`.
//!
//! | file | idea |
//! |---|---|
//! | `database` | URLs and connections; `tls` encrypts them, `told` puts errors into words |
//! | `kind` | which of PostgreSQL's types is which of Arrow's |
//! | `query` | a query's columns, parts and statements; `read` streams them, in one state of the database (`snapshot`) |
//! | `decode` | from the bytes of a `COPY` to batches; `column` and `numeric` from values to columns |
//! | `encode` | the other way round |
//! | `write` | all parts into one transaction (`target`) on a table (`table`), each in its turn (`turns`) |

mod column;
mod database;
mod decode;
mod encode;
mod kind;
mod numeric;
mod query;
mod read;
mod snapshot;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod turns;
mod write;

use super::SqlOptions;
use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::session::Session;
use crate::sink::WriteMode;
use database::Database;
use query::Query;
use read::Rows;
use write::Table;

impl Session {
    /// The rows of a query of a PostgreSQL database, `postgres://user:password@host:5432/database`. Parts are read at the same time, each over a connection of its own,
    /// and all of one run see one state of the database. The order is the query's, or that of [`SqlOptions::partition_by`].
    ///
    /// Columns are of the types that the query tells: `bool`, `int2`, `int4`, `int8`, `float4`, `float8` are `Boolean`, `Int16`, `Int32`, `Int64`, `Float32`, `Float64`;
    /// `numeric(p, s)` is `Decimal128(p, s)`; `text`, `varchar`, `char`, `name`, `json`, `jsonb`, `uuid` and enums are `Utf8`; `bytea` is `Binary`; `date` is `Date32`; `time`
    /// is `Time64` and `timestamp` and `timestamptz` are `Timestamp` in microseconds, the last in UTC; arrays of these are `List`. Others have to be cast in the query, as has
    /// `numeric` without a number of digits, such as of `sum` and `avg`; or [`SqlOptions::schema`] gives the types, and the server casts to them.
    ///
    /// The settings behind `?` are those of PostgreSQL's own clients, among them `sslmode` (`disable`, `prefer`, `require`, `verify-full`), `sslrootcert`, `connect_timeout`
    /// (seconds), `application_name` and `options`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a URL that is wrong and a setting out of range, [`DataError::Source`] for a database that cannot be reached and a query that cannot be
    /// run or has columns that Arrow has no type for.
    pub fn read_postgres(&self, url: &str, query: &str, options: SqlOptions) -> Result<Dataset> {
        let database = Database::parse(url)?;
        let parts = options.parts(self)?;
        let query = query.to_owned();
        let rows = self.block_on(async move { rows(database, &query, &options, parts).await })?;
        self.read_source(rows)
    }
}

async fn rows(database: Database, query: &str, options: &SqlOptions, parts: usize) -> Result<Rows> {
    let name = database.name().to_owned();
    let opened = Query::open(database, query, options, parts).await;
    let query =
        opened.map_err(|source| DataError::Source { name, part: "the query".to_owned(), row: 0, source })?;
    Ok(Rows::of(query))
}

impl Dataset {
    /// Writes into a table of a PostgreSQL database, `table` or `schema.table`, in one transaction: all rows or none, in their order. The table has the columns of the
    /// dataset: booleans, integers, floats, decimals, text, bytes, dates, times and timestamps (to the microsecond), and lists of these, which become arrays. Unsigned
    /// integers of 64 bits become `numeric(20, 0)`. Names are taken as they are written, capitals and all.
    ///
    /// # Errors
    /// [`DataError::Config`] for a URL that is wrong; [`DataError::Sink`] names the part and the row: a table that is there already is an error, unless
    /// [`WriteMode::Overwrite`] replaces it, which it does once all rows are there.
    pub fn write_postgres(&self, url: &str, table: &str, mode: WriteMode) -> Result<()> {
        let database = Database::parse(url)?;
        let disk = self.session().context().runtime_env().disk_manager.clone();
        self.write_sink(Table { database, name: table.to_owned(), mode, disk })?;
        Ok(())
    }
}
