//! One memory budget: what waits, what is kept, what is sorted; and what a run says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use air_data::{BatchOptions, Budget, RunState, Session, SessionConfig, col, lit};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::session;

fn with_budget(bytes: u64) -> Session {
    Session::new(SessionConfig {
        parallelism: 2,
        memory_limit_bytes: bytes,
        batch_rows: 1024,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap()
}

#[test]
fn sessions_without_a_limit_share_the_process_s_budget() {
    let (one, two) = (session(), session());
    assert_eq!(one.budget().limit_bytes(), Budget::shared().limit_bytes());
    let kept = one.range(100_000).unwrap().map(|x: i64| Ok(x)).materialize();
    let before = two.budget().usage().kept_bytes;
    assert_eq!(kept.count().unwrap(), 100_000);
    // Others in this process keep little, and come and go.
    assert!(two.budget().usage().kept_bytes >= before + 700_000);
    assert_eq!(
        with_budget(1 << 20).budget().usage().in_use_bytes,
        0,
        "a limit of its own is a budget of its own"
    );
}

#[test]
fn what_is_kept_is_counted_and_given_back() {
    let session = with_budget(64 << 20);
    let kept = session.range(100_000).unwrap().map(|x: i64| Ok(x)).materialize();
    assert_eq!(session.budget().usage().kept_bytes, 0, "nothing runs before a terminal");
    assert_eq!(kept.count().unwrap(), 100_000);
    let usage = session.budget().usage();
    assert!((800_000..1_700_000).contains(&usage.kept_bytes), "{usage:?}");
    // Slices of what is kept wait in queues, and cost nothing.
    // Of a size that is cut, and never put together, from what is kept.
    let mut batches = kept.batches(16).unwrap();
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(session.budget().usage().kept_bytes, usage.kept_bytes);
    assert_eq!(session.budget().usage().queued_bytes, 0);
    drop((batches, kept));
    // The threads end with the session, and what they had in hand with them.
    let budget = session.budget().clone();
    drop(session);
    assert_eq!(budget.usage().in_use_bytes, 0);
}

#[test]
fn rows_that_lie_in_memory_anyway_cost_nothing_to_queue() {
    let session = with_budget(64 << 20);
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
    let ds = session.from_batches(vec![RecordBatch::try_from_iter([("id", column)]).unwrap()]).unwrap();
    // Of a size that is cut, and never put together, from what the engine makes.
    assert_eq!(ds.batches(512).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1_000_000);
    assert_eq!(session.budget().usage().peak_bytes, 0);
}

#[test]
fn a_stream_larger_than_the_budget_waits_instead_of_spilling() {
    // 8 MB through 64 KiB.
    let (limit, made) = (64 << 10, Arc::new(AtomicU64::new(0)));
    let session = with_budget(limit);
    let counter = made.clone();
    let ds = session.range(1_000_000).unwrap().map_batches(move |batch| {
        counter.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(batch)
    });
    let mut taken = 0_u64;
    for batch in ds.batches(512).unwrap() {
        taken += batch.unwrap().num_rows() as u64;
        let ahead = made.load(Ordering::Relaxed).saturating_sub(taken) * 8;
        // Half of the budget in queues; a batch in each lane and in each hand.
        assert!(ahead <= limit / 2 + 24 * 8192, "{ahead} bytes ahead of the consumer");
    }
    assert_eq!(taken, 1_000_000);
    let stats = ds.stats().unwrap();
    assert!(stats.budget.peak_bytes <= limit / 2 + 8 * 16_384, "{stats}");
    assert!(stats.operators.iter().all(|operator| operator.spilled_bytes == 0), "{stats}");
    assert_eq!(session.budget().usage().in_use_bytes, 0);
}

#[test]
fn a_sort_and_an_aggregation_several_times_the_budget_spill_and_are_right() {
    let session = with_budget(2 << 20);
    // 8 bytes a row and a key: four times the budget.
    let rows = 600_000_i64;
    let ds = session
        .range(rows as u64)
        .unwrap()
        .with_column("key", (col("id") * lit(7919_i64)) % lit(999_983_i64));
    session.register("t", &ds).unwrap();
    let sorted = session.sql("select key, id from t order by key, id").unwrap();
    let (mut seen, mut last) = (0_i64, (-1, -1));
    for batch in sorted.batches(10_000).unwrap() {
        let batch = batch.unwrap();
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let ids = batch.column(1).as_primitive::<Int64Type>();
        for (key, id) in keys.values().iter().zip(ids.values()) {
            assert_eq!(*key, id * 7919 % 999_983);
            assert!(last < (*key, *id), "{last:?} before {key}, {id}");
            last = (*key, *id);
            seen += 1;
        }
    }
    assert_eq!(seen, rows);
    let stats = sorted.stats().unwrap();
    let spilled: u64 = stats.operators.iter().map(|operator| operator.spilled_bytes).sum();
    assert!(spilled > 6 << 20, "{stats}");
    assert!(stats.budget.peak_bytes <= (2 << 20) * 5 / 4 + (1 << 18), "{stats}");

    let groups = session.sql("select key, count(*) as n from t group by key").unwrap();
    let (mut keys, mut count) = (0, 0);
    for batch in groups.batches(10_000).unwrap() {
        let batch = batch.unwrap();
        keys += batch.num_rows();
        count += batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    assert_eq!((keys, count), (rows as usize, rows));
}

#[test]
fn a_run_says_what_its_operators_did() {
    let session = session();
    let ds = session
        .range(10_000)
        .unwrap()
        .map(|x: i64| Ok(2 * x))
        .filter(|x: &i64| Ok(x % 4 == 0))
        .repartition(3);
    assert!(ds.stats().is_none(), "nothing has run");
    let mut batches = ds.batches_with(BatchOptions::new(100).drop_last()).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().num_rows(), 100);
    assert_eq!(batches.count(), 49);
    let stats = ds.stats().unwrap();
    assert_eq!((stats.state.clone(), stats.rows), (RunState::Finished, 5000));
    let rows = |name: &str| {
        let operator = stats.operators.iter().find(|operator| operator.name.starts_with(name)).unwrap();
        (operator.depth, operator.rows, operator.bytes)
    };
    assert_eq!(rows("repartition into 3 blocks"), (0, Some(5000), Some(40_000)));
    assert_eq!(rows("map → filter"), (1, Some(5000), Some(40_000)));
    assert_eq!(rows("SourceExec"), (2, Some(10_000), Some(80_000)));
    let text = stats.to_string();
    assert!(text.contains("\n  map → filter: 5000 rows, 39.1 KiB, busy "), "{text}");
    let queue = &stats.operators[0];
    assert_eq!(queue.name, "consumer's queue");
    assert!(queue.queue_peak_bytes > 0 && queue.queued_bytes == 0, "{text}");

    // A clone shares it, what is derived has its own, and so does a verb that stops early.
    assert_eq!(ds.clone().stats(), Some(stats));
    let other = ds.map(|x: i64| Ok(x));
    assert!(other.stats().is_none());
    assert_eq!(other.take::<i64>(2).unwrap(), [0, 4]);
    assert_eq!(other.stats().unwrap().rows, 2);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(other.write_csv(dir.path().join("out").to_str().unwrap()).unwrap().len(), 3);
    assert_eq!(other.stats().map(|stats| (stats.state, stats.rows)), Some((RunState::Finished, 5000)));
    let failing = ds.map(|x: i64| if x > 8 { Err("no".into()) } else { Ok(x) });
    assert!(failing.count().is_err());
    assert!(
        matches!(failing.stats().unwrap().state, RunState::Failed(error) if error.contains("map failed"))
    );
}

#[test]
fn batches_may_be_dropped_mixed_and_bounded() {
    let ds = session().range(1050).unwrap();
    let ids = |options: BatchOptions| -> Vec<Vec<i64>> {
        let batches = ds.batches_with(options).unwrap();
        batches.map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    };
    assert_eq!(ids(BatchOptions::new(100).drop_last()).len(), 10);
    let mixed = ids(BatchOptions::new(100).local_shuffle(5, 500));
    assert_eq!(mixed, ids(BatchOptions::new(100).local_shuffle(5, 500).prefetch_bytes(1)));
    let mut all = mixed.concat();
    assert_ne!(all, (0..1050).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..1050).collect::<Vec<_>>());
}
