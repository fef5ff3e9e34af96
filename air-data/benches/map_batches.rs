//! `map_batches` and row closures over numbers, beside the loop one would write by hand.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use air_data::{BatchOptions, DataShard, Pool, Session, SessionConfig, SplitOptions};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use divan::{Bencher, black_box};

/// Two million rows of four columns; few when the bench only shows that it runs.
fn rows() -> usize {
    if std::env::args().any(|arg| arg == "--test") { 20_000 } else { 2_000_000 }
}

fn table() -> RecordBatch {
    let column = |c: usize| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values((0..rows()).map(|i| (i * c) as f64)))
    };
    RecordBatch::try_from_iter([("a", column(1)), ("b", column(2)), ("c", column(3)), ("d", column(5))])
        .unwrap()
}

/// Scales and clips every column.
fn work(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| {
            Arc::new(
                column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| (x * 0.5).clamp(0.0, 1e5)),
            ) as ArrayRef
        })
        .collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn session() -> Session {
    Session::new(SessionConfig { progress: false, ..SessionConfig::default() }).unwrap()
}

#[divan::bench]
fn by_hand(bencher: Bencher) {
    let table = table();
    bencher.bench_local(|| {
        let mut kept = 0;
        for start in (0..table.num_rows()).step_by(8192) {
            kept += black_box(work(&table.slice(start, 8192.min(table.num_rows() - start)))).num_rows();
        }
        kept
    });
}

#[divan::bench]
fn map_batches(bencher: Bencher) {
    let ds = session().from_batches(vec![table()]).unwrap().map_batches(|batch| Ok(work(&batch)));
    bencher.bench_local(|| ds.batches(8192).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>());
}

/// The same work in a pool of two workers: what handing batches over costs.
#[divan::bench]
fn map_batches_with(bencher: Bencher) {
    let pool = Pool::fixed(2);
    let ds = session().from_batches(vec![table()]).unwrap();
    let ds = ds.map_batches_with(pool, |_| Ok(()), |(), batch| Ok(work(&batch)));
    bencher.bench_local(|| ds.batches(8192).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>());
}

/// The same work, dealt to two trainers.
#[divan::bench]
fn streaming_split(bencher: Bencher) {
    let ds = session().from_batches(vec![table()]).unwrap().map_batches(|batch| Ok(work(&batch)));
    bencher.bench_local(|| {
        let shards = ds.streaming_split(2, SplitOptions::equal()).unwrap();
        std::thread::scope(|scope| {
            let read = |mut shard: DataShard| {
                let batches = shard.batches(BatchOptions::new(4096)).unwrap();
                batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
            };
            let threads: Vec<_> = shards.into_iter().map(|shard| scope.spawn(move || read(shard))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        })
    });
}

#[divan::bench]
fn map_rows(bencher: Bencher) {
    let ds = session().range(rows() as u64).unwrap().map(|x: i64| Ok(2 * x));
    bencher.bench_local(|| ds.count().unwrap());
}

#[divan::bench]
fn map_filter_flat_map_rows(bencher: Bencher) {
    let ds = session().range(rows() as u64).unwrap();
    let ds = ds.map(|x: i64| Ok(2 * x)).filter(|x: &i64| Ok(x % 3 == 0)).flat_map(|x: i64| Ok([x, -x]));
    bencher.bench_local(|| ds.count().unwrap());
}

fn main() {
    divan::main();
}
