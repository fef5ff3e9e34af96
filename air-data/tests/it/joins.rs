//! Joins of every kind against a loop, with and without a memory limit.

use air_data::{
    DataError, Dataset, FileFormat, Join, JoinKind, Session, SessionConfig, WriteOptions, col, lit,
};
use serde::{Deserialize, Serialize};

use super::{session, told};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Left {
    a: Option<i64>,
    b: String,
    v: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Right {
    a: Option<i64>,
    c: String,
    v: i64,
}

fn lefts() -> Vec<Left> {
    (0..60).map(|i| Left { a: (i % 6 != 0).then_some(i % 10), b: format!("{}", i % 3), v: i }).collect()
}

fn rights() -> Vec<Right> {
    (0..40)
        .map(|i| Right { a: (i % 7 != 0).then_some(i % 13), c: format!("{}", i % 4), v: 1000 + i })
        .collect()
}

const KINDS: [JoinKind; 8] = [
    JoinKind::Inner,
    JoinKind::Left,
    JoinKind::Right,
    JoinKind::Full,
    JoinKind::LeftSemi,
    JoinKind::RightSemi,
    JoinKind::LeftAnti,
    JoinKind::RightAnti,
];

/// A row of any join: the keys, the left value, the right value.
type Joined = (Option<i64>, Option<String>, Option<i64>, Option<i64>);

fn naive(
    kind: JoinKind,
    lefts: &[Left],
    rights: &[Right],
    equal: impl Fn(&Left, &Right) -> bool,
) -> Vec<Joined> {
    let meet = |l: &Left, r: &Right| l.a.is_some() && l.a == r.a && equal(l, r);
    let mut rows: Vec<Joined> = Vec::new();
    for l in lefts {
        let partners: Vec<&Right> = rights.iter().filter(|r| meet(l, r)).collect();
        let alone = (l.a, Some(l.b.clone()), Some(l.v), None);
        match kind {
            JoinKind::LeftSemi if !partners.is_empty() => rows.push(alone),
            JoinKind::LeftAnti if partners.is_empty() => rows.push(alone),
            JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => {
                rows.extend(partners.iter().map(|r| (l.a, Some(l.b.clone()), Some(l.v), Some(r.v))));
                if partners.is_empty() && matches!(kind, JoinKind::Left | JoinKind::Full) {
                    rows.push(alone);
                }
            }
            _ => {}
        }
    }
    for r in rights {
        let met = lefts.iter().any(|l| meet(l, r));
        let alone = (r.a, Some(r.c.clone()), None, Some(r.v));
        match kind {
            JoinKind::RightSemi if met => rows.push(alone),
            JoinKind::RightAnti | JoinKind::Right | JoinKind::Full if !met => rows.push(alone),
            _ => {}
        }
    }
    rows.sort();
    rows
}

fn ours(session: &Session, kind: JoinKind, blocks: usize) -> Dataset {
    // Closures hide how many rows there are, so a memory limit makes it a join of sorted sides.
    let left = session.from_items(lefts()).unwrap().filter(|_: &Left| Ok(true)).repartition(blocks);
    let right = session.from_items(rights()).unwrap().filter(|_: &Right| Ok(true));
    left.join(&right, Join::new(kind, [("a", "a"), ("b", "c")]))
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Any {
    a: Option<i64>,
    b: Option<String>,
    c: Option<String>,
    v: Option<i64>,
    v_right: Option<i64>,
}

fn rows(ds: &Dataset, kind: JoinKind) -> Vec<Joined> {
    let right_only = matches!(kind, JoinKind::RightSemi | JoinKind::RightAnti);
    let mut rows: Vec<Joined> = ds
        .take_all::<air_data::Row>()
        .unwrap()
        .iter()
        .map(|row| {
            let any: Any = serde_json::from_value(serde_json::to_value(row).unwrap()).unwrap();
            let (left, right) = if right_only { (None, any.v) } else { (any.v, any.v_right) };
            (any.a, any.b.or(any.c), left, right)
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn every_kind_is_what_a_loop_makes_of_it() {
    let engine = |parallelism, memory_limit_bytes| {
        let config = SessionConfig {
            parallelism,
            memory_limit_bytes,
            batch_rows: 8,
            progress: false,
            ..SessionConfig::default()
        };
        Session::new(config).unwrap()
    };
    for kind in KINDS {
        let expected = naive(kind, &lefts(), &rights(), |l, r| l.b == r.c);
        assert!(!expected.is_empty());
        for (parallelism, blocks, memory) in [(1, 1, 0), (3, 4, 0), (3, 4, 64 << 20)] {
            let ds = ours(&engine(parallelism, memory), kind, blocks);
            assert_eq!(rows(&ds, kind), expected, "{kind:?}, {parallelism} threads, limit {memory}");
            let merged = ds.explain().unwrap().contains("SortMergeJoinExec");
            assert_eq!(merged, memory > 0, "{}", ds.explain().unwrap());
        }
    }
}

#[test]
fn a_side_that_is_held_and_looked_up_is_what_a_loop_makes_of_it() {
    // Every key at most once, as in a table of things that others refer to; and all of them far from each other.
    let mut seen = std::collections::HashSet::new();
    let once: Vec<Right> = rights().into_iter().filter(|r| r.a.is_none() || seen.insert(r.a)).collect();
    let apart = |a: Option<i64>| a.map(|a| (a - 5) * (1 << 58));
    let far_lefts: Vec<Left> = lefts().into_iter().map(|l| Left { a: apart(l.a), ..l }).collect();
    let far_rights: Vec<Right> = rights().into_iter().map(|r| Right { a: apart(r.a), ..r }).collect();
    let none: Vec<Right> = rights().into_iter().map(|r| Right { a: r.a.map(|a| a + 100), ..r }).collect();
    let cases = [
        (lefts(), rights()),
        (lefts(), once.clone()),
        (lefts()[..5].to_vec(), rights()),
        (lefts().into_iter().filter(|l| l.a.is_some_and(|a| a < 4)).collect(), once),
        (far_lefts, far_rights),
        (lefts(), none),
    ];
    let mut looked_up = 0;
    for (parallelism, batch_rows, blocks) in [(1, 8192, 1), (3, 8192, 4), (3, 4, 2)] {
        let config = SessionConfig { parallelism, batch_rows, progress: false, ..SessionConfig::default() };
        let session = Session::new(config).unwrap();
        for (case, (lefts, rights)) in cases.iter().enumerate() {
            let left = session.from_items(lefts.clone()).unwrap().repartition(blocks);
            let right = session.from_items(rights.clone()).unwrap();
            for kind in KINDS {
                let ds = left.join(&right, Join::new(kind, ["a"]));
                let expected = naive(kind, lefts, rights, |_, _| true);
                assert_eq!(rows(&ds, kind), expected, "{kind:?}, case {case}, {parallelism} threads");
                looked_up += usize::from(ds.explain().unwrap().contains("look up"));
            }
        }
    }
    // Where the side that is held has to bring rows without a partner, DataFusion joins.
    assert!(looked_up >= 3 * cases.len() * KINDS.len() / 2, "{looked_up}");
}

#[test]
fn rows_whose_keys_no_held_row_has_are_not_read() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = dir.path().join("ids").to_string_lossy().into_owned();
    let options = WriteOptions { row_group_rows: Some(10_000), ..WriteOptions::default() };
    session.range(100_000).unwrap().write(&path, FileFormat::Parquet, options).unwrap();
    let read = |few: &Dataset, join: fn([&'static str; 1]) -> Join| {
        let ds = session.read_parquet(&path).unwrap().join(few, join(["id"]));
        let ids = ds.sum::<Option<i64>>("id").unwrap().unwrap_or(0);
        let ds = session.read_parquet(&path).unwrap().join(few, join(["id"])).select(["id"]);
        let count = ds.collect().unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>();
        let stats = ds.stats().unwrap();
        let scanned =
            stats.operators.iter().filter(|op| op.name.contains("DataSource")).filter_map(|op| op.rows).max();
        (count, ids, scanned.unwrap())
    };
    let few = session.from_items(vec![17_i64, 54_321, 17, 200_000]).unwrap().rename_columns([("item", "id")]);
    assert_eq!(read(&few, Join::inner), (3, 17 + 17 + 54_321, 2));
    assert_eq!(read(&few, Join::left_semi), (2, 17 + 54_321, 2));
    assert_eq!(read(&few, Join::left), (100_001, (0..100_000).sum::<i64>() + 17, 100_000));
    // Too many to be told one by one: the row groups that they may be in.
    let some = session.range(300).unwrap().with_column("id", col("id") + lit(25_000));
    assert_eq!(read(&some, Join::inner), (300, (25_000..25_300).sum(), 300));
    let none = session.range(0).unwrap();
    assert_eq!(read(&none, Join::inner), (0, 0, 0));
}

#[test]
fn the_columns_are_the_left_ones_and_the_right_ones_without_keys() {
    let session = session();
    let columns = |kind| ours(&session, kind, 1).columns().unwrap();
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full] {
        assert_eq!(columns(kind), ["a", "b", "v", "v_right"]);
    }
    assert_eq!(columns(JoinKind::LeftSemi), ["a", "b", "v"]);
    assert_eq!(columns(JoinKind::RightAnti), ["a", "c", "v"]);
    let (left, right) = (session.from_items(lefts()).unwrap(), session.from_items(rights()).unwrap());
    let named = left.join(&right, Join::inner(["a"]).suffixes("_l", "_r"));
    assert_eq!(named.columns().unwrap(), ["a", "b", "v_l", "c", "v_r"]);
    let clash = left.join(&right, Join::inner(["a"]).suffixes("", ""));
    let error = told(&clash.count().unwrap_err());
    assert_eq!(error, "column 'v' appears more than once in the join; give it other suffixes");
    // A dataset joins itself.
    let ids = session.range(10).unwrap();
    assert_eq!(ids.join(&ids, Join::inner(["id"])).count().unwrap(), 10);
}

#[test]
fn keys_that_cannot_be_compared_are_named_with_their_types() {
    let session = session();
    let ids = session.range(10).unwrap();
    let texts = ids.with_column("name", air_data::expr::cast(col("id"), air_data::expr::DataType::Utf8));
    let error = ids.join(&texts, Join::left([("id", "name")])).count().unwrap_err();
    assert!(matches!(error.root(), DataError::JoinKeys { .. }));
    assert_eq!(
        told(&error),
        "cannot join 'id' (Int64) with 'name' (Utf8); cast one of them with with_column first"
    );
    let narrow = ids.with_column("id", air_data::expr::cast(col("id"), air_data::expr::DataType::Int16));
    assert_eq!(ids.join(&narrow, Join::inner(["id"])).sum::<i64>("id").unwrap(), 45);
    let none: [&str; 0] = [];
    let error = told(&ids.join(&ids, Join::inner(none)).count().unwrap_err());
    assert_eq!(error, "bad setting on: a join needs at least one key");
}

#[test]
fn a_side_that_is_sure_to_be_small_is_held_in_memory() {
    let config = SessionConfig {
        parallelism: 2,
        memory_limit_bytes: 1 << 20,
        progress: false,
        ..SessionConfig::default()
    };
    let session = Session::new(config).unwrap();
    let (large, small) = (session.range(1_000_000).unwrap(), session.range(100).unwrap());
    for ds in [large.join(&small, Join::inner(["id"])), small.join(&large, Join::inner(["id"]))] {
        assert!(ds.explain().unwrap().contains("look up"), "{}", ds.explain().unwrap());
        assert_eq!(ds.count().unwrap(), 100);
    }
}

#[test]
fn a_join_of_sides_larger_than_memory_goes_to_disk() {
    let session = |memory_limit_bytes| {
        let config = SessionConfig {
            parallelism: 2,
            batch_rows: 1024,
            memory_limit_bytes,
            progress: false,
            ..SessionConfig::default()
        };
        Session::new(config).unwrap()
    };
    // 12 MB a side.
    let join = |session: &Session| {
        let left = session.range(750_000).unwrap().with_column("x", col("id") * lit(3));
        let right = session
            .range(750_000)
            .unwrap()
            .with_column("id", col("id") * lit(2))
            .with_column("y", col("id") + lit(1));
        left.join(&right, Join::inner(["id"]))
    };
    let limited = join(&session(10 << 20));
    assert!(limited.explain().unwrap().contains("SortMergeJoinExec"));
    let sums = |ds: &Dataset| (ds.count().unwrap(), ds.sum::<i64>("x").unwrap(), ds.sum::<i64>("y").unwrap());
    let expected =
        (375_000, (0..375_000).map(|i| i * 6).sum::<i64>(), (0..375_000).map(|i| i * 2 + 1).sum::<i64>());
    assert_eq!(sums(&limited), expected);
    assert_eq!(sums(&join(&session(0))), expected);
}
