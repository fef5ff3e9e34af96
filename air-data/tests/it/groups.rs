//! Groups, aggregates, summaries.

use std::collections::{BTreeMap, HashMap};

use air_data::{DataError, Dataset, Session, SessionConfig, agg, col, lit};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::{iris, session, told};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Sale {
    shop: Option<String>,
    amount: i64,
    price: Option<f64>,
}

/// 300 sales in four shops, one of which has no name.
fn sales() -> Vec<Sale> {
    let sale = |index: i64| Sale {
        shop: [Some("north"), Some("south"), None, Some("west")][(index * 7 % 4) as usize].map(str::to_owned),
        amount: (index * 31) % 17 - 5,
        price: (index % 5 != 0).then_some(f64::from((index * 13 % 29) as i32) / 4.0),
    };
    (0..300).map(sale).collect()
}

fn engine(parallelism: usize) -> Session {
    let config = SessionConfig { parallelism, batch_rows: 16, progress: false, ..SessionConfig::default() };
    Session::new(config).unwrap()
}

fn table(parallelism: usize) -> Dataset {
    engine(parallelism).from_items(sales()).unwrap().repartition(4)
}

#[derive(Debug, Serialize, Deserialize)]
struct Got {
    shop: Option<String>,
    rows: i64,
    prices: i64,
    sum: i64,
    min: i64,
    max: i64,
    mean: f64,
    std: f64,
    abs_max: i64,
    median: f64,
    upper: f64,
    near: f64,
    unique: Vec<i64>,
    distinct: i64,
    missing: f64,
    zero: f64,
    list: Vec<i64>,
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
}

