//! Sorting, shuffling, sampling; union, zip and mix.

use air_data::{DataError, Dataset, MixUntil, Row, Session, SessionConfig, asc, col, desc, lit};
use serde::{Deserialize, Serialize};

use super::{session, told};

fn engine(parallelism: usize, batch_rows: usize) -> Session {
    let config = SessionConfig { parallelism, batch_rows, progress: false, ..SessionConfig::default() };
    Session::new(config).unwrap()
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Rec {
    k: Option<i64>,
    s: String,
}

fn records() -> Vec<Rec> {
    let keys = [Some(3), None, Some(1), Some(3), Some(-7), None, Some(1)];
    keys.iter().zip("gfedcba".chars()).map(|(k, s)| Rec { k: *k, s: s.to_string() }).collect()
}

fn letters(ds: &Dataset) -> String {
    ds.select(["s"]).take_all::<String>().unwrap().concat()
}

#[test]
fn several_keys_each_with_its_direction_and_place_for_nulls() {
    let ds = session().from_items(records()).unwrap();
    assert_eq!(letters(&ds.sort(["k", "s"])), "caedgbf");
    assert_eq!(letters(&ds.sort([desc("k"), asc("s")])), "dgaecbf");
    assert_eq!(letters(&ds.sort([asc("k").nulls_first(), desc("s")])), "fbceagd");
    assert_eq!(letters(&ds.sort([desc("k").nulls_first(), asc("s")])), "bfdgaec");
    assert_eq!(letters(&ds.sort([desc(col("k") * lit(-1)), asc("s")]).limit(3)), "cae");
    let error = told(&ds.sort(Vec::<&str>::new()).count().unwrap_err());
    assert_eq!(error, "bad setting keys: a sort needs at least one");
}

#[test]
fn a_sort_keeps_its_order_through_everything_after_it() {
    for parallelism in [1, 3] {
        let numbers = engine(parallelism, 7).range(500).unwrap().repartition(5);
        let sorted = numbers.with_column("k", (col("id") * lit(37)) % lit(500)).sort([desc("k")]);
        let expected: Vec<i64> = (0..500).rev().map(|k| k * 2).collect();
        let doubled = sorted.map(|row: Row| Ok(row.i64("k").unwrap_or(-1) * 2));
        assert_eq!(doubled.take_all::<i64>().unwrap(), expected);
        let kept = sorted.repartition(4).filter(|row: &Row| Ok(row.i64("k").is_some_and(|k| k % 2 == 0)));
        let evens: Vec<i64> = (0..500).rev().filter(|k| k % 2 == 0).collect();
        assert_eq!(kept.select(["k"]).take_all::<i64>().unwrap(), evens);
        assert_eq!(sorted.materialize().limit(3).select(["k"]).take_all::<i64>().unwrap(), [499, 498, 497]);
        assert!(
            sorted.limit(3).explain().unwrap().contains("TopK(fetch=3)"),
            "{}",
            sorted.limit(3).explain().unwrap()
        );
    }
}

#[test]
fn a_sort_after_a_closure_sorts_what_the_closure_made() {
    for parallelism in [1, 3] {
        let numbers = engine(parallelism, 7).range(100).unwrap().repartition(5);
        let negated = numbers.map(|id: i64| Ok(-id));
        let ascending: Vec<i64> = (0..100).map(|id| id - 99).collect();
        assert_eq!(negated.sort(["id"]).take_all::<i64>().unwrap(), ascending);
        // Also where it was sorted before by the column in the same place.
        let again = numbers.sort(["id"]).map(|id: i64| Ok(-id)).sort(["id"]);
        assert_eq!(again.take_all::<i64>().unwrap(), ascending);
        assert_eq!(
            numbers.sort([desc("id")]).union([&negated]).limit(2).take_all::<i64>().unwrap(),
            [99, 98]
        );
        let session = numbers.session();
        session.register("n", &negated).unwrap();
        let query = session.sql("select id * 2 as id from n order by id desc").unwrap();
        let expected: Vec<i64> = (0..100).map(|id| -2 * id).collect();
        assert_eq!(query.map(|id: i64| Ok(id)).repartition(2).take_all::<i64>().unwrap(), expected);
        // The first rows are those that come first before the sort.
        assert_eq!(negated.limit(2).sort(["id"]).take_all::<i64>().unwrap(), [-1, 0]);
        assert_eq!(numbers.sort([desc("id")]).limit(2).sort(["id"]).take_all::<i64>().unwrap(), [98, 99]);
        let indexed = numbers.sort([desc("id")]).with_row_index("row");
        assert_eq!(indexed.filter_expr((col("id") + col("row")).not_eq(lit(99_i64))).count().unwrap(), 0);
    }
}

/// The engine takes a column that has one value in each partition for one that needs no sorting.
#[test]
fn sorts_by_columns_that_are_one_value_in_each_part() {
    let session = engine(2, 8);
    let part = |name: &str, from: i64| {
        session.range(3).unwrap().with_columns([("part", lit(name)), ("id", col("id") * lit(2) + lit(from))])
    };
    let both = part("b", 0).union([&part("a", 1), &part("c", -1)]);
    let names = |ds: &Dataset| ds.select(["part"]).take_all::<String>().unwrap().concat();
    assert_eq!(names(&both.sort(["part"])), "aaabbbccc");
    assert_eq!(names(&both.sort([desc("part")])), "cccbbbaaa");
    assert_eq!(names(&both.sort(["part"]).limit(4)), "aaab");
    let sorted = both.sort([desc("part"), asc("id")]).repartition(2);
    assert_eq!(sorted.select(["id"]).take_all::<i64>().unwrap(), [-1, 1, 3, 0, 2, 4, 1, 3, 5]);
    session.register("parts", &both).unwrap();
    let query = session.sql("select part, id from parts order by part desc, id desc limit 4").unwrap();
    assert_eq!(query.select(["id"]).take_all::<i64>().unwrap(), [3, 1, -1, 4]);
    let literals = "select 'both' as side union all select 'JFK' union all select 'LGA' order by side";
    assert_eq!(session.sql(literals).unwrap().take_all::<String>().unwrap(), ["JFK", "LGA", "both"]);
}

#[test]
fn a_stable_sort_is_one_by_row_number_too() {
    let ds = engine(3, 5).range(100).unwrap().repartition(4);
    let sorted = ds.with_row_index("row").with_column("k", col("id") % lit(3)).sort(["k", "row"]);
    let expected: Vec<i64> = (0..3).flat_map(|k| (0..100).filter(move |id| id % 3 == k)).collect();
    assert_eq!(sorted.select(["id"]).take_all::<i64>().unwrap(), expected);
    let error = ds.with_row_index("id").count().unwrap_err();
    assert!(matches!(error.root(), DataError::DuplicateColumn { column, .. } if column == "id"), "{error}");
}

#[test]
fn a_shuffle_depends_on_the_seed_alone() {
    let shuffled = |parallelism, batch_rows, blocks, seed| {
        let ds = engine(parallelism, batch_rows).range(1000).unwrap().repartition(blocks);
        ds.random_shuffle(seed).take_all::<i64>().unwrap()
    };
    let one = shuffled(1, 8192, 1, 7);
    assert_eq!(shuffled(3, 64, 9, 7), one);
    assert_eq!(shuffled(2, 1, 2, 7), one);
    assert_ne!(shuffled(2, 64, 2, 8), one);
    let mut sorted = one.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    // A random permutation of n has one fixed point on average; far more would be no permutation at random.
    assert!(one.iter().enumerate().filter(|(index, id)| *index as i64 == **id).count() < 10);
    assert_eq!(shuffled(1, 10, 1, 7)[..20], one[..20]);
}

#[test]
fn a_shuffle_past_the_memory_limit_is_the_same() {
    let shuffled = |memory_limit_bytes| {
        let config = SessionConfig {
            parallelism: 2,
            batch_rows: 512,
            memory_limit_bytes,
            progress: false,
            ..SessionConfig::default()
        };
        let ds = Session::new(config).unwrap().range(400_000).unwrap().with_column("x", col("id") * lit(3));
        ds.random_shuffle(1).to_batch().unwrap()
    };
    // 6.4 MB of rows.
    assert_eq!(shuffled(2 << 20), shuffled(0));
}

#[test]
fn a_sample_depends_on_the_seed_alone_and_has_its_share() {
    let sample = |parallelism, blocks, fraction, seed| {
        let ds = engine(parallelism, 100).range(10_000).unwrap().repartition(blocks);
        ds.random_sample(fraction, seed).take_all::<i64>().unwrap()
    };
    let tenth = sample(1, 1, 0.1, 3);
    assert_eq!(sample(3, 7, 0.1, 3), tenth);
    assert!(tenth.is_sorted());
    // Five standard deviations of a binomial with p = 0.1: 150.
    assert!((850..=1150).contains(&tenth.len()), "{}", tenth.len());
    assert_eq!(sample(2, 2, 1.0, 3).len(), 10_000);
    assert_eq!(sample(2, 2, 0.0, 3).len(), 0);
    let error = told(&session().range(1).unwrap().random_sample(1.5, 0).count().unwrap_err());
    assert_eq!(error, "bad setting fraction: between 0 and 1, not 1.5");
}

#[test]
fn blocks_in_random_order_are_whole() {
    let ds = engine(2, 10).range(100).unwrap().repartition(10).randomize_block_order(5);
    let rows = ds.take_all::<i64>().unwrap();
    let mut blocks: Vec<&[i64]> = rows.chunks(10).collect();
    assert!(blocks.iter().all(|block| block.windows(2).all(|pair| pair[1] == pair[0] + 1)));
    assert!(!blocks.is_sorted());
    blocks.sort_unstable();
    assert_eq!(blocks.concat(), (0..100).collect::<Vec<_>>());
    assert_eq!(ds.take_all::<i64>().unwrap(), rows);
}

#[test]
fn a_union_has_the_rows_in_order_and_columns_by_name() {
    let session = engine(2, 10);
    let (a, b) = (session.range(50).unwrap().repartition(3), session.range(20).unwrap());
    let union = a.union([&b, &a.limit(5)]);
    let expected: Vec<i64> = (0..50).chain(0..20).chain(0..5).collect();
    assert_eq!(union.take_all::<i64>().unwrap(), expected);
    assert_eq!(union.count().unwrap(), 75);
    assert_eq!(a.union([]).count().unwrap(), 50);

    let (one, two) = (b.with_column("x", lit(1)), b.with_column("x", lit(2)));
    let rows = one.union([&two.select(["x", "id"])]).select(["x"]).take_all::<i32>().unwrap();
    assert_eq!((rows.len(), rows[0], rows[39]), (40, 1, 2));
    let error = told(&one.union([&b]).count().unwrap_err());
    assert_eq!(
        error,
        "union needs the same columns in all datasets: dataset 2 (counted from 1) has no column 'x'"
    );
    let error = told(&b.union([&one]).count().unwrap_err());
    assert!(error.ends_with("has the column 'x', which the first has not"), "{error}");
    let error = told(&one.union([&one.with_column("x", lit("t"))]).count().unwrap_err());
    assert!(error.ends_with("'x' is Int32 in the first and Utf8 in dataset 2 (counted from 1)"), "{error}");
}

#[test]
fn a_zip_is_row_by_row_whatever_the_batches() {
    let numbers = |batch_rows, blocks| engine(2, batch_rows).range(100).unwrap().repartition(blocks);
    let squares = numbers(7, 3).map(|id: i64| Ok(id * id)).rename_columns([("id", "square")]);
    let zipped = numbers(10, 2).zip(&squares);
    assert_eq!(zipped.columns().unwrap(), ["id", "square"]);
    let rows: Vec<(i64, i64)> = zipped
        .take_all::<Row>()
        .unwrap()
        .iter()
        .map(|row| (row.i64("id").unwrap(), row.i64("square").unwrap()))
        .collect();
    assert_eq!(rows, (0..100).map(|id| (id, id * id)).collect::<Vec<_>>());
    assert_eq!(
        zipped.select(["square"]).sum::<i64>("square").unwrap(),
        (0..100).map(|id| id * id).sum::<i64>()
    );
    let twice = numbers(10, 2).zip(&numbers(9, 1)).zip(&numbers(3, 4));
    assert_eq!(twice.columns().unwrap(), ["id", "id_1", "id_2"]);
    assert_eq!(twice.filter_expr(col("id").not_eq(col("id_2"))).count().unwrap(), 0);
}

#[test]
fn a_zip_of_unequal_lengths_tells_both() {
    let session = engine(2, 10);
    for (left, right) in [(100, 30), (30, 100), (0, 1)] {
        let zip = session.range(left).unwrap().zip(&session.range(right).unwrap());
        let error = zip.collect().unwrap_err();
        assert!(
            matches!(error.root(), DataError::ZipLengths { left: l, right: r } if (*l, *r) == (left, right)),
            "{error}"
        );
    }
    let error = told(&session.range(3).unwrap().zip(&session.range(4).unwrap()).collect().unwrap_err());
    assert_eq!(error, "cannot zip 3 rows with 4 rows; limit the longer one first");
}

#[test]
fn a_mix_takes_turns_by_weight() {
    let session = engine(2, 7);
    let part = |rows: u64, name: &str| {
        session.range(rows).unwrap().repartition(2).with_column("of", lit(name)).select(["of", "id"])
    };
    let (a, b) = (part(30, "a"), part(20, "b"));
    let turns = |ds: &Dataset| ds.select(["of"]).take_all::<String>().unwrap().concat();
    let mixed = Dataset::mix([(&a, 3.0), (&b, 1.0)], MixUntil::FirstEnds).unwrap();
    let got = turns(&mixed);
    assert!(got.starts_with("aabaaaba"), "{got}");
    assert_eq!((got.matches('a').count(), got.matches('b').count()), (30, 10));
    let all = Dataset::mix([(&a, 3.0), (&b, 1.0)], MixUntil::AllEnd).unwrap();
    assert_eq!(all.count().unwrap(), 50);
    assert!(turns(&all).ends_with("bbbbbbbbbb"));
    let of_b = all.filter_expr(col("of").eq(lit("b"))).select(["id"]).take_all::<i64>().unwrap();
    assert_eq!(of_b, (0..20).collect::<Vec<_>>());
    let error = Dataset::mix([(&a, 0.0)], MixUntil::AllEnd).unwrap_err();
    assert_eq!(told(&error), "bad setting weights: above 0, not 0");
    assert!(Dataset::mix([], MixUntil::AllEnd).is_err());
}
