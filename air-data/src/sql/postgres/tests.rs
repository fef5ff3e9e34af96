//! The suites that every source and every sink passes, with a server where there is one to start.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../tests/it/features/postgres/server.rs"]
mod server;

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::*;
use crate::SessionConfig;
use crate::sink::Sink;

fn session() -> Session {
    Session::new(SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() }).unwrap()
}

#[test]
fn a_query_is_a_source() {
    let Some(db) = server::database() else { return };
    let session = session();
    db.sql(
        "CREATE TABLE t AS SELECT i::bigint AS id, CASE WHEN i % 7 > 0 THEN 'row ' || i END AS text, i / 8.0::float8 AS x, ARRAY[i, NULL] AS list
         FROM generate_series(0, 4999) AS i",
    );
    for (key, parts) in [(None, 1), (Some("id"), 4)] {
        let options = SqlOptions { partition_by: key.map(str::to_owned), ..SqlOptions::default() };
        crate::testing::source(|| {
            let (database, options) = (Database::parse(&db.url()).unwrap(), options.clone());
            let opened = async move { rows(database, "select * from t", &options, parts).await };
            session.block_on(opened).unwrap()
        });
    }
}

#[test]
fn a_table_is_a_sink() {
    let Some(db) = server::database() else { return };
    let session = session();
    let disk = session.context().runtime_env().disk_manager.clone();
    let tables = std::sync::atomic::AtomicUsize::new(0);
    for mode in [WriteMode::Create, WriteMode::Overwrite] {
        let make = || {
            let number = tables.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (database, disk) = (Database::parse(&db.url()).unwrap(), disk.clone());
            Table { database, name: format!("t{number}"), mode, disk }
        };
        crate::testing::sink(make, |table| -> Vec<RecordBatch> {
            let query = format!("select * from {}", table.name);
            // A table that nothing was committed to is not there.
            let read = session.read_postgres(&db.url(), &query, SqlOptions::default());
            read.and_then(|ds| ds.collect()).unwrap_or_default()
        });
    }
}

#[test]
fn parts_in_any_order_go_through_disk_and_are_written_in_theirs() {
    let Some(db) = server::database() else { return };
    let session = session();
    let disk = session.context().runtime_env().disk_manager.clone();
    let table = Table {
        database: Database::parse(&db.url()).unwrap(),
        name: "t".to_owned(),
        mode: WriteMode::Create,
        disk,
    };
    let rows = session.range(30_000).unwrap().to_batch().unwrap();
    let schema: SchemaRef = rows.schema();
    let part = move |number: usize| rows.slice(10_000 * number, 10_000);
    let steps = async move {
        use crate::sink::{SinkPart, SinkWrite};
        let write = Arc::new(table.begin(&schema, 3).await?);
        let (mut last, mut middle, mut first) =
            (write.open(2).await?, write.open(1).await?, write.open(0).await?);
        last.write(&part(2)).await?;
        last.finish().await?;
        middle.write(&part(1).slice(0, 5000)).await?;
        first.write(&part(0)).await?;
        first.finish().await?;
        middle.write(&part(1).slice(5000, 5000)).await?;
        middle.finish().await?;
        write.commit(Vec::new()).await?;
        Ok::<_, BoxError>(())
    };
    session.block_on(async move { Ok(steps.await) }).unwrap().unwrap();
    let back = session.read_postgres(&db.url(), "select * from t", SqlOptions::default()).unwrap();
    assert_eq!(back.take_all::<i64>().unwrap(), (0..30_000).collect::<Vec<i64>>());
}
