//! Object stores: an S3 on loopback that fails on demand, and, where there is one, moto's.

mod moto;
mod server;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use air_data::{
    DataError, FileFormat, ReadOptions, Session, SessionConfig, StorageConfig, WriteMode, WriteOptions,
};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::future::Either;
use server::{Fault, Server};

use super::told;

const SLOW_DOWN: Fault = Fault::Status(503, "SlowDown");

fn with(options: &[(&str, &str)], max_retries: usize) -> Session {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let storage =
        StorageConfig { options: options.collect(), max_retries, retry_timeout: Duration::from_mins(1) };
    let config = SessionConfig { parallelism: 2, progress: false, storage, ..SessionConfig::default() };
    Session::new(config).unwrap()
}

fn session(server: &Server) -> Session {
    with(
        &[
            ("aws_endpoint", &server.endpoint),
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", "secret"),
            ("aws_region", "eu-west-1"),
        ],
        3,
    )
}

fn numbers(rows: i64) -> Vec<RecordBatch> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|n| n * 7919 % 1_000_003)));
    vec![RecordBatch::try_from_iter([("n", column)]).unwrap()]
}

fn sum(ds: &air_data::Dataset) -> i64 {
    ds.sum("n").unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let server = Server::start().signed_by("key");
    let session = session(&server);
    let ds = session.from_batches(numbers(10_000)).unwrap();
    let files = ds.repartition(3).write_parquet("s3://bucket/out").unwrap();
    assert_eq!(files[2], "s3://bucket/out/part-00002.parquet");
    assert_eq!(server.keys(), ["out/part-00000.parquet", "out/part-00001.parquet", "out/part-00002.parquet"]);
    assert_eq!(server.open_uploads(), 0);
    // A directory, with and without its slash; a pattern; files in a list.
    for path in ["s3://bucket/out/", "s3://bucket/out", "s3://bucket/*/part-*.parquet"] {
        let back = session.read_parquet(path).unwrap();
        assert_eq!((back.count().unwrap(), sum(&back)), (10_000, sum(&ds)), "{path}");
    }
    let two = session.read_parquet(vec![files[2].clone(), files[0].clone()]).unwrap();
    assert_eq!(two.input_files().unwrap(), [files[2].clone(), files[0].clone()]);

    let error = ds.write_parquet("s3://bucket/out").unwrap_err();
    assert!(matches!(error.root(), DataError::Exists { path } if path == "s3://bucket/out"), "{error}");
    let over = WriteOptions { mode: WriteMode::Overwrite, ..WriteOptions::default() };
    ds.write("s3://bucket/out", FileFormat::Parquet, over).unwrap();
    assert_eq!(server.keys(), ["out/part-00000.parquet"], "what was there before is gone");
    assert!(
        server.authorization().contains("Credential=key/")
            && server.authorization().contains("/eu-west-1/s3/")
    );
}

#[test]
fn keys_with_odd_characters_are_themselves() {
    let server = Server::start();
    let session = session(&server);
    for key in ["a b.csv", "ü+&=.csv", "c#1.csv", "semi;colon'.csv"] {
        server.put(key, "n\n1\n");
        let ds = session.read_csv(format!("s3://bucket/{key}")).unwrap();
        assert_eq!((sum(&ds), ds.input_files().unwrap()), (1, vec![format!("s3://bucket/{key}")]));
    }
    assert_eq!(sum(&session.read_csv("s3://bucket/*.csv").unwrap()), 4);
}

