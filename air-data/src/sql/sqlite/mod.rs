//! SQLite databases: the rows of a query as a source, a table as a sink.

mod read;
mod write;

use std::path::Path;

use super::SqlOptions;
use crate::dataset::Dataset;
#[cfg(doc)]
use crate::error::DataError;
use crate::error::Result;
use crate::session::Session;
use crate::sink::WriteMode;
use read::Query;
use write::Table;

impl Session {
    /// The rows of a query of an SQLite database. Each part opens the database for itself, for reading only; what is changed in it while it is read, some parts see and
    /// others do not.
    ///
    /// # Errors
    /// [`DataError::Source`] for a database that cannot be opened and a query that cannot be run, [`DataError::Config`] for a setting out of range.
    pub fn read_sql(&self, database: impl AsRef<Path>, query: &str, options: SqlOptions) -> Result<Dataset> {
        let parts = options.parts(self)?;
        let (path, query) = (database.as_ref().to_owned(), query.to_owned());
        let source = crate::session::blocking(|| Query::open(path, query, options, parts))?;
        self.read_source(source)
    }
}

impl Dataset {
    /// Writes into a table of an SQLite database, in one transaction: all rows or none, in their order. Integers and booleans become `INTEGER`, floats `REAL`, text
    /// `TEXT`, bytes `BLOB`.
    ///
    /// # Errors
    /// [`DataError::Sink`] names the part and the row; a table that is there already is an error, unless [`WriteMode::Overwrite`] replaces it.
    pub fn write_sql(&self, database: impl AsRef<Path>, table: &str, mode: WriteMode) -> Result<()> {
        self.write_sink(Table { database: database.as_ref().to_owned(), name: table.to_owned(), mode })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use air_core::BoxError;
    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

    use super::*;

    #[test]
    fn a_query_is_a_source_and_a_table_a_sink() {
        let fields =
            [("id", DataType::Int64, false), ("text", DataType::Utf8, true), ("x", DataType::Float64, false)];
        let schema =
            Arc::new(Schema::new(fields.map(|(name, kind, null)| Field::new(name, kind, null)).to_vec()));
        let options = SqlOptions { schema: Some(schema), ..SqlOptions::default() };
        struct Kept(tempfile::TempDir);
        impl Kept {
            fn table(&self) -> Table {
                Table { database: self.0.path().join("a.db"), name: "t".to_owned(), mode: WriteMode::Create }
            }
        }
        impl crate::Sink for Kept {
            type Write = <Table as crate::Sink>::Write;
            fn name(&self) -> String {
                self.table().name()
            }
            async fn begin(
                &self,
                schema: &SchemaRef,
                parts: usize,
            ) -> std::result::Result<Self::Write, BoxError> {
                self.table().begin(schema, parts).await
            }
        }
        let session = Session::new(crate::SessionConfig { parallelism: 2, ..Default::default() }).unwrap();
        crate::testing::sink(
            || Kept(tempfile::tempdir().unwrap()),
            |kept| -> Vec<RecordBatch> {
                // A table that nothing was committed to is not there.
                let read = session.read_sql(kept.table().database, "select * from t", options.clone());
                read.and_then(|ds| ds.collect()).unwrap_or_default()
            },
        );

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let ds = session.range(5000).unwrap().map_batches(Ok);
        ds.write_sql(&path, "t", WriteMode::Create).unwrap();
        let query = || "select id, id * 0.5 as half, 'row ' || id as text from t".to_owned();
        for (key, parts) in [(None, 1), (Some("id"), 4)] {
            let options = SqlOptions { partition_by: key.map(str::to_owned), ..SqlOptions::default() };
            crate::testing::source(|| Query::open(path.clone(), query(), options.clone(), parts).unwrap());
        }
    }
}
