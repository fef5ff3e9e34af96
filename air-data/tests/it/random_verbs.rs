//! Random chains of relational verbs against a naive interpreter: the same rows, and in the same order where one is promised, however
//! many threads, blocks, batches and bytes there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use air_data::expr::functions::coalesce;
use air_data::{Dataset, Join, MixUntil, Session, SessionConfig, agg, asc, col, desc, lit};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Rec {
    id: i64,
    k: Option<i64>,
    s: String,
    x: i64,
}

fn records(rows: usize) -> Vec<Rec> {
    let record = |id: i64| Rec {
        id,
        k: (id % 5 != 3).then_some(id * 7 % 6),
        s: ["a", "bb", "", "ü"][(id * 3 % 4) as usize].to_owned(),
        x: (id * 37) % 19 - 9,
    };
    (0..rows as i64).map(record).collect()
}

/// The right side of joins: keys 0, 1 (twice) and 9, and a null.
const RIGHT: [(Option<i64>, i64); 5] =
    [(Some(0), 10), (Some(1), 20), (Some(1), 30), (Some(9), 40), (None, 50)];

#[derive(Debug, Clone)]
enum Step {
    Sort { descending: bool, nulls_first: bool },
    Limit(usize),
    Above(i64),
    Compute,
    Negate,
    KeepEven,
    UnionSelf,
    Distinct,
    JoinLeft,
    Semi,
    Anti,
    Group,
    MapGroups,
    Shuffle(u64),
    BlockOrder(u64),
    MixSelf,
    ZipSelf,
    RowIndex,
    Rest(u64),
    Repartition(usize),
    Materialize,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), any::<bool>())
            .prop_map(|(descending, nulls_first)| Step::Sort { descending, nulls_first }),
        (0..60_usize).prop_map(Step::Limit),
        (-9..9_i64).prop_map(Step::Above),
        Just(Step::Compute),
        Just(Step::Negate),
        Just(Step::KeepEven),
        Just(Step::UnionSelf),
        Just(Step::Distinct),
        Just(Step::JoinLeft),
        Just(Step::Semi),
        Just(Step::Anti),
        Just(Step::Group),
        Just(Step::MapGroups),
        any::<u64>().prop_map(Step::Shuffle),
        any::<u64>().prop_map(Step::BlockOrder),
        Just(Step::MixSelf),
        Just(Step::ZipSelf),
        Just(Step::RowIndex),
        (0..40_u64).prop_map(Step::Rest),
        (1..6_usize).prop_map(Step::Repartition),
        Just(Step::Materialize),
    ]
}

/// Rows, and whether their order is known.
#[derive(Debug, Clone)]
struct Known {
    rows: Vec<Rec>,
    ordered: bool,
}

impl Step {
    /// Some steps mean something only where the order is known; none should make more rows than can be looked through.
    fn applies(&self, known: &Known) -> bool {
        match self {
            Self::Limit(_) | Self::ZipSelf | Self::RowIndex | Self::Rest(_) => known.ordered,
            Self::UnionSelf | Self::MixSelf | Self::JoinLeft => known.rows.len() < 400,
            _ => true,
        }
    }
}

fn partners(key: Option<i64>) -> Vec<i64> {
    RIGHT.iter().filter(|(k, _)| k.is_some() && *k == key).map(|(_, y)| *y).collect()
}

fn groups(rows: Vec<Rec>) -> BTreeMap<(bool, Option<i64>), Vec<Rec>> {
    let mut groups: BTreeMap<_, Vec<Rec>> = BTreeMap::new();
    for row in rows {
        // Nulls last.
        groups.entry((row.k.is_none(), row.k)).or_default().push(row);
    }
    groups
}

fn summed(rows: Vec<Rec>) -> Vec<Rec> {
    groups(rows)
        .into_values()
        .map(|group| Rec {
            id: group.len() as i64,
            k: group[0].k,
            s: group.iter().map(|row| row.s.clone()).max().unwrap(),
            x: group.iter().map(|row| row.x).sum(),
        })
        .collect()
}

fn naive(known: Known, step: &Step) -> Known {
    let Known { mut rows, ordered } = known;
    let same = |rows| Known { rows, ordered };
    let unordered = |rows| Known { rows, ordered: false };
    match step.clone() {
        Step::Sort { descending, nulls_first } => {
            let nulls = |row: &Rec| row.k.is_none() != nulls_first;
            rows.sort_by(|a, b| {
                let keys = if descending { b.k.cmp(&a.k) } else { a.k.cmp(&b.k) };
                nulls(a).cmp(&nulls(b)).then(keys).then(b.x.cmp(&a.x)).then((&a.s, a.id).cmp(&(&b.s, b.id)))
            });
            Known { rows, ordered: true }
        }
        Step::Limit(n) => same(rows.into_iter().take(n).collect()),
        Step::Above(n) => same(rows.into_iter().filter(|row| row.x > n).collect()),
        Step::Compute => same(rows.into_iter().map(|row| Rec { x: row.x + row.id % 7, ..row }).collect()),
        Step::Negate => {
            same(rows.into_iter().map(|row| Rec { x: -row.x, k: row.k.map(|k| 5 - k), ..row }).collect())
        }
        Step::KeepEven => same(rows.into_iter().filter(|row| row.x % 2 == 0).collect()),
        Step::UnionSelf => same([rows.clone(), rows].concat()),
        Step::MixSelf => unordered([rows.clone(), rows].concat()),
        Step::Distinct => unordered(rows.into_iter().collect::<BTreeSet<_>>().into_iter().collect()),
        Step::JoinLeft => unordered(
            rows.into_iter()
                .flat_map(|row| {
                    let mut found = partners(row.k);
                    if found.is_empty() {
                        found.push(0);
                    }
                    found.into_iter().map(move |y| Rec { x: row.x + y, ..row.clone() })
                })
                .collect(),
        ),
        Step::Semi => unordered(rows.into_iter().filter(|row| !partners(row.k).is_empty()).collect()),
        Step::Anti => unordered(rows.into_iter().filter(|row| partners(row.k).is_empty()).collect()),
        Step::Group => unordered(summed(rows)),
        Step::MapGroups => Known { rows: summed(rows), ordered: true },
        Step::Shuffle(_) | Step::BlockOrder(_) => unordered(rows),
        Step::ZipSelf => same(rows.into_iter().map(|row| Rec { x: 2 * row.x, ..row }).collect()),
        Step::RowIndex => {
            same(rows.into_iter().enumerate().map(|(index, row)| Rec { x: index as i64, ..row }).collect())
        }
        Step::Rest(n) => same(rows.into_iter().skip(n as usize).collect()),
        Step::Repartition(_) | Step::Materialize => same(rows),
    }
}

