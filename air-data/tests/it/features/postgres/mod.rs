//! PostgreSQL, with a server of the tests' own where there is one to start.

mod errors;
mod server;
mod types;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use air_data::{Dataset, Row, Session, SessionConfig, SqlOptions, WriteMode, col, lit};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use crate::{iris, session};
use server::database;

fn parted(key: &str, parts: usize) -> SqlOptions {
    SqlOptions { partition_by: Some(key.to_owned()), parts, ..SqlOptions::default() }
}

fn ids(ds: &Dataset) -> Vec<i64> {
    let batch = ds.select(["id"]).to_batch().unwrap();
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_query_is_read_in_parts_of_its_key() {
    let Some(db) = database() else { return };
    db.sql(
        "CREATE TABLE t AS SELECT i::bigint AS id, CASE WHEN i % 3 > 0 THEN 'n' || i END AS name, i / 4.0::float8 AS x
         FROM generate_series(0, 9999) AS i ORDER BY i % 7, i;
         CREATE TABLE k (k bigint, v text);
         INSERT INTO k VALUES (5, 'e'), (null, 'none'), (-9223372036854775808, 'low'), (9223372036854775807, 'high'), (1, 'a')",
    );
    let session = session();
    let read = |query: &str, options| session.read_postgres(&db.url(), query, options).unwrap();
    let ds = read("select * from t order by id", SqlOptions::default());
    let types: Vec<String> =
        ds.schema().unwrap().fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Utf8", "Float64"]);
    assert_eq!((ds.count().unwrap(), ds.num_blocks().unwrap()), (10_000, 1));
    assert_eq!(ids(&ds), (0..10_000).collect::<Vec<i64>>());

    // A comment at its end and a semicolon do not cut what it is put into.
    let in_parts = read("select * from t where id >= 10 -- all of them\n;", parted("id", 7));
    assert_eq!(in_parts.num_blocks().unwrap(), 7);
    assert_eq!(in_parts.to_batch().unwrap(), ds.filter_expr(col("id").gt_eq(lit(10))).to_batch().unwrap());
    assert_eq!(
        in_parts.select(["name"]).limit(2).take_all::<Option<String>>().unwrap(),
        [Some("n10".to_owned()), Some("n11".to_owned())]
    );
    let two = in_parts.select(["x", "id"]).limit(3).take_all::<Row>().unwrap();
    assert_eq!(two[2].to_string(), r#"{"x":3.0,"id":12}"#);

    // Keys at the ends of what an integer holds, and none.
    let keys = read("select k, v from k", parted("k", 3));
    assert_eq!(keys.num_blocks().unwrap(), 3);
    assert_eq!(keys.select(["v"]).take_all::<String>().unwrap(), ["none", "low", "a", "e", "high"]);
    let empty = read("select * from t where id < 0", parted("id", 4));
    assert_eq!((empty.count().unwrap(), empty.num_blocks().unwrap()), (0, 1));
    assert_eq!(
        read("select 1 as a, 'x' as b", SqlOptions::default()).take::<Row>(1).unwrap()[0].to_string(),
        r#"{"a":1,"b":"x"}"#
    );

    // Rows that came after the parts were told are in the first and the last.
    let later = read("select k, v from k where v <> 'low' and v <> 'high'", parted("k", 2));
    db.sql("INSERT INTO k VALUES (-100, 'before'), (100, 'behind'), (null, 'none, too')");
    let mut found = later.select(["v"]).take_all::<String>().unwrap();
    found[..2].sort();
    assert_eq!(found, ["none", "none, too", "before", "a", "e", "behind"]);
}

#[test]
fn only_the_columns_that_are_wanted_are_computed() {
    let Some(db) = database() else { return };
    db.sql("CREATE TABLE t AS SELECT i::bigint AS id FROM generate_series(1, 10) AS i");
    let ds = session()
        .read_postgres(&db.url(), "select id, 1 / (id - id) as never from t", parted("id", 2))
        .unwrap();
    assert_eq!(ids(&ds), (1..=10).collect::<Vec<i64>>());
    assert_eq!(ds.count().unwrap(), 10);
    let error = crate::told(&ds.select(["never"]).collect().unwrap_err());
    assert!(error.contains("division by zero (22012)"), "{error}");
}

#[test]
fn all_parts_of_a_run_see_one_state() {
    let Some(db) = database() else { return };
    db.sql("CREATE TABLE t AS SELECT i::bigint AS id, 0 AS round FROM generate_series(0, 999) AS i");
    let config = SessionConfig { parallelism: 1, progress: false, ..SessionConfig::default() };
    let session = Session::new(config).unwrap();
    let ds = session.read_postgres(&db.url(), "select * from t", parted("id", 5)).unwrap();
    let rounds = |ds: &Dataset| {
        let rounds = ds.select(["round"]).distinct().take_all::<i32>().unwrap();
        assert_eq!(rounds.len(), 1, "parts of two states: {rounds:?}");
        rounds[0]
    };
    // All rows are changed whenever a batch has come: the run does not see it, the next one does.
    let (db, seen) = (Arc::new(db), Arc::new(AtomicUsize::new(0)));
    let changing = {
        let (db, seen) = (db.clone(), seen.clone());
        ds.map_batches(move |batch| {
            if batch.num_rows() > 0 {
                seen.fetch_add(1, Ordering::Relaxed);
                let db = db.clone();
                // A thread without a runtime.
                std::thread::spawn(move || db.sql("UPDATE t SET round = round + 1")).join().unwrap();
            }
            Ok(batch)
        })
    };
    let batch = changing.to_batch().unwrap();
    let batches = seen.load(Ordering::Relaxed);
    assert!(batches >= 5, "{batches} batches");
    let column = batch.column_by_name("round").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
    assert!(column.values().iter().all(|round| *round == 0), "{column:?}");
    assert_eq!(rounds(&ds), i32::try_from(batches).unwrap());
    // Nobody holds the state any more.
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
    let free = (0..5000).any(|_| db.sql(held) == [Some("0".to_owned())]);
    assert!(free, "a transaction is still open");
}

#[test]
fn many_rows_through_small_batches() {
    let Some(db) = database() else { return };
    db.sql("CREATE TABLE t (id bigint PRIMARY KEY, text text)");
    db.sql(
        "INSERT INTO t SELECT i, repeat(chr(960), (i % 5)::int) || i FROM generate_series(0, 199999) AS i",
    );
    let config =
        SessionConfig { parallelism: 3, batch_rows: 100, progress: false, ..SessionConfig::default() };
    let session = Session::new(config).unwrap();
    for options in [SqlOptions::default(), parted("id", 9)] {
        let ds = session.read_postgres(&db.url(), "select * from t order by id", options).unwrap();
        let mut next = 0;
        for batch in ds.batches(1000).unwrap() {
            let batch = batch.unwrap();
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let text = batch.column(1).as_string::<i32>();
            for row in 0..batch.num_rows() {
                assert_eq!(ids.value(row), next);
                assert_eq!(text.value(row), format!("{}{next}", "π".repeat((next % 5) as usize)));
                next += 1;
            }
        }
        assert_eq!(next, 200_000);
        // Written in blocks, several at once, they are in their order.
        ds.write_postgres(&db.url(), "copy", WriteMode::Overwrite).unwrap();
        assert_eq!(db.sql("SELECT count(*) FROM copy JOIN t USING (id, text)"), [Some("200000".to_owned())]);
        let turned = "SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY ctid) AS before FROM copy) AS q WHERE before >= id";
        assert_eq!(db.sql(turned), [Some("0".to_owned())]);
    }
}

#[test]
fn a_table_there_and_back() {
    let Some(db) = database() else { return };
    db.sql("CREATE SCHEMA \"S.1\"");
    let (session, table) = (session(), r#""S.1"."iris ""x""""#);
    let flowers = iris(&session).repartition(4);
    flowers.write_postgres(&db.url(), table, WriteMode::Create).unwrap();
    let back =
        session.read_postgres(&db.url(), &format!("select * from {table}"), SqlOptions::default()).unwrap();
    assert_eq!(back.to_batch().unwrap().columns(), flowers.to_batch().unwrap().columns());
    let error = crate::told(&flowers.write_postgres(&db.url(), table, WriteMode::Create).unwrap_err());
    assert!(error.contains("already exists (42P07); WriteMode::Overwrite replaces it"), "{error}");

    let failing = flowers
        .filter(|row: &Row| if row.f64("petal.length") == Some(6.9) { Err("no".into()) } else { Ok(true) });
    assert!(failing.write_postgres(&db.url(), table, WriteMode::Overwrite).is_err());
    assert_eq!(back.count().unwrap(), 150, "a write that fails changes nothing");
    assert!(failing.write_postgres(&db.url(), "fresh", WriteMode::Create).is_err());
    flowers.limit(3).write_postgres(&db.url(), table, WriteMode::Overwrite).unwrap();
    assert_eq!(back.count().unwrap(), 3);
    // Not even a table under another name is left.
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'S.1')";
    assert_eq!(db.sql(tables), [Some("1".to_owned())]);

    // A dataset may be read out of the table that it replaces.
    back.limit(2).write_postgres(&db.url(), table, WriteMode::Overwrite).unwrap();
    assert_eq!(back.count().unwrap(), 2);
}

#[test]
fn over_tls_and_over_a_socket() {
    let Some(db) = database() else { return };
    let session = session();
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let ca = db.server.dir().join("ca.pem").display().to_string();
    let read = |url: &str| {
        let ds = session.read_postgres(url, encrypted, SqlOptions::default());
        ds.and_then(|ds| ds.take_all::<bool>()).map(|rows| rows[0])
    };
    for (settings, wanted) in
        [("", true), ("sslmode=prefer", true), ("sslmode=require", true), ("sslmode=disable", false)]
    {
        assert_eq!(read(&db.url_with(settings)).unwrap(), wanted, "{settings}");
    }
    let localhost = |settings: &str| db.url_with(settings).replace("127.0.0.1", "localhost");
    assert!(read(&localhost(&format!("sslmode=verify-full&sslrootcert={ca}"))).unwrap());
    // Nobody on this machine vouches for it, and the address has no certificate.
    for (url, what) in [
        (localhost("sslmode=verify-full"), "UnknownIssuer"),
        (db.url_with(&format!("sslmode=verify-full&sslrootcert={ca}")), "127.0.0.1"),
        (db.url_with("sslmode=verify-ca"), "expected disable, prefer, require"),
        (db.url_with("sslmode=require&sslrootcert=/nowhere.pem"), "sslrootcert /nowhere.pem"),
    ] {
        let error = crate::told(&read(&url).unwrap_err());
        assert!(error.contains(what) && !error.contains("hush"), "{error}");
    }
    session
        .range(10)
        .unwrap()
        .write_postgres(&db.url_with("sslmode=require"), "t", WriteMode::Create)
        .unwrap();
    assert_eq!(db.sql("SELECT sum(id)::text FROM t"), [Some("45".to_owned())]);

    let socket = db.url().replace("127.0.0.1", &db.server.dir().display().to_string().replace('/', "%2F"));
    for url in [socket.clone(), socket.replace("sslmode=disable", "")] {
        assert!(!read(&url).unwrap());
    }
}