#[test]
fn ten_thousand_keys_are_listed_in_pages_and_patterns_choose_among_them() {
    let server = Server::start();
    for n in 0..10_000 {
        server.put(&format!("logs/{}/{n:05}.csv", n % 10), format!("n\n{n}\n"));
    }
    let session = session(&server);
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let read = |path: &str| {
        let options = ReadOptions { schema: Some(schema.clone()), ..ReadOptions::default() };
        session.read_with(path, FileFormat::Csv(air_data::CsvOptions::default()), options).unwrap()
    };
    let all = read("s3://bucket/logs").input_files().unwrap();
    assert_eq!((all.len(), all[9_999].as_str()), (10_000, "s3://bucket/logs/9/09999.csv"));
    assert_eq!(server.asked("GET", "list-type=2"), 10);
    // A page that is refused, one that breaks off, and a connection that is closed: the listing goes on where it was.
    server.fail_after(2, "GET", "list-type=2", 1, SLOW_DOWN);
    server.fail_after(4, "GET", "list-type=2", 2, Fault::Cut);
    server.fail_after(6, "GET", "list-type=2", 1, Fault::Drop);
    assert_eq!(read("s3://bucket/logs/").input_files().unwrap(), all);
    assert_eq!(
        sum(&read("s3://bucket/logs/3/0?[01]*3.csv")),
        (0..10_000).filter(|n| n % 10 == 3 && n / 100 % 10 < 2).sum::<i64>()
    );
    assert_eq!(read("s3://bucket/**/0000?.csv").count().unwrap(), 10);
    assert_eq!(
        told(&session.read_csv("s3://bucket/logs/*.parquet").unwrap_err()),
        "no file at s3://bucket/logs/*.parquet"
    );
}

#[test]
fn a_large_file_goes_in_parts() {
    let server = Server::start();
    let session = session(&server);
    let ds = session.from_batches(numbers(3_000_000)).unwrap();
    server.fail_after(1, "PUT", "partNumber", 1, SLOW_DOWN);
    server.fail_after(3, "PUT", "partNumber", 1, Fault::Drop);
    server.fail("POST", "uploadId", 1, Fault::Status(500, "InternalError"));
    assert_eq!(ds.write_ipc("s3://bucket/large.arrow").unwrap(), ["s3://bucket/large.arrow"]);
    assert!(server.asked("PUT", "partNumber=5&") >= 1, "24 MB in parts of 5 MiB");
    assert_eq!((server.open_uploads(), server.keys()), (0, vec!["large.arrow".to_owned()]));
    assert!(server.get("large.arrow").unwrap().len() > 24_000_000);
    // Answers that break off go on behind what has come.
    server.fail("GET", "large.arrow", 2, Fault::Cut);
    server.fail("HEAD", "large.arrow", 1, Fault::Drop);
    assert_eq!(sum(&session.read_ipc("s3://bucket/large.arrow").unwrap()), sum(&ds));
}

#[test]
fn nothing_is_visible_of_a_write_that_failed() {
    let server = Server::start();
    let session = session(&server);
    let ds = session.from_batches(numbers(1_000_000)).unwrap().repartition(4);
    // In the rows.
    let bad = ds.map_batches(|batch| if batch.num_rows() == 0 { Ok(batch) } else { Err("no".into()) });
    assert!(bad.write_ipc("s3://bucket/out").is_err());
    assert_eq!((server.keys().len(), server.open_uploads()), (0, 0));
    // In a part.
    server.fail_after(2, "PUT", "partNumber", 1, Fault::Status(403, "AccessDenied"));
    let error = ds.write_ipc("s3://bucket/out").unwrap_err();
    let text = told(&error);
    assert!(
        matches!(error.root(), DataError::Write { path, .. } if path.starts_with("s3://bucket/out/part-0000")),
        "{text}"
    );
    assert!(text.contains("403 Forbidden") || text.contains("403 "), "{text}");
    assert!(text.contains("(AccessDenied: because); give credentials"), "{text}");
    assert_eq!((server.keys().len(), server.open_uploads()), (0, 0));
    // When the third of four files gets its name.
    server.fail_after(2, "POST", "uploadId", 1, Fault::Status(403, "AccessDenied"));
    let error = told(&ds.write_ipc("s3://bucket/out").unwrap_err());
    assert!(error.starts_with("writing s3://bucket/out/part-00002.arrow"), "{error}");
    assert_eq!(
        (server.keys(), server.open_uploads()),
        (Vec::new(), 0),
        "those that had theirs are taken back"
    );
    // And the session goes on.
    assert_eq!(ds.write_ipc("s3://bucket/out").unwrap().len(), 4);
}

