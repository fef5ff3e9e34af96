//! What goes wrong, by making it go wrong.

use std::io::{Read, Write};
use std::net::TcpListener;

use air_data::{DataError, Session, SqlOptions, WriteMode};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::parted;
use super::server::{PASSWORD, database};
use crate::{session, told};

/// What is said of a query, which must fail; never with the password.
fn failed(session: &Session, url: &str, query: &str, options: SqlOptions) -> String {
    let read = session.read_postgres(url, query, options);
    let error = told(&read.and_then(|ds| ds.collect()).unwrap_err());
    assert!(!error.contains("hush") && !error.contains(PASSWORD), "{error}");
    error
}

#[test]
fn a_database_that_cannot_be_reached() {
    let Some(db) = database() else { return };
    let session = session();
    let read = |url: &str| failed(&session, url, "select 1 as a", SqlOptions::default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = read(&format!("postgres://me:hush@127.0.0.1:{port}/db"));
    assert!(
        refused.starts_with(&format!("reading the query of postgres://me@127.0.0.1:{port}/db at row 0\n")),
        "{refused}"
    );
    assert!(refused.contains("cannot connect") && refused.contains("Connection refused"), "{refused}");

    let wrong = read(&db.url().replace("hush", "hushed"));
    assert!(
        wrong.contains(
            "password authentication failed for user \"air\" (28P01); check the user and the password"
        ),
        "{wrong}"
    );
    let none = read(&format!("postgres://air@127.0.0.1:{}/{}", db.server.port, db.name));
    assert!(none.contains("the server wants a password, and the URL has none"), "{none}");
    let missing = read(&db.url().replace(&db.name, "nowhere"));
    assert!(
        missing
            .contains("database \"nowhere\" does not exist (3D000); the path of the URL names the database"),
        "{missing}"
    );
    let tls = db.url_with("sslmode=sometimes");
    assert!(matches!(
        session.read_postgres(&tls, "select 1", SqlOptions::default()),
        Err(DataError::Config { .. })
    ));
    assert!(matches!(
        session.range(1).unwrap().write_postgres(&tls, "t", WriteMode::Create),
        Err(DataError::Config { .. })
    ));

    // One that takes connections and says nothing, and one that is no PostgreSQL.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let late = read(&format!("postgres://me:hush@127.0.0.1:{port}/db?connect_timeout=1"));
    assert!(late.contains("no answer within 2 s (connect_timeout in the URL)"), "{late}");
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut socket, _) = web.accept().unwrap();
        let _ = socket.read(&mut [0; 64]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let odd = read(&format!("postgres://me:hush@127.0.0.1:{port}/db?sslmode=disable&connect_timeout=5"));
    assert!(odd.contains("cannot connect"), "{odd}");
    answering.join().unwrap();
}

#[test]
fn a_query_that_is_wrong() {
    let Some(db) = database() else { return };
    db.sql("CREATE TABLE t AS SELECT i AS id, 'x'::text AS name FROM generate_series(1, 10) AS i");
    let session = session();
    let read = |query: &str, key: Option<&str>| {
        let options = key.map_or_else(SqlOptions::default, |key| parted(key, 2));
        failed(&session, &db.url(), query, options)
    };
    for (query, what) in [
        ("select * from nowhere", "relation \"nowhere\" does not exist (42P01) at character 15 of the query"),
        ("select nam from t", "column \"nam\" does not exist (42703) at character 8 of the query"),
        ("selec 1", "syntax error at or near"),
        ("select 'ä', id +", "syntax error"),
        ("select 1; drop table t", "syntax error at or near \";\" (42601) at character 9 of the query"),
        ("select 1) as q; drop table t; select * from (select 1", "cannot insert multiple commands"),
        ("delete from t", "syntax error"),
        ("select id from t where id = $1", "the query has parameters ($1)"),
        (" ; ", "the query is empty"),
        ("select pg_advisory_lock(1), nextval('s')", "relation \"s\" does not exist"),
    ] {
        let error = read(query, None);
        assert!(error.contains(what), "{query}: {error}");
        assert!(error.starts_with(&format!("reading the query of {} at row 0\n", db.shown())), "{error}");
    }
    assert!(
        read("select * from t", Some("name"))
            .contains("'name' is text, and parts are told by an integer column")
    );
    assert!(
        read("select * from t", Some("ident"))
            .contains("the query has no column 'ident' to tell the parts by, but id, name")
    );
    let many = SqlOptions { parts: 1_000_000, ..SqlOptions::default() };
    assert!(failed(&session, &db.url(), "select 1 as a", many).contains("at most 100000"));

    // What a query may do is to read.
    db.sql("CREATE FUNCTION change() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING id'; CREATE SEQUENCE s");
    let error = read("select change() as c", None);
    assert!(error.contains("cannot execute DELETE in a read-only transaction (25006)"), "{error}");
    assert_eq!(db.sql("SELECT count(*) FROM t"), [Some("10".to_owned())]);
    // In the middle of the rows, with the row that did not come.
    let late = read("select 1 / (id - 8) as x from t", None);
    assert!(late.contains(" at row 7\n") && late.contains("division by zero (22012)"), "{late}");
}

#[test]
fn a_connection_that_is_lost_while_rows_come() {
    let Some(db) = database() else { return };
    let session = session();
    // The server ends itself at a row of the second part.
    db.sql(
        "CREATE FUNCTION die() RETURNS bool LANGUAGE plpgsql STABLE AS
         'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN true; END'",
    );
    let query = "select i as id, case when i = 750 then die() end as t from generate_series(0, 999) as i";
    let error = failed(&session, &db.url(), query, parted("id", 2));
    assert!(error.contains(&format!("reading id from 500 of {} at row ", db.shown())), "{error}");
    assert!(error.contains("terminating connection due to administrator command (57P01)"), "{error}");

    // A server that is gone without a word: what stands between cuts the line after some of the rows.
    let upstream = format!("127.0.0.1:{}", db.server.port);
    let between = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = between.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, client) in between.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, std::net::TcpStream::connect(&upstream)) else { return };
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut up, &mut down));
            std::thread::spawn(move || {
                // The first connection only asks what the columns are.
                let most = if number == 0 { u64::MAX } else { 100_000 };
                let (mut from, mut to) = ((&server).take(most), &client);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = client.shutdown(std::net::Shutdown::Both);
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let url = db.url().replace(&format!(":{}/", db.server.port), &format!(":{port}/"));
    let error =
        failed(&session, &url, "select i as id from generate_series(1, 100000) as i", SqlOptions::default());
    assert!(error.contains("the connection was lost"), "{error}");
    let row: u64 = error.split(" at row ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!((1000..100_000).contains(&row), "{error}");
}

#[test]
fn a_write_that_cannot_be() {
    let Some(db) = database() else { return };
    let session = session();
    let ids = session.range(10_000).unwrap().repartition(3);
    let write = |table: &str, mode| {
        let error = told(&ids.write_postgres(&db.url(), table, mode).unwrap_err());
        assert!(!error.contains("hush"), "{error}");
        error
    };
    let missing = write("nowhere.t", WriteMode::Create);
    assert!(
        missing.starts_with(&format!("writing the beginning of nowhere.t of {} at row 0\n", db.shown())),
        "{missing}"
    );
    assert!(missing.contains("schema \"nowhere\" does not exist (3F000)"), "{missing}");
    assert!(write("a.b.c", WriteMode::Create).contains("there are more than two names"));
    db.sql("CREATE TABLE t (id bigint); CREATE VIEW v AS SELECT * FROM t");
    let used = write("t", WriteMode::Overwrite);
    assert!(used.contains("writing the commit of t") && used.contains("view v depends on table t"), "{used}");
    // Somebody else has the table, and the server is told not to wait for long.
    let url = db.url_with("sslmode=disable&options=-c%20lock_timeout%3D50ms");
    db.sql("DROP VIEW v");
    let (locked, done) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let port = db.server.port;
    let name = db.name.clone();
    let holding = std::thread::spawn(move || {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("air").password(PASSWORD).dbname(&name);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
            locked.0.send(()).unwrap();
            let _ = done.1.recv();
        });
    });
    locked.1.recv().unwrap();
    let write = told(&ids.write_postgres(&url, "t", WriteMode::Overwrite).unwrap_err());
    let read = failed(&session, &url, "select * from t", parted("id", 2));
    for error in [write, read] {
        assert!(error.contains("canceling statement due to lock timeout (55P03)"), "{error}");
        assert!(error.contains("; another transaction holds the table"), "{error}");
    }
    drop(done.0);
    holding.join().unwrap();

    // The server ends the session that writes, after some rows.
    let pid = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'air-data'";
    let (url, ended) = (db.url(), std::sync::Arc::new(db));
    let killing = {
        let ended = ended.clone();
        session.range(100_000).unwrap().map_batches(move |batch| {
            let ids = batch.column(0).as_primitive::<Int64Type>().values();
            if ids.last().is_some_and(|id| *id > 50_000) {
                let ended = ended.clone();
                // A thread without a runtime.
                std::thread::spawn(move || ended.sql(pid)).join().unwrap();
            }
            Ok(batch)
        })
    };
    let error = told(&killing.write_postgres(&url, "k", WriteMode::Create).unwrap_err());
    assert!(error.contains("the connection was lost") || error.contains("57P01"), "{error}");
    assert!(error.starts_with("writing "), "{error}");
    // Nothing is left, not even a half.
    let tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(ended.sql(tables), [Some("t".to_owned())]);
    assert_eq!(ended.sql("SELECT count(*) FROM t"), [Some("0".to_owned())]);
}

#[test]
fn nothing_shows_the_password() {
    let Some(db) = database() else { return };
    let session = session();
    let ds = session.read_postgres(&db.url(), "select 1 as a", SqlOptions::default()).unwrap();
    let shown = format!("{} {ds:?}", ds.explain().unwrap());
    assert!(shown.contains(&db.shown()) && !shown.contains("hush"), "{shown}");
}