fn columns(ds: &Dataset) -> Dataset {
    ds.select(["id", "k", "s", "x"])
}

fn one_row(batch: &RecordBatch) -> RecordBatch {
    let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    let texts = batch.column_by_name("s").unwrap().as_string::<i32>();
    let rows = batch.num_rows().min(1);
    let sum: i64 = number("x").iter().flatten().sum();
    let last = texts.iter().flatten().max().unwrap_or_default();
    let columns: [(&str, ArrayRef, bool); 4] = [
        ("id", Arc::new(Int64Array::from(vec![batch.num_rows() as i64; rows])), false),
        ("k", Arc::new(number("k").slice(0, rows)), true),
        ("s", Arc::new(StringArray::from(vec![last; rows])), false),
        ("x", Arc::new(Int64Array::from(vec![sum; rows])), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn ours(ds: &Dataset, right: &Dataset, step: &Step) -> Dataset {
    match step.clone() {
        Step::Sort { descending, nulls_first } => {
            let key = if descending { desc("k") } else { asc("k") };
            let key = if nulls_first { key.nulls_first() } else { key };
            ds.sort([key, desc("x"), asc("s"), asc("id")])
        }
        Step::Limit(n) => ds.limit(n),
        Step::Above(n) => ds.filter_expr(col("x").gt(lit(n))),
        Step::Compute => ds.with_column("x", col("x") + col("id") % lit(7_i64)),
        Step::Negate => ds.map(|row: Rec| Ok(Rec { x: -row.x, k: row.k.map(|k| 5 - k), ..row })),
        Step::KeepEven => ds.filter(|row: &Rec| Ok(row.x % 2 == 0)),
        Step::UnionSelf => ds.union([&ds.select(["x", "s", "id", "k"])]),
        Step::MixSelf => Dataset::mix([(ds, 2.0), (ds, 0.5)], MixUntil::AllEnd).unwrap(),
        Step::Distinct => ds.distinct(),
        Step::JoinLeft => {
            let joined = ds.join(right, Join::left([("k", "key")]));
            columns(&joined.with_column("x", col("x") + coalesce(vec![col("y"), lit(0_i64)])))
        }
        Step::Semi => ds.join(right, Join::left_semi([("k", "key")])),
        Step::Anti => ds.join(right, Join::left_anti([("k", "key")])),
        Step::Group => columns(&ds.group_by(["k"]).aggregate([
            agg::count().alias("id"),
            agg::max("s").alias("s"),
            agg::sum("x").alias("x"),
        ])),
        Step::MapGroups => ds.group_by(["k"]).map_groups(|batch| Ok(one_row(&batch))),
        Step::Shuffle(seed) => ds.random_shuffle(seed),
        Step::BlockOrder(seed) => ds.randomize_block_order(seed),
        Step::ZipSelf => columns(&ds.zip(&ds.select(["x"])).with_column("x", col("x") + col("x_1"))),
        Step::RowIndex => columns(&ds.with_row_index("row").with_column("x", col("row"))),
        Step::Rest(n) => ds.split_at_indices(&[n]).unwrap()[1].clone(),
        Step::Repartition(n) => ds.repartition(n),
        Step::Materialize => ds.materialize(),
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Right {
    key: Option<i64>,
    y: i64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_chain_of_verbs(
        rows in 1..120_usize,
        blocks in 1..5_usize,
        batch_rows in prop_oneof![1..20_usize, Just(8192)],
        parallelism in 1..4_usize,
        // With a limit joins are of sorted sides.
        memory_limit_bytes in prop_oneof![Just(0_u64), Just(64 << 20)],
        steps in prop::collection::vec(step(), 1..7),
    ) {
        let config = SessionConfig {
            parallelism, batch_rows, memory_limit_bytes, progress: false,
            ..SessionConfig::default()
        };
        let session = Session::new(config).unwrap();
        let right = RIGHT.iter().map(|(key, y)| Right { key: *key, y: *y }).collect();
        let right = session.from_items::<Right>(right).unwrap();
        let mut known = Known { rows: records(rows), ordered: true };
        let mut ds = session.from_items(known.rows.clone()).unwrap().repartition(blocks);
        for step in &steps {
            if step.applies(&known) {
                ds = ours(&ds, &right, step);
                known = naive(known, step);
            }
        }
        prop_assert_eq!(ds.count().unwrap(), known.rows.len() as u64);
        let mut got = ds.take_all::<Rec>().unwrap();
        if !known.ordered {
            got.sort();
            known.rows.sort();
        }
        prop_assert_eq!(got, known.rows);
    }
}
