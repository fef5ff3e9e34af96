//! Sorting, shuffling, grouping and joining, beside the same asked of DataFusion itself where it has it.
#![allow(clippy::unwrap_used, missing_docs)]

use air_data::{Dataset, Join, Session, SessionConfig, agg, col, desc, lit};
use divan::Bencher;

/// Two million rows; few when the bench only shows that it runs.
fn rows() -> u64 {
    if std::env::args().any(|arg| arg == "--test") { 20_000 } else { 2_000_000 }
}

/// `id`, and `key` of a hundred thousand values, in memory.
fn table() -> Dataset {
    let session = Session::new(SessionConfig { progress: false, ..SessionConfig::default() }).unwrap();
    let ds = session.range(rows()).unwrap();
    let ds = ds.with_column("key", (col("id") * lit(7_919_i64)) % lit(100_003_i64));
    session.from_batches(ds.collect().unwrap()).unwrap()
}

/// Every row is made, none is kept.
fn drain(ds: &Dataset) -> usize {
    ds.batches(8192).unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

/// A query of DataFusion's, over the table under the name `t`.
fn bare(bencher: Bencher, query: &str) {
    let table = table();
    table.session().register("t", &table).unwrap();
    let ds = table.session().sql(query).unwrap();
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn sort(bencher: Bencher) {
    let ds = table().sort([desc("key"), desc("id")]);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn sort_sql(bencher: Bencher) {
    bare(bencher, "select * from t order by key desc, id desc");
}

#[divan::bench]
fn top_ten(bencher: Bencher) {
    let ds = table().sort([desc("key")]).limit(10);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn random_shuffle(bencher: Bencher) {
    let ds = table().random_shuffle(1);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn random_sample(bencher: Bencher) {
    let ds = table().random_sample(0.1, 1);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn group_by(bencher: Bencher) {
    let ds = table().group_by(["key"]).aggregate([agg::sum("id"), agg::mean("id")]);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn group_by_sql(bencher: Bencher) {
    bare(bencher, "select key, sum(id), avg(id) from t group by key");
}

#[divan::bench]
fn map_groups(bencher: Bencher) {
    let ds = table().group_by(["key"]).map_groups(|batch| Ok(batch.slice(0, 1.min(batch.num_rows()))));
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn value_counts(bencher: Bencher) {
    let ds = table().aggregate([agg::value_counts(col("key") % lit(1000_i64))]);
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn join(bencher: Bencher) {
    let table = table();
    let keys = table.filter_expr(col("id").lt(lit(100_003_i64))).select(["key"]);
    let ds = keys.join(&table, Join::inner(["key"]));
    bencher.bench_local(|| drain(&ds));
}

#[divan::bench]
fn zip(bencher: Bencher) {
    let table = table();
    let ds = table.zip(&table);
    bencher.bench_local(|| drain(&ds));
}

fn main() {
    divan::main();
}
