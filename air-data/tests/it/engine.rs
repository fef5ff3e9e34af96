//! How datasets run: order, early stop, push-down, threads, memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use air_data::{DataError, FileFormat, Session, SessionConfig, WriteOptions, col, lit};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};

use super::{example, session, told};

#[test]
fn order_survives_many_blocks_and_many_threads() {
    let session = Session::new(SessionConfig {
        parallelism: 4,
        batch_rows: 7,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds =
        session.range(1000).unwrap().repartition(13).map(|x: i64| Ok(x + 1)).filter(|x: &i64| Ok(x % 3 == 0));
    let expected: Vec<i64> = (1..=1000).filter(|x| x % 3 == 0).collect();
    assert_eq!(ds.take_all::<i64>().unwrap(), expected);
}

#[test]
fn a_limit_stops_the_source_early() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let ds = session().range(100_000_000).unwrap().filter(move |x: &i64| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(x % 2 == 0)
    });
    assert_eq!(ds.take::<i64>(3).unwrap(), [0, 2, 4]);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen <= 20 * 8192, "{seen} rows were filtered to find three");
}

#[test]
fn a_limit_goes_below_maps() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let ds = session().range(1_000_000).unwrap().map(move |x: i64| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(x * 3)
    });
    assert_eq!(ds.take::<i64>(4).unwrap(), [0, 3, 6, 9]);
    assert_eq!(seen.load(Ordering::Relaxed), 4);
}

#[test]
fn expressions_are_pushed_into_parquet() {
    let ds = session()
        .read_parquet(example("iris.parquet"))
        .unwrap()
        .filter_expr(col("petal.length").gt(lit(6.5)))
        .select(["sepal.length", "variety"]);
    let plan = ds.explain().unwrap();
    let scan = plan.lines().rfind(|line| line.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("predicate=petal.length@2 > 6.5"), "{scan}");
    assert!(scan.contains("projection=[sepal.length, variety]"), "{scan}");
    assert!(!plan.contains("FilterExec"), "the scan itself filters:\n{plan}");
    assert_eq!(ds.count().unwrap(), 4);
}

#[derive(Serialize, Deserialize)]
struct Petal {
    #[serde(rename = "petal.length")]
    length: f64,
}

#[test]
fn a_closure_over_a_struct_reads_only_its_columns() {
    let ds = session().read_parquet(example("iris.parquet")).unwrap().map(|p: Petal| Ok(p.length * 2.0));
    let plan = ds.explain().unwrap();
    let scan = plan.lines().rfind(|line| line.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("projection=[petal.length]"), "{scan}");
    assert_eq!(ds.take::<f64>(1).unwrap(), [2.8]);
}

#[test]
fn neighbouring_closures_are_one_node() {
    let ds = session()
        .range(10)
        .unwrap()
        .map(|x: i64| Ok(x))
        .filter(|x: &i64| Ok(*x > 2))
        .flat_map(|x: i64| Ok(vec![x]));
    let plan = ds.explain().unwrap();
    let runs = plan.split_once("\nruns\n").unwrap().1;
    assert!(runs.lines().any(|line| line.trim() == "map → filter → flat_map"), "{plan}");
    assert_eq!(runs.matches("map").count(), 2, "{plan}");
}