/// As NumPy does by default: between the two nearest values.
fn quantile(values: &[f64], at: f64) -> f64 {
    let place = at * (values.len() - 1) as f64;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

#[test]
fn every_aggregate_is_what_a_loop_makes_of_it() {
    let mut groups: HashMap<Option<String>, Vec<Sale>> = HashMap::new();
    for sale in sales() {
        groups.entry(sale.shop.clone()).or_default().push(sale);
    }
    for parallelism in [1, 3] {
        let got: Vec<Got> = table(parallelism)
            .group_by(["shop"])
            .aggregate([
                agg::count().alias("rows"),
                agg::count_values("price").alias("prices"),
                agg::sum("amount").alias("sum"),
                agg::min("amount").alias("min"),
                agg::max("amount").alias("max"),
                agg::mean("price").alias("mean"),
                agg::std("price").alias("std"),
                agg::abs_max("amount").alias("abs_max"),
                agg::quantile("amount", 0.5).alias("median"),
                agg::quantile("price", 0.9).alias("upper"),
                agg::approx_quantile("price", 0.5).alias("near"),
                agg::unique("amount").alias("unique"),
                agg::count_distinct("amount").alias("distinct"),
                agg::missing_percentage("price").alias("missing"),
                agg::zero_percentage("amount").alias("zero"),
                agg::list("amount").alias("list"),
            ])
            .take_all()
            .unwrap();
        assert_eq!(got.len(), groups.len());
        for mut got in got {
            let rows = &groups[&got.shop];
            let mut amounts: Vec<i64> = rows.iter().map(|sale| sale.amount).collect();
            amounts.sort_unstable();
            let mut prices: Vec<f64> = rows.iter().filter_map(|sale| sale.price).collect();
            prices.sort_by(f64::total_cmp);
            let (n, count) = (rows.len() as f64, prices.len() as f64);
            assert_eq!((got.rows, got.prices), (rows.len() as i64, prices.len() as i64));
            assert_eq!(got.sum, amounts.iter().sum::<i64>());
            assert_eq!((got.min, got.max), (amounts[0], amounts[amounts.len() - 1]));
            let mean = prices.iter().sum::<f64>() / count;
            close(got.mean, mean);
            close(
                got.std,
                (prices.iter().map(|price| (price - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt(),
            );
            assert_eq!(got.abs_max, amounts.iter().map(|amount| amount.abs()).max().unwrap());
            let floats: Vec<f64> = amounts.iter().map(|amount| *amount as f64).collect();
            close(got.median, quantile(&floats, 0.5));
            close(got.upper, quantile(&prices, 0.9));
            // A t-digest of 100 centroids over so few values is off by less than a hundredth of the ranks on either side.
            assert!((quantile(&prices, 0.48)..=quantile(&prices, 0.52)).contains(&got.near), "{}", got.near);
            got.list.sort_unstable();
            assert_eq!(got.list, amounts);
            amounts.dedup();
            assert_eq!(got.unique, amounts);
            assert_eq!(got.distinct, amounts.len() as i64);
            close(got.missing, 100.0 * (n - count) / n);
            close(got.zero, 100.0 * rows.iter().filter(|sale| sale.amount == 0).count() as f64 / n);
        }
    }
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Counted {
    value: i64,
    count: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    all: Vec<Counted>,
    top: Vec<Counted>,
}

#[test]
fn many_groups_are_what_a_loop_makes_of_them() {
    let rows = 300_000_i64;
    let key = |id: i64| id * 7919 % 120_001;
    let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for id in 0..rows {
        let group = expected.entry(key(id)).or_default();
        *group = (group.0 + id, group.1 + 1);
    }
    // Those of a small budget are not dealt to clusters, or few at a time.
    for (memory_limit_bytes, batch_rows) in [(0, 8192), (256 << 20, 1000), (64 << 20, 100)] {
        let config = SessionConfig {
            parallelism: 2,
            batch_rows,
            memory_limit_bytes,
            progress: false,
            ..SessionConfig::default()
        };
        let ds = Session::new(config).unwrap().range(rows as u64).unwrap();
        let keyed = ds.with_column("key", (col("id") * lit(7919)) % lit(120_001));
        let groups =
            keyed.group_by(["key"]).aggregate([agg::sum("id").alias("sum"), agg::count().alias("count")]);
        let plan = groups.explain().unwrap();
        assert!(plan.contains("cluster, bytes="), "{plan}");
        let batch = groups.to_batch().unwrap();
        let numbers = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values();
        let sums = numbers("sum").iter().copied().zip(numbers("count").iter().copied());
        let found: BTreeMap<i64, (i64, i64)> = numbers("key").iter().copied().zip(sums).collect();
        assert_eq!(batch.num_rows(), found.len(), "a group came twice");
        assert!(found == expected, "a budget of {memory_limit_bytes}");
    }
}

#[test]
fn values_are_counted_the_most_frequent_first() {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for sale in sales() {
        *counts.entry(sale.amount).or_default() += 1;
    }
    let mut expected: Vec<Counted> =
        counts.into_iter().map(|(value, count)| Counted { value, count }).collect();
    expected.sort_by_key(|entry| (-entry.count, entry.value));
    let ds = table(3)
        .aggregate([agg::value_counts("amount").alias("all"), agg::approx_top_k("amount", 3).alias("top")]);
    let got: Vec<Counts> = ds.take_all().unwrap();
    assert_eq!(got[0].all, expected);
    assert_eq!(got[0].top[..], expected[..3]);
}

#[test]
fn verbs_of_groups_and_of_the_whole() {
    let ds = iris(&session());
    let groups = ds.group_by(["variety"]);
    assert_eq!(groups.count().columns().unwrap(), ["variety", "count()"]);
    assert_eq!(groups.count().select(["count()"]).take_all::<i64>().unwrap(), [50, 50, 50]);
    // Checked with pandas.
    let sums = groups.sum("petal.length").sort(["variety"]).select(["sum(petal.length)"]);
    for (got, expected) in sums.take_all::<f64>().unwrap().into_iter().zip([73.1, 213.0, 277.6]) {
        close(got, expected);
    }
    for (means, expected) in [
        (groups.mean("petal.length"), [1.462, 4.26, 5.552]),
        (groups.min("petal.length"), [1.0, 3.0, 4.5]),
        (groups.max("petal.length"), [1.9, 5.1, 6.9]),
        (
            groups.std("petal.length"),
            [0.173_663_996_480_184_07, 0.469_910_977_239_957_9, 0.551_894_695_663_983_4],
        ),
    ] {
        let name = means.columns().unwrap()[1].clone();
        let got = means.sort(["variety"]).select([name]).take_all::<f64>().unwrap();
        got.into_iter().zip(expected).for_each(|(got, expected)| close(got, expected));
    }
    close(ds.mean("sepal.length").unwrap(), 5.843_333_333_333_334);
    close(ds.std("sepal.length").unwrap(), 0.828_066_127_977_863);
    assert_eq!(ds.max::<String>("variety").unwrap(), "Virginica");
    assert_eq!(ds.unique::<String>("variety").unwrap(), ["Setosa", "Versicolor", "Virginica"]);
    assert_eq!(ds.select(["variety"]).distinct().count().unwrap(), 3);
    assert_eq!(ds.sum::<f64>(col("sepal.length") * lit(0.0)).unwrap(), 0.0);
    let corr = air_data::expr::aggregates::corr(col("sepal.length"), col("petal.length")).alias("r");
    let corr = ds.aggregate([corr]);
    assert_eq!(corr.columns().unwrap(), ["r"]);
    close(corr.take::<f64>(1).unwrap()[0], 0.871_753_775_886_583);
}

#[test]
fn aggregates_of_nothing() {
    let ds = session().range(10).unwrap().filter_expr(col("id").lt(lit(0)));
    assert_eq!(ds.sum::<Option<i64>>("id").unwrap(), None);
    assert_eq!(ds.aggregate([agg::count()]).take_all::<i64>().unwrap(), [0]);
    assert_eq!(ds.aggregate([agg::unique("id")]).take_all::<Vec<i64>>().unwrap(), [Vec::<i64>::new()]);
    assert_eq!(ds.group_by(["id"]).count().count().unwrap(), 0);
    assert_eq!(ds.unique::<i64>("id").unwrap(), Vec::<i64>::new());
}

#[test]
fn aggregates_that_make_no_sense() {
    let ds = iris(&session());
    let error = told(&ds.sum::<f64>("variety").unwrap_err());
    assert_eq!(error, "cannot compute sum(variety): it needs numbers, and the values are Utf8");
    let error = told(&ds.aggregate([agg::quantile("sepal.length", 1.5)]).count().unwrap_err());
    assert_eq!(error, "cannot compute quantile(sepal.length): a quantile lies between 0 and 1, not at 1.5");
    let error = told(&ds.aggregate([agg::approx_top_k("variety", 0)]).count().unwrap_err());
    assert_eq!(error, "cannot compute approx_top_k(variety): it needs room for one value at least");
    let twice = ds.aggregate([agg::quantile("sepal.length", 0.1), agg::quantile("sepal.length", 0.9)]);
    let error = told(&twice.count().unwrap_err());
    assert_eq!(
        error,
        "column 'quantile(sepal.length)' appears more than once in the aggregates; name them with alias"
    );
    let none: [agg::Aggregate; 0] = [];
    assert!(told(&ds.aggregate(none).count().unwrap_err()).starts_with("bad setting aggregates"));
    assert!(
        told(&ds.group_by(Vec::<String>::new()).count().count().unwrap_err()).starts_with("bad setting keys")
    );
}

/// `key` and the sum of `id`, of a group.
fn key_and_sum(batch: &RecordBatch) -> RecordBatch {
    let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let keys = batch.column_by_name("key").unwrap().as_primitive::<Int64Type>();
    assert!(keys.iter().all(|key| key == keys.iter().next().unwrap()), "one key a group");
    let key = keys.iter().next().map(|key| key.unwrap());
    let rows = usize::from(key.is_some());
    let key = Int64Array::from_iter_values(key);
    let sum = Int64Array::from_iter_values((rows == 1).then(|| ids.iter().flatten().sum::<i64>()));
    RecordBatch::try_from_iter([("key", Arc::new(key) as _), ("sum", Arc::new(sum) as _)]).unwrap()
}

#[test]
fn groups_are_mapped_whole_and_in_order_whatever_the_batches() {
    let expected: Vec<(i64, i64)> =
        (0..7).map(|key| (key, (0..1000).filter(|id| id % 7 == key).sum())).collect();
    for (parallelism, batch_rows) in [(1, 8192), (3, 16), (2, 1)] {
        let config = SessionConfig { parallelism, batch_rows, progress: false, ..SessionConfig::default() };
        let ds = Session::new(config).unwrap().range(1000).unwrap().repartition(5);
        let sums = ds
            .with_column("key", col("id") % lit(7))
            .group_by(["key"])
            .map_groups(|batch| Ok(key_and_sum(&batch)));
        let batch = sums.to_batch().unwrap();
        let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        let got: Vec<(i64, i64)> = column(0).into_iter().zip(column(1)).collect();
        assert_eq!(got, expected, "{parallelism} threads, batches of {batch_rows}");
    }
}

#[test]
fn what_goes_wrong_in_a_group_names_it() {
    let ds = session().range(100).unwrap().with_column("key", col("id") % lit(7));
    let groups = ds.group_by(["key"]);
    let first = |batch: &RecordBatch| {
        let keys = batch.column_by_name("key").unwrap().as_primitive::<Int64Type>();
        keys.iter().next().flatten()
    };
    let failed = groups.map_groups(move |batch| match first(&batch) {
        Some(3) => Err("three".into()),
        _ => Ok(batch),
    });
    let error = told(&failed.collect().unwrap_err());
    assert!(error.starts_with("map_groups of the group key=3 failed on rows 44..58"), "{error}");
    assert!(error.ends_with("three"), "{error}");
    let panicked = groups.map_groups(move |batch| {
        assert_ne!(first(&batch), Some(4), "four");
        Ok(batch)
    });
    let error = told(&panicked.collect().unwrap_err());
    assert!(error.starts_with("map_groups of the group key=4 panicked") && error.contains("four"), "{error}");
    let error = told(&groups.map_groups(|_| Err("no".into())).count().unwrap_err());
    assert!(error.contains("give the columns with map_groups_to"), "{error}");
}

#[test]
fn a_group_larger_than_memory_is_refused_by_name() {
    let config = SessionConfig {
        parallelism: 2,
        batch_rows: 1024,
        memory_limit_bytes: 4 << 20,
        progress: false,
        ..SessionConfig::default()
    };
    // 4.8 MB in the group 0, and 48 KB in each other one.
    let ds = Session::new(config).unwrap().range(600_000).unwrap();
    let key = air_data::expr::when(col("id").lt(lit(300_000)), lit(0_i64))
        .otherwise(col("id") / lit(3000_i64))
        .unwrap();
    let ds = ds.with_column("key", key);
    let count = |ds: &Dataset| ds.group_by(["key"]).map_groups(Ok).count();
    let error = count(&ds).unwrap_err();
    assert!(
        matches!(error.root(), DataError::GroupTooLarge { group, .. } if group == "key=0"),
        "{}",
        told(&error)
    );
    assert_eq!(count(&ds.filter_expr(col("key").gt(lit(0)))).unwrap(), 300_000);
}

#[test]
fn a_summary_tells_every_column() {
    let summary = iris(&session()).summary().unwrap();
    assert_eq!((summary.rows, summary.columns.len()), (150, 5));
    let petal = &summary.columns[2];
    assert_eq!(
        (petal.name.as_str(), petal.data_type.as_str(), petal.count),
        ("petal.length", "Float64", 150)
    );
    assert_eq!((petal.min.as_deref(), petal.max.as_deref()), (Some("1.0"), Some("6.9")));
    close(petal.mean.unwrap(), 3.758);
    close(petal.std.unwrap(), 1.765_298_233_259_466_4);
    let variety = &summary.columns[4];
    assert_eq!((variety.distinct, variety.mean, variety.min.as_deref()), (Some(3), None, Some("Setosa")));
    let missing = table(2).summary().unwrap();
    assert_eq!(missing.columns[2].missing_percentage, Some(20.0));
    let text = summary.to_string();
    assert!(text.starts_with("150 rows\ncolumn") && text.lines().count() == 7, "{text}");
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<air_data::Summary>(&json).unwrap(), summary);
    let none = session().range(0).unwrap().summary().unwrap();
    assert_eq!((none.rows, none.columns[0].missing_percentage, none.columns[0].min.clone()), (0, None, None));
}

#[test]
fn means_of_values_of_different_weight() {
    #[derive(Serialize, Deserialize)]
    struct Mark {
        class: String,
        points: Option<i64>,
        weight: Option<f64>,
    }
    let mark = |class: &str, points, weight| Mark { class: class.to_owned(), points, weight };
    let marks = vec![
        mark("a", Some(1), Some(3.0)),
        mark("b", Some(5), Some(0.0)),
        mark("a", Some(4), Some(1.5)),
        mark("a", None, Some(100.0)),
        mark("a", Some(100), None),
    ];
    let ds = session().from_items(marks).unwrap().repartition(3);
    let means = ds.group_by(["class"]).aggregate([agg::weighted_mean("points", "weight")]).sort(["class"]);
    assert_eq!(means.columns().unwrap(), ["class", "weighted_mean(points)"]);
    let means = means.select(["weighted_mean(points)"]).take_all::<Option<f64>>().unwrap();
    assert_eq!(means, [Some(2.0), None]);
    let mean: f64 =
        ds.aggregate([agg::weighted_mean(col("points") * lit(2), "weight").alias("m")]).take(1).unwrap()[0];
    assert_eq!(mean, 4.0);
}
