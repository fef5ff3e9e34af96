//! Writes that go on from where an earlier one was cut off.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use air_data::{Dataset, FileFormat, Join, Session, WriteMode, WriteOptions, agg};

use super::{session, told};

const ROWS: u64 = 8000;
const BLOCKS: u64 = 8;

fn options() -> WriteOptions {
    WriteOptions { resume: true, ..WriteOptions::default() }
}

fn place(dir: &Path) -> String {
    dir.join("out").to_str().unwrap().to_owned()
}

/// Numbers in eight blocks; `seen` is told of each.
fn numbers(
    session: &Session,
    seen: impl Fn(i64) -> Result<(), &'static str> + Send + Sync + 'static,
) -> Dataset {
    session.range(ROWS).unwrap().repartition(BLOCKS as usize).map(move |id: i64| {
        seen(id)?;
        Ok(id)
    })
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn all_are_there(session: &Session, dir: &Path) {
    let parts: Vec<String> = (0..BLOCKS).map(|part| format!("part-{part:05}.parquet")).collect();
    assert_eq!(names(&dir.join("out")), parts);
    assert_eq!(names(dir), ["out"], "nothing else is left");
    let back: Vec<i64> = session.read_parquet(place(dir)).unwrap().take_all().unwrap();
    assert_eq!(back, (0..ROWS as i64).collect::<Vec<_>>());
}

#[test]
fn what_a_killed_process_had_complete_is_not_computed_again() {
    let write = |dir: &Path, ds: &Dataset| ds.write(&place(dir), FileFormat::Parquet, options());
    if let Some(dir) = std::env::var_os("AIR_TEST_RESUME") {
        // Two blocks are under way at once: when the sixth begins, the first four are complete.
        let ds = numbers(&session(), |id| {
            if id == 5500 {
                Command::new("sh").args(["-c", "kill -9 $PPID"]).status().unwrap();
            }
            Ok(())
        });
        write(Path::new(&dir), &ds).unwrap();
        unreachable!("it was killed");
    }
    let dir = tempfile::tempdir().unwrap();
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resume::what_a_killed_process_had_complete_is_not_computed_again", "--nocapture"])
        .env("AIR_TEST_RESUME", dir.path())
        .output()
        .unwrap();
    assert_eq!(run.status.code(), None, "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(names(dir.path()), [".out.unfinished"], "nothing is visible");
    let session = session();
    let complete = names(&dir.path().join(".out.unfinished/parts")).len() as u64;
    assert!((4..=6).contains(&complete), "{complete}");

    let (count, least) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI64::new(i64::MAX)));
    let (counted, smallest) = (count.clone(), least.clone());
    let ds = numbers(&session, move |id| {
        counted.fetch_add(1, Ordering::Relaxed);
        smallest.fetch_min(id, Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(write(dir.path(), &ds).unwrap().len() as u64, BLOCKS);
    assert_eq!(count.load(Ordering::Relaxed), ROWS - complete * (ROWS / BLOCKS));
    assert!(least.load(Ordering::Relaxed) >= 4000);
    all_are_there(&session, dir.path());
}

#[test]
fn a_write_that_failed_goes_on_and_one_of_other_rows_is_refused() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let failing = numbers(&session, |id| if id == 6500 { Err("not this one") } else { Ok(()) });
    let error = failing.write(&place(dir.path()), FileFormat::Parquet, options()).unwrap_err();
    assert!(told(&error).contains("not this one"), "{error}");
    assert_eq!(names(dir.path()), [".out.unfinished"]);

    let refused = |ds: &Dataset, format, options: WriteOptions, what: &str| {
        let error = ds.write(&place(dir.path()), format, options).unwrap_err().to_string();
        assert!(error.contains("resume") && error.contains(what), "{error}");
    };
    let fixed = numbers(&session, |_| Ok(()));
    refused(&fixed.repartition(3), FileFormat::Parquet, options(), "the number of blocks");
    refused(&fixed.rename_columns([("id", "n")]), FileFormat::Parquet, options(), "the columns");
    refused(&fixed, FileFormat::Ipc, options(), "the format");
    refused(
        &fixed,
        FileFormat::Parquet,
        WriteOptions { row_group_rows: Some(10), ..options() },
        "the settings",
    );
    refused(&fixed.map(|id: i64| Ok(id + 1)), FileFormat::Parquet, options(), "the rows come about");

    fixed.write(&place(dir.path()), FileFormat::Parquet, options()).unwrap();
    all_are_there(&session, dir.path());
    let again = fixed.write(&place(dir.path()), FileFormat::Parquet, options()).unwrap_err();
    assert!(told(&again).contains("already exists"), "{again}");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn directories_by_columns_over_what_is_there_and_blocks_without_rows() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = place(dir.path());
    session.range(5).unwrap().write_csv(&path).unwrap();
    let by = WriteOptions { mode: WriteMode::Overwrite, partition_by: vec!["kind".to_owned()], ..options() };
    let rows = |fails: bool| {
        let ds = session.range(900).unwrap().with_column("kind", air_data::col("id") % air_data::lit(3));
        ds.repartition(6).filter(move |row: &Row| match row.id {
            800 if fails => Err("cut off".into()),
            // The first block has none.
            id => Ok(id >= 200),
        })
    };
    rows(true).write(&path, FileFormat::Parquet, by.clone()).unwrap_err();
    assert_eq!(session.read_csv(&path).unwrap().count().unwrap(), 5, "what was there is there");
    rows(false).write(&path, FileFormat::Parquet, by).unwrap();
    assert_eq!(names(&dir.path().join("out")), ["kind=0", "kind=1", "kind=2"]);
    let back = session.read_parquet(&path).unwrap().sort(["id"]);
    assert_eq!(
        back.take_all::<Row>().unwrap().iter().map(|row| row.id).collect::<Vec<_>>(),
        (200..900).collect::<Vec<_>>()
    );
    assert_eq!(names(dir.path()), ["out"]);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Row {
    id: i64,
    kind: i64,
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_at_once() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let numbers = session.range(100_000).unwrap();
    let refused = |ds: &Dataset, path: &str, what: &str| {
        let error = ds.write(path, FileFormat::Parquet, options()).unwrap_err().to_string();
        assert!(error.contains("resume") && error.contains(what), "{error}");
    };
    refused(&numbers, dir.path().join("one.parquet").to_str().unwrap(), "a directory on a local disk");
    let groups = numbers.repartition(3).group_by(["id"]).aggregate([agg::count().alias("n")]);
    refused(&groups, &place(dir.path()), "sort the rows");
    let joined = numbers.repartition(3).join(&numbers.repartition(3), Join::left(["id"]));
    refused(&joined, &place(dir.path()), "sort the rows");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn one_process_at_a_time_writes_it() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let (path, inside) = (place(dir.path()), Arc::new(AtomicU64::new(0)));
    let (other, asked) = (numbers(&super::session(), |_| Ok(())), inside.clone());
    let there = path.clone();
    let ds = numbers(&session, move |id| {
        if id == 1500 {
            let error = other.write(&there, FileFormat::Parquet, options()).unwrap_err().to_string();
            asked.fetch_add(u64::from(error.contains("is being written already")), Ordering::Relaxed);
        }
        Ok(())
    });
    ds.write(&path, FileFormat::Parquet, options()).unwrap();
    assert_eq!(inside.load(Ordering::Relaxed), 1);
    all_are_there(&session, dir.path());
}
