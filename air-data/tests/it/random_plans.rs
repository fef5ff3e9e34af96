//! Random chains of transforms against a naive interpreter: the same rows in the same order, however they are dealt into
//! batches, blocks and threads.

use air_data::{Dataset, Session, SessionConfig, col, lit};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Add(i64),
    KeepMultiples(i64),
    KeepAbove(i64),
    Twice,
    None(i64),
    Limit(usize),
    Repartition(usize),
    Batches,
    Materialize,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (-5..5_i64).prop_map(Step::Add),
        (1..4_i64).prop_map(Step::KeepMultiples),
        (-10..100_i64).prop_map(Step::KeepAbove),
        Just(Step::Twice),
        (1..5_i64).prop_map(Step::None),
        (0..200_usize).prop_map(Step::Limit),
        (1..9_usize).prop_map(Step::Repartition),
        Just(Step::Batches),
        Just(Step::Materialize),
    ]
}

fn naive(rows: Vec<i64>, step: &Step) -> Vec<i64> {
    match step.clone() {
        Step::Add(n) => rows.into_iter().map(|x| x + n).collect(),
        Step::KeepMultiples(n) => rows.into_iter().filter(|x| x % n == 0).collect(),
        Step::KeepAbove(n) => rows.into_iter().filter(|x| *x > n).collect(),
        Step::Twice => rows.into_iter().flat_map(|x| [x, -x]).collect(),
        Step::None(n) => rows.into_iter().flat_map(|x| (0..x.rem_euclid(n)).map(move |i| x + i)).collect(),
        Step::Limit(n) => rows.into_iter().take(n).collect(),
        Step::Repartition(_) | Step::Batches | Step::Materialize => rows,
    }
}

fn ours(ds: &Dataset, step: &Step) -> Dataset {
    match step.clone() {
        Step::Add(n) => ds.map(move |x: i64| Ok(x + n)),
        Step::KeepMultiples(n) => ds.filter(move |x: &i64| Ok(x % n == 0)),
        Step::KeepAbove(n) => ds.filter_expr(col("id").gt(lit(n))),
        Step::Twice => ds.flat_map(|x: i64| Ok([x, -x])),
        Step::None(n) => ds.flat_map(move |x: i64| Ok((0..x.rem_euclid(n)).map(move |i| x + i))),
        Step::Limit(n) => ds.limit(n),
        Step::Repartition(n) => ds.repartition(n),
        Step::Batches => ds.map_batches(Ok),
        Step::Materialize => ds.materialize(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_chain_any_batches_any_blocks(
        rows in 0..300_u64,
        batch_rows in 1..64_usize,
        parallelism in 1..4_usize,
        prefetch_bytes in prop_oneof![Just(1_usize), Just(4096), Just(1 << 20)],
        memory_limit_bytes in prop_oneof![Just(0_u64), Just(256)],
        steps in prop::collection::vec(step(), 0..7),
        shares in 1..5_usize,
        size in 1..100_usize,
    ) {
        let config = SessionConfig {
            parallelism, batch_rows, prefetch_bytes, progress: false,
            // A tiny limit sends every block to disk.
            memory_limit_bytes,
            ..SessionConfig::default()
        };
        let session = Session::new(config).unwrap();
        let mut ds = session.range(rows).unwrap();
        let mut expected: Vec<i64> = (0..rows as i64).collect();
        for step in &steps {
            ds = ours(&ds, step);
            expected = naive(expected, step);
        }
        prop_assert_eq!(ds.count().unwrap(), expected.len() as u64);
        prop_assert_eq!(&ds.take_all::<i64>().unwrap(), &expected);
        let parts: Vec<i64> = ds.split(shares).iter().flat_map(|share| share.take_all::<i64>().unwrap()).collect();
        prop_assert_eq!(&parts, &expected);
        let sizes: Vec<usize> = ds.batches(size).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
        prop_assert_eq!(sizes.iter().sum::<usize>(), expected.len());
        prop_assert!(sizes.iter().rev().skip(1).all(|rows| *rows == size));
    }
}
