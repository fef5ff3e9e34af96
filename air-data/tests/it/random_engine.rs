//! Random pools, splits and budgets against a plain loop: the same rows, in the same order where order is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use air_data::{BatchOptions, Pool, Session, SessionConfig, SplitOptions};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_pool_any_split_any_budget(
        rows in 0..250_u64,
        batch_rows in 1..64_usize,
        parallelism in 1..4_usize,
        blocks in 1..6_usize,
        prefetch_bytes in prop_oneof![Just(1_usize), Just(2048), Just(1 << 20)],
        memory_limit_bytes in prop_oneof![Just(0_u64), Just(1), Just(2048), Just(1 << 20)],
        workers in (1..4_usize, 0..3_usize),
        batch_size in prop::option::of(1..80_usize),
        ordered in any::<bool>(),
        // Every so many batches one fails once.
        fails in prop::option::of(1..12_u32),
        size in 1..90_usize,
        ranks in 1..5_usize,
        equal in any::<bool>(),
    ) {
        let config = SessionConfig {
            parallelism, batch_rows, prefetch_bytes, memory_limit_bytes, progress: false, ..SessionConfig::default()
        };
        let session = Session::new(config).unwrap();
        let mut pool = Pool::growing(workers.0..=workers.0 + workers.1).retries(200);
        if let Some(rows) = batch_size {
            pool = pool.batch_size(rows);
        }
        if !ordered {
            pool = pool.as_completed();
        }
        let calls = Arc::new(AtomicU32::new(0));
        // Each worker adds what its state says, which is the same for all of them and for all of their lives.
        let ds = session.range(rows).unwrap().repartition(blocks).map_batches_with(
            pool,
            |_| Ok(1000_i64),
            move |add, batch| {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                if fails.is_some_and(|every| call % (every + 1) == every) {
                    return Err("now and then".into());
                }
                let sum: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers(&batch).iter().map(|n| n + *add)));
                Ok(RecordBatch::try_new(batch.schema(), vec![sum]).unwrap())
            },
        );
        let expected: Vec<i64> = (0..rows as i64).map(|n| n + 1000).collect();
        let mut got = Vec::new();
        let mut sizes = Vec::new();
        for batch in ds.batches(size).unwrap() {
            let batch = batch.unwrap();
            sizes.push(batch.num_rows());
            got.extend(numbers(&batch));
        }
        if !ordered {
            got.sort_unstable();
        }
        prop_assert_eq!(&got, &expected);
        prop_assert!(sizes.iter().rev().skip(1).all(|rows| *rows == size));

        let options = SplitOptions { equal, ..SplitOptions::default() };
        let shards = ds.streaming_split(ranks, options).unwrap();
        let dealt: Vec<Vec<i64>> = std::thread::scope(|scope| {
            let read = |mut shard: air_data::DataShard| {
                let mut all = Vec::new();
                for batch in shard.batches(BatchOptions::new(size)).unwrap() {
                    all.extend(numbers(&batch.unwrap()));
                }
                all
            };
            let threads: Vec<_> = shards.into_iter().map(|shard| scope.spawn(move || read(shard))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut all = dealt.concat();
        all.sort_unstable();
        if equal {
            prop_assert!(dealt.iter().all(|rank| rank.len() == rows as usize / ranks));
            all.dedup();
            prop_assert_eq!(all.len(), rows as usize / ranks * ranks);
        } else {
            prop_assert_eq!(all, expected);
        }
        if ordered {
            prop_assert!(dealt.iter().all(|rank| rank.is_sorted()));
        }
        let budget = session.budget().clone();
        drop((ds, session));
        if memory_limit_bytes > 0 {
            prop_assert_eq!(budget.usage().in_use_bytes, 0);
        }
    }
}
