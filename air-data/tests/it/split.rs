//! Streaming splits: shares of one run for several trainers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use air_core::data::BatchSource;
use air_data::{BatchOptions, DataError, DataShard, Session, SessionConfig, SplitOptions, TensorSpec};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::{session, told};

fn epoch(shard: &mut DataShard, rows: usize) -> Vec<i64> {
    let mut all = Vec::new();
    for batch in shard.batches(BatchOptions::new(rows)).unwrap() {
        all.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
    }
    all
}

/// Every rank on a thread of its own, each as far as `read` says.
fn together<T: Send>(shards: Vec<DataShard>, read: impl Fn(DataShard) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = shards.into_iter().map(|shard| scope.spawn(|| read(shard))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn equal_ranks_get_as_many_rows_in_every_epoch() {
    let runs = Arc::new(AtomicU64::new(0));
    let counter = runs.clone();
    // Small lanes: ranks have to wait for each other.
    let session = Session::new(SessionConfig {
        parallelism: 2,
        batch_rows: 50,
        prefetch_bytes: 1 << 10,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds = session.range(1003).unwrap().filter(move |_: &i64| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    });
    let shards = ds.streaming_split(4, SplitOptions::equal()).unwrap();
    let ranks = together(shards, |mut shard| [epoch(&mut shard, 64), epoch(&mut shard, 7)]);
    for number in 0..2 {
        let mut all = Vec::new();
        for rank in &ranks {
            assert_eq!(rank[number].len(), 250);
            assert!(rank[number].is_sorted(), "a rank's rows keep their order");
            all.extend(&rank[number]);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), all.first(), all.last()), (1000, Some(&0), Some(&999)));
    }
    assert_eq!(runs.load(Ordering::Relaxed), 2 * 1003, "one run an epoch");
}

#[test]
fn without_equal_every_row_goes_to_one_rank_even_one_after_the_other() {
    let session = session();
    let mut shards = session.range(200_000).unwrap().streaming_split(3, SplitOptions::default()).unwrap();
    // The first rank gets all but what was put by for the others.
    let mut all: Vec<i64> = shards.iter_mut().flat_map(|shard| epoch(shard, 1000)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..200_000).collect::<Vec<_>>());
}

#[test]
fn a_dropped_rank_holds_up_nobody_and_gives_its_budget_back() {
    let session = Session::new(SessionConfig {
        parallelism: 2,
        batch_rows: 64,
        prefetch_bytes: 1 << 10,
        memory_limit_bytes: 1 << 20,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds = session.range(9000).unwrap();
    let mut shards = ds.streaming_split(3, SplitOptions::equal()).unwrap();
    let last = shards.pop().unwrap();
    let mut middle = shards.pop().unwrap();
    let mut first = shards.pop().unwrap();
    drop(last);
    // The middle one leaves after one batch, then comes back for the next epoch.
    let mut begun = middle.batches(BatchOptions::new(10)).unwrap();
    assert_eq!(begun.next().unwrap().unwrap().num_rows(), 10);
    drop(begun);
    assert_eq!(epoch(&mut first, 100).len(), 3000);
    let ranks = together(vec![first, middle], |mut shard| epoch(&mut shard, 100).len());
    assert_eq!(ranks, [3000, 3000], "what a dropped rank would have had is left out");
    drop(ds);
    assert_eq!(session.budget().usage().in_use_bytes, 0);
}

#[test]
fn a_rank_that_waits_in_vain_is_told_for_whom() {
    let session = Session::new(SessionConfig {
        parallelism: 2,
        batch_rows: 64,
        prefetch_bytes: 1 << 10,
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap();
    let ds = session.range(100_000).unwrap();
    let options = SplitOptions::equal().wait_limit(Duration::from_millis(40));
    let mut shards = ds.streaming_split(2, options).unwrap();
    let error = shards[1].batches(BatchOptions::new(10)).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error.root(), DataError::SplitStalled { rank: 0, waits: 1, .. }), "{error:?}");
    assert_eq!(
        told(&error),
        "rank 1 of a streaming split has waited for 40ms because rank 0 takes no batches: read all ranks at the same time, or drop those that are not read"
    );
    // Nor does an epoch begin that another rank has not come to.
    let error = shards[1].batches(BatchOptions::new(10)).unwrap_err();
    assert!(matches!(error.root(), DataError::SplitStalled { rank: 0, waits: 1, .. }), "{error:?}");
}

#[test]
fn an_error_reaches_every_rank() {
    let ds =
        session().range(1000).unwrap().map(|x: i64| if x == 500 { Err("not 500".into()) } else { Ok(x) });
    let shards = ds.streaming_split(2, SplitOptions::equal()).unwrap();
    let errors = together(shards, |mut shard| {
        shard.batches(BatchOptions::new(10)).unwrap().find_map(Result::err).map(|error| told(&error))
    });
    for error in errors {
        assert_eq!(error.unwrap(), "map failed on row 500 of block 0\n  caused by: not 500");
    }
}

#[test]
fn a_shard_is_a_source_of_tensors() {
    let shards = session().range(1000).unwrap().streaming_split(2, SplitOptions::equal()).unwrap();
    let sums = together(shards, |shard| {
        let mut source = shard.batch_source(TensorSpec::new(50).drop_last()).unwrap();
        let mut sums = Vec::new();
        for epoch in 0..2 {
            source.restart(epoch).unwrap();
            let mut rows = 0;
            while let Some(batch) = source.next_batch().unwrap() {
                rows += batch.rows();
            }
            sums.push(rows);
        }
        sums
    });
    assert_eq!(sums, [[500, 500], [500, 500]]);
}

#[test]
fn options_out_of_range_are_named() {
    let ds = session().range(10).unwrap();
    let refused = |ranks, options| told(&ds.streaming_split(ranks, options).unwrap_err());
    assert_eq!(refused(0, SplitOptions::equal()), "bad setting ranks: between 1 and 4096, not 0");
    assert_eq!(refused(1, SplitOptions::equal().prefetch_bytes(0)), "bad setting prefetch_bytes: at least 1");
}