#[test]
fn a_write_that_is_given_up_is_taken_back() {
    let server = Server::start();
    let session = session(&server);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    // The first batch goes through, so that there is an upload; nothing else does.
    let ds = session.range(100_000).unwrap().map_batches(move |batch| {
        if batch.num_rows() > 0 && batch.column(0).as_primitive::<Int64Type>().value(0) > 0 {
            let _ = held.lock().recv();
        }
        Ok(batch)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let write = Box::pin(ds.write_async("s3://bucket/out", FileFormat::Ipc, WriteOptions::default()));
        let begun = Box::pin(async {
            while server.open_uploads() == 0 {
                tokio::task::yield_now().await;
            }
        });
        if let Either::Left((ended, _)) = futures::future::select(write, begun).await {
            panic!("it waits for ever: {ended:?}");
        }
    });
    drop(hold);
    // On threads of its own.
    let began = Instant::now();
    while server.open_uploads() > 0 {
        assert!(began.elapsed() < Duration::from_mins(2), "it is aborted");
        std::thread::yield_now();
    }
    assert_eq!(server.keys().len(), 0);
}

#[test]
fn a_store_that_stays_slow_is_told_with_what_to_do() {
    let server = Server::start();
    let session = session(&server);
    server.put("dir/a.csv", "n\n1\n");
    server.fail("GET", "list-type=2", 100, SLOW_DOWN);
    let error = session.read_csv("s3://bucket/dir/").unwrap_err();
    assert!(matches!(error.root(), DataError::Storage { status: Some(503), .. }), "{error:?}");
    let text = told(&error);
    assert!(text.starts_with("cannot list s3://bucket/dir/\n  caused by: 503 "), "{text}");
    assert!(text.contains("(SlowDown: because) after 3 retries; the store takes fewer requests"), "{text}");
    assert_eq!(server.asked("GET", "list-type=2"), 4);
    // In the middle of reading.
    let ds = session.read_csv("s3://bucket/dir/a.csv").unwrap();
    server.fail("GET", "a.csv", 100, Fault::Status(500, "InternalError"));
    let text = told(&ds.collect().unwrap_err());
    assert!(text.starts_with("reading s3://bucket/dir/a.csv\n  caused by: 500 "), "{text}");
    assert!(text.contains("(InternalError: because) after 3 retries; the store failed"), "{text}");
}

#[test]
fn who_may_not_is_told_how_to_say_who_they_are() {
    let server = Server::start().signed_by("right");
    server.put("a.csv", "n\n1\n");
    let endpoint = ("aws_endpoint", server.endpoint.as_str());
    let wrong = with(&[endpoint, ("aws_access_key_id", "wrong"), ("aws_secret_access_key", "x")], 1);
    for error in
        [wrong.read_csv("s3://bucket/a.csv").unwrap_err(), wrong.read_csv("s3://bucket/*.csv").unwrap_err()]
    {
        assert!(matches!(error.root(), DataError::Storage { status: Some(403), .. }), "{error:?}");
        let text = told(&error);
        assert!(text.contains("s3://bucket/") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
        assert!(text.contains("aws_skip_signature=true"), "{text}");
    }
    // Nobody says who it is, and the machine is none of Amazon's.
    let nobody = with(&[endpoint, ("aws_metadata_endpoint", "http://127.0.0.1:1")], 0);
    let text = told(&nobody.read_csv("s3://bucket/a.csv").unwrap_err());
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");

    let public = Server::start();
    public.put("a.csv", "n\n5\n");
    let anonymous = with(&[("aws_endpoint", &public.endpoint), ("aws_skip_signature", "true")], 1);
    assert_eq!(sum(&anonymous.read_csv("s3://bucket/a.csv").unwrap()), 5);
    assert_eq!(public.authorization(), "");
}

#[test]
fn what_is_not_there_is_told() {
    let server = Server::start();
    let session = session(&server);
    let text = told(&session.read_csv("s3://bucket/no.csv").unwrap_err());
    assert_eq!(text, "no file at s3://bucket/no.csv");
    let text = told(&session.read_csv("s3://nobody/no/*.csv").unwrap_err());
    assert!(
        text.starts_with("cannot list s3://nobody/no/*.csv") && text.contains("(NoSuchBucket: because)"),
        "{text}"
    );
    assert!(text.contains("check the bucket's name, and the endpoint"), "{text}");
    let away = with(&[("aws_endpoint", "http://127.0.0.1:1"), ("aws_skip_signature", "true")], 1);
    let text = told(&away.read_csv("s3://bucket/no.csv").unwrap_err());
    assert!(text.contains("cannot look at s3://bucket/no.csv") && text.contains("after 1 retries"), "{text}");
    assert!(text.contains("refused") && text.contains("check the network, and the endpoint"), "{text}");
}

#[test]
fn the_bucket_may_be_in_the_host_s_name() {
    let server = Server::start().virtual_hosted();
    server.put("dir/a.csv", "n\n3\n");
    let options = [
        ("aws_endpoint", server.endpoint.as_str()),
        ("aws_virtual_hosted_style_request", "true"),
        ("aws_skip_signature", "true"),
    ];
    assert_eq!(sum(&with(&options, 1).read_csv("s3://bucket/dir/").unwrap()), 3);
    assert!(server.asked("GET", "bucket") == 0 && server.asked("GET", "/dir/a.csv") > 0);
}

#[test]
fn the_environment_says_it_too_and_may_hold_anything() {
    use std::os::unix::ffi::OsStrExt as _;

    let server = Server::start().signed_by("from-env");
    server.put("a.csv", "n\n41\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-data"));
    let run = |command: &mut Command| command.args(["head", "s3://bucket/a.csv"]).output().unwrap();
    command.env_remove("AWS_SESSION_TOKEN").env("AWS_ENDPOINT_URL", &server.endpoint);
    command
        .env("AWS_ACCESS_KEY_ID", "from-env")
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .env("AWS_REGION", "ap-south-2");
    // Not text: no reason to panic.
    command
        .env("AWS_ODD", std::ffi::OsStr::from_bytes(b"\xff"))
        .env("ODD", std::ffi::OsStr::from_bytes(b"\xfe"));
    let output = run(&mut command);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "{\"n\":41}\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(server.authorization().contains("/ap-south-2/s3/"));
}