#[test]
fn no_exchange_of_another_order_sits_in_a_plan() {
    let session = session();
    let ds = session
        .range(5_000_000)
        .unwrap()
        .map(|x: i64| Ok(x))
        .limit(10)
        .repartition(3)
        .filter_expr(col("id").gt(lit(2)));
    let plan = ds.explain().unwrap();
    assert!(!plan.contains("RepartitionExec") && !plan.contains("CoalescePartitionsExec"), "{plan}");
    assert!(plan.contains("merge, window"), "{plan}");
    assert_eq!(ds.take_all::<i64>().unwrap(), [3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn blocks_past_the_memory_limit_go_to_disk_and_come_back() {
    let spill = tempfile::tempdir().unwrap();
    let session = Session::new(SessionConfig {
        parallelism: 2,
        memory_limit_bytes: 1 << 20,
        spill_dir: Some(spill.path().to_path_buf()),
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds = session.range(1_000_000).unwrap().map(|x: i64| Ok(x * 2)).repartition(7);
    let mut rows = 0_i64;
    for batch in ds.batches(10_000).unwrap() {
        let batch = batch.unwrap();
        let ids = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0));
        for id in ids.values() {
            assert_eq!(*id, rows * 2);
            rows += 1;
        }
    }
    assert_eq!(rows, 1_000_000);
}

#[test]
fn a_materialized_dataset_runs_once() {
    let runs = Arc::new(AtomicU64::new(0));
    let counter = runs.clone();
    let ds = session().range(10).unwrap().filter(move |_: &i64| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    });
    let kept = ds.materialize();
    assert_eq!(runs.load(Ordering::Relaxed), 0, "nothing runs before a terminal");
    assert_eq!(kept.count().unwrap(), 10);
    assert_eq!(kept.take_all::<i64>().unwrap().len(), 10);
    assert_eq!(runs.load(Ordering::Relaxed), 10);
}

#[test]
fn fewer_blocks_than_shares_deal_rows() {
    let shares = session().range(10).unwrap().split(3);
    let rows: Vec<Vec<i64>> = shares.iter().map(|share| share.take_all().unwrap()).collect();
    assert_eq!(rows, [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]]);
}

#[test]
fn a_panic_in_a_closure_is_an_error_with_its_place() {
    let ds =
        session().range(100).unwrap().map(|x: i64| if x == 42 { panic!("no {x} please") } else { Ok(x) });
    let error = ds.count().unwrap_err();
    // Counting needs no values, yet the rows are computed.
    assert!(matches!(error.root(), DataError::Panicked { op, .. } if op == "map"), "{error:?}");
    assert_eq!(told(&error), "map panicked on rows 0..100 of block 0: no 42 please");
}

#[test]
fn an_error_of_a_closure_names_its_row() {
    let ds =
        session().range(20_000).unwrap().map(|x: i64| if x == 9000 { Err("not 9000".into()) } else { Ok(x) });
    let error = ds.take_all::<i64>().unwrap_err();
    assert_eq!(told(&error), "map failed on row 9000 of block 0\n  caused by: not 9000");
}

#[test]
fn blocking_verbs_work_inside_any_runtime() {
    let session = session();
    let ds = session.range(10).unwrap();
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(one.block_on(async { ds.count() }).unwrap(), 10);
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    assert_eq!(many.block_on(async { ds.take::<i64>(3) }).unwrap(), [0, 1, 2]);
    assert_eq!(many.block_on(async { ds.count_async().await }).unwrap(), 10);
    // And inside a closure that a dataset runs.
    let inner = ds.clone();
    let nested = session.range(8).unwrap().map(move |x: i64| Ok(x + inner.count()? as i64));
    assert_eq!(nested.take_all::<i64>().unwrap(), (10..18).collect::<Vec<_>>());
}

#[test]
fn a_session_ends_its_threads() {
    let named = || {
        std::fs::read_dir("/proc/self/task").map_or(0, |tasks| {
            let names =
                tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.starts_with("gone-")).count()
        })
    };
    // Threads of this session only: its name is the marker.
    let config = SessionConfig {
        parallelism: 3,
        thread_name: "gone-".to_owned(),
        progress: false,
        ..SessionConfig::default()
    };
    let session = Session::new(config).unwrap();
    assert_eq!(session.range(100).unwrap().map(|x: i64| Ok(x)).count().unwrap(), 100);
    assert!(named() > 0 || !std::path::Path::new("/proc/self/task").exists());
    drop(session);
    assert_eq!(named(), 0);
}

#[test]
fn a_dropped_iterator_stops_its_work() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let session = Session::new(SessionConfig {
        parallelism: 2,
        prefetch_bytes: 1 << 16,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds = session.range(1 << 40).unwrap().filter(move |_: &i64| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    });
    let mut batches = ds.batches(100).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().num_rows(), 100);
    drop(batches);
    drop(ds);
    // Waits for the session's threads, which would not end before a terabyte of numbers.
    drop(session);
    assert!(seen.load(Ordering::Relaxed) < 1 << 20);
}