#[test]
fn other_stores_are_understood_and_refuse_clearly() {
    let server = Server::start().signed_by("nobody-here");
    server.put("a.csv", "n\n1\n");
    // Each speaks its own dialect, and all of them say 403 with a status line.
    let azure = with(
        &[
            ("azure_endpoint", server.endpoint.as_str()),
            ("azure_storage_account_name", "account"),
            ("azure_skip_signature", "true"),
        ],
        0,
    );
    let text = told(&azure.read_csv("az://container/a.csv").unwrap_err());
    assert!(
        text.starts_with("cannot look at az://container/a.csv")
            && text.contains("AZURE_STORAGE_ACCOUNT_NAME"),
        "{text}"
    );
    let google = with(&[("google_base_url", &server.endpoint), ("google_skip_signature", "true")], 0);
    let text = told(&google.read_csv("gs://bucket/a.csv").unwrap_err());
    assert!(
        text.starts_with("cannot look at gs://bucket/a.csv") && text.contains("GOOGLE_SERVICE_ACCOUNT"),
        "{text}"
    );
    let web = with(&[], 0);
    let text = told(&web.read_csv(format!("{}/bucket/a.csv", server.endpoint)).unwrap_err());
    assert!(text.contains("403 ") && text.contains("a URL cannot carry"), "{text}");
    let text = told(&web.read_csv(format!("{}/bucket/*.csv", server.endpoint)).unwrap_err());
    assert!(text.contains("name each file"), "{text}");
    let text = told(&web.read_csv("hdfs://host/a.csv").unwrap_err());
    assert!(text.starts_with("cannot use path hdfs://host/a.csv: unknown scheme `hdfs`; expected"), "{text}");
    let ds = web.range(1).unwrap();
    let text = told(&ds.write_csv(format!("{}/out", server.endpoint)).unwrap_err());
    assert!(text.contains("a web server takes no files"), "{text}");
    let options = BTreeMap::from([("aws_regoin".to_owned(), "x".to_owned())]);
    let storage = StorageConfig { options, ..StorageConfig::default() };
    let error = Session::new(SessionConfig { storage, ..SessionConfig::default() }).unwrap_err();
    assert!(
        told(&error).starts_with("bad setting storage.options: no store has a setting `aws_regoin`"),
        "{error}"
    );
}