#[test]
fn sql_over_registered_datasets() {
    let session = session();
    session.register("t", &super::iris(&session)).unwrap();
    let ds = session.sql(r#"select variety, count(*) as n, max("petal.length") as longest from t group by variety order by variety"#).unwrap();
    let rows: Vec<(String, i64, f64)> =
        ds.take_all::<Group>().unwrap().into_iter().map(|g| (g.variety, g.n, g.longest)).collect();
    let row = |variety: &str, longest| (variety.to_owned(), 50, longest);
    assert_eq!(rows, [row("Setosa", 1.9), row("Versicolor", 5.1), row("Virginica", 6.9)]);
    assert!(session.sql("drop table t").is_err(), "only queries");
}

#[derive(Deserialize)]
struct Group {
    variety: String,
    n: i64,
    longest: f64,
}

/// Many rows of numbers that do not compress, so that their files are large.
fn mixed(id: i64) -> i64 {
    id.wrapping_mul(-7_046_029_254_386_353_131)
}

#[test]
fn large_files_are_read_in_pieces_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.parquet");
    let path = path.to_str().unwrap();
    let options = WriteOptions { row_group_rows: Some(1_250_000), ..WriteOptions::default() };
    let rows = 3_750_000_i64;
    let table = session().range(rows as u64).unwrap().map_batches(|batch| {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let mixed: ArrayRef = Arc::new(ids.unary::<_, Int64Type>(mixed));
        Ok(RecordBatch::try_from_iter([("id", mixed)])?)
    });
    table.write(path, FileFormat::Parquet, options).unwrap();

    let ds = session().read_parquet(path).unwrap().filter_expr(col("id").not_eq(lit(mixed(2_000_000))));
    let plan = ds.explain().unwrap();
    assert!(plan.contains("read 3 pieces"), "{plan}");
    let mut expected = (0..rows).filter(|id| *id != 2_000_000).map(mixed);
    for batch in ds.record_batches().unwrap() {
        for value in batch.unwrap().column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(Some(*value), expected.next());
        }
    }
    assert_eq!(expected.next(), None);

    // Rows are those of the file, whichever piece they are in.
    let spoilt = mixed(2_000_001);
    let checked = session()
        .read_parquet(path)
        .unwrap()
        .map(move |id: i64| if id == spoilt { Err("spoilt".into()) } else { Ok(id) });
    let error = checked.record_batches().unwrap().find_map(Result::err).unwrap();
    let DataError::Closure { place, .. } = error.root() else { panic!("{error}") };
    assert_eq!(place.rows, 2_000_001..2_000_002);
    assert!(place.file.as_ref().unwrap().ends_with("large.parquet"), "{error}");
    // Whoever may stop early begins with one.
    let plan = checked.filter(|id: &i64| Ok(*id > 0)).limit(5).explain().unwrap();
    assert!(plan.contains("read 3 pieces") && plan.contains("at once, one at first"), "{plan}");
}

#[test]
fn of_many_small_files_each_has_one_batch_at_a_time_worked_on() {
    let (dir, files) = (tempfile::tempdir().unwrap(), 20);
    let session = Session::new(SessionConfig {
        parallelism: 2,
        batch_rows: 10,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    for file in 0..files {
        let path = dir.path().join(format!("{file:02}.parquet"));
        let rows = session.range(100).unwrap().map(move |id: i64| Ok(100 * file + id));
        rows.write(path.to_str().unwrap(), FileFormat::Parquet, WriteOptions::default()).unwrap();
    }
    let busy: Vec<AtomicBool> = (0..files).map(|_| AtomicBool::new(false)).collect();
    let ds = session.read_parquet(dir.path().to_str().unwrap()).unwrap().map_batches(move |batch| {
        // One without rows tells the columns.
        let Some(first) = batch.column(0).as_primitive::<Int64Type>().values().first() else {
            return Ok(batch);
        };
        let busy = &busy[*first as usize / 100];
        assert!(
            batch.num_rows() == 10 && !busy.swap(true, Ordering::SeqCst),
            "two batches of a file at once"
        );
        std::thread::yield_now();
        busy.store(false, Ordering::SeqCst);
        Ok(batch)
    });
    let plan = ds.explain().unwrap();
    assert!(plan.contains("read 20 pieces"), "{plan}");
    assert_eq!(ds.take_all::<i64>().unwrap(), (0..100 * files).collect::<Vec<_>>());
}
