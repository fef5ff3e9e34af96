//! Questions about a real table, answered by DuckDB (`tests/answers/make.py`) and by our verbs.

use std::collections::BTreeMap;

use air_data::expr::{DataType, ExprFunctionExt, cast, functions, when, window};
use air_data::{Dataset, Expr, Join, Row, agg, asc, col, desc, lit};
use serde::Deserialize;
use serde_json::Value;

use super::real::flights;
use super::session;

#[derive(Debug, Deserialize)]
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// DuckDB's answer to a question.
fn duckdb(question: &str) -> Answer {
    let mut answers: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../answers/duckdb.json")).unwrap();
    serde_json::from_value(answers.remove(question).unwrap()).unwrap()
}

/// The same, to the last few bits of floats: the order of a sum is not promised.
fn equal(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Number(got), Value::Number(expected)) if got.is_f64() || expected.is_f64() => {
            let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
            (got - expected).abs() <= 1e-11 * expected.abs().max(1.0)
        }
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len()
                && got.iter().zip(expected).all(|(got, expected)| equal(got, expected))
        }
        _ => got == expected,
    }
}

/// A dataset's rows, in its order, are DuckDB's answer.
fn check(ds: &Dataset, question: &str) {
    let expected = duckdb(question);
    assert_eq!(ds.columns().unwrap(), expected.columns, "{question}");
    let rows: Vec<Row> = ds.take_all().unwrap();
    assert_eq!(rows.len(), expected.rows.len(), "{question}");
    for (number, (row, expected)) in rows.iter().zip(&expected.rows).enumerate() {
        for ((name, got), expected) in row.0.iter().zip(expected) {
            assert!(
                equal(got, expected),
                "{question}: row {number}, {name}: {got}, DuckDB has {expected}\n{row}"
            );
        }
    }
}

fn table() -> Option<Dataset> {
    Some(session().read_parquet(flights("parquet")?).unwrap())
}

/// How many rows an expression holds for.
fn count_if(yes: Expr) -> agg::Aggregate {
    agg::count_values(when(yes, lit(1)).end().unwrap())
}

#[test]
fn filters() {
    let Some(ds) = table() else { return };
    let chosen = ds.filter_expr(
        col("dep_delay")
            .gt(lit(60))
            .and(col("carrier").in_list(vec![lit("AA"), lit("UA"), lit("DL")], false))
            .and(col("origin").not_eq(lit("JFK")))
            .and(col("dest").like(lit("S%"))),
    );
    let answer = chosen.aggregate([
        agg::count().alias("n"),
        agg::count_values("arr_delay").alias("arrived"),
        agg::min("dep_delay").alias("least"),
        agg::sum("distance").alias("miles"),
    ]);
    check(&answer, "filters");
    let delay = || col("dep_delay");
    let some = functions::coalesce(vec![col("arr_delay"), delay(), lit(-999_i64)]);
    let answer = ds.aggregate([
        count_if(!delay().gt(lit(0))).alias("not_late"),
        count_if(delay().gt(lit(0)).or(col("arr_delay").is_null())).alias("late_or_lost"),
        count_if(some.lt(lit(0))).alias("early"),
        count_if(col("arr_delay").between(lit(-5), lit(5))).alias("punctual"),
        count_if(col("tailnum").is_null()).alias("unnamed"),
    ]);
    check(&answer, "filters with nulls");
}

#[test]
fn groups_and_every_aggregate() {
    let Some(ds) = table() else { return };
    let answer = ds.group_by(["carrier"]).aggregate([
        agg::count().alias("n"),
        agg::count_values("dep_delay").alias("left_"),
        agg::sum("distance").alias("miles"),
        agg::min("dep_delay").alias("least"),
        agg::max("dep_delay").alias("most"),
        agg::mean("arr_delay").alias("mean"),
        agg::std("arr_delay").alias("std"),
        agg::abs_max("dep_delay").alias("abs_max"),
        agg::quantile("arr_delay", 0.9).alias("late"),
        agg::count_distinct("tailnum").alias("planes"),
        agg::missing_percentage("arr_delay").alias("missing"),
        agg::zero_percentage("dep_delay").alias("zero"),
        agg::min("tailnum").alias("first_plane"),
        agg::max("dest").alias("last_dest"),
    ]);
    check(&answer.sort(["carrier"]), "every aggregate");

    let groups = ds.group_by(["origin", "month"]);
    let answer = groups.aggregate([agg::count().alias("n"), agg::mean("air_time").alias("mean")]);
    let large = answer.filter_expr(col("n").gt(lit(9000))).sort(["origin", "month"]);
    check(&large, "groups by two keys, the large ones");

    let airways = ds.filter_expr(col("carrier").eq(lit("US")));
    let grounded = airways.with_column("grounded", col("dep_time").is_null());
    let answer = grounded.group_by(["grounded", "tailnum"]).aggregate([agg::count().alias("n")]);
    let order = [desc("n"), asc("tailnum").nulls_first(), asc("grounded")];
    check(&answer.sort(order).limit(12), "nulls are a group");

    let lists = ds.group_by(["origin"]).aggregate([agg::unique("carrier").alias("carriers")]);
    check(&lists.sort(["origin"]), "different values as lists");

    // The three most frequent of each list of values and counts.
    let counts =
        ds.group_by(["origin"]).aggregate([agg::value_counts("dest").alias("dests")]).sort(["origin"]);
    let mut got = Vec::new();
    for row in counts.take_all::<Row>().unwrap() {
        let dests = row.get("dests").unwrap().as_array().unwrap();
        assert!(dests.len() > 50, "{row}");
        got.extend(dests[..3].iter().map(|dest| {
            vec![row.get("origin").unwrap().clone(), dest["value"].clone(), dest["count"].clone()]
        }));
    }
    assert_eq!(got, duckdb("the most frequent values").rows);

    let rows = ds.select(["origin", "dest", "carrier"]).distinct();
    let length = cast(functions::character_length(col("dest")), DataType::Int64);
    let answer = rows.aggregate([agg::count().alias("n"), agg::sum(length).alias("letters")]);
    check(&answer, "different rows");
}

#[test]
fn joins() {
    let Some(ds) = table() else { return };
    let means = ds.group_by(["carrier"]).mean("distance").rename_columns([("mean(distance)", "mean")]);
    let far = ds.join(&means, Join::inner(["carrier"])).filter_expr(col("distance").gt(col("mean")));
    let answer =
        far.group_by(["carrier"]).aggregate([agg::count().alias("n"), agg::sum("distance").alias("miles")]);
    check(&answer.sort(["carrier"]), "joined with aggregates of itself");

    let february = ds.filter_expr(col("month").eq(lit(2)));
    let planes = february.group_by(["tailnum"]).aggregate([agg::count().alias("n")]);
    let day = ds.filter_expr(col("month").eq(lit(1)).and(col("day").eq(lit(1))));
    let answer = day.join(&planes, Join::left(["tailnum"])).group_by(["carrier"]).aggregate([
        agg::count().alias("flights"),
        agg::count_values("n").alias("known"),
        agg::sum("n").alias("n"),
    ]);
    check(&answer.sort(["carrier"]), "a left join with keys that are null");

    let of = |month: i64, name: &str| {
        let flights = ds.filter_expr(col("month").eq(lit(month)));
        flights.group_by(["dest"]).aggregate([agg::count().alias(name)])
    };
    let (winter, summer) = (of(1, "winter"), of(7, "summer"));
    let both = winter.join(&summer, Join::full(["dest"]));
    let answer = both.filter_expr(
        col("winter").is_null().or(col("summer").is_null()).or(col("winter").gt(lit(3_i64) * col("summer"))),
    );
    check(&answer.select(["dest", "winter", "summer"]).sort(["dest"]), "a full join");

    let from = |origin: &str| ds.filter_expr(col("origin").eq(lit(origin))).select(["dest"]).distinct();
    let (jfk, lga) = (from("JFK"), from("LGA"));
    let side = |ds: Dataset, name: &str| {
        let answer = ds.aggregate([
            agg::count().alias("n"),
            agg::min("dest").alias("first"),
            agg::max("dest").alias("last"),
        ]);
        answer.with_column("side", lit(name)).select(["side", "n", "first", "last"])
    };
    let both = side(jfk.join(&lga, Join::left_semi(["dest"])), "both");
    let alone = side(jfk.join(&lga, Join::left_anti(["dest"])), "JFK alone");
    check(&both.union([&alone]).sort(["side"]), "semi and anti joins");
}

#[test]
fn windows_and_sorts() {
    let Some(ds) = table() else { return };
    let keys = || [desc("dep_delay"), asc("carrier"), asc("flight"), asc("day"), asc("sched_dep_time")];
    let over = |function: Expr| {
        let keys = keys().into_iter().map(Into::into).collect();
        function.partition_by(vec![col("origin"), col("month")]).order_by(keys)
    };
    let sum = air_data::expr::aggregates::sum(col("dep_delay"));
    let numbered = ds.with_columns([
        ("place", over(window::row_number()).build().unwrap()),
        ("running", over(window::over(sum)).window_frame(window::rows(None, Some(0))).build().unwrap()),
        ("before", over(window::lag(col("flight"), Some(1), None)).build().unwrap()),
    ]);
    let columns = ["origin", "month", "day", "carrier", "flight", "dep_delay", "place", "running", "before"];
    let first = numbered.filter_expr(col("place").lt_eq(lit(2))).select(columns);
    check(&first.sort(["origin", "month", "place"]), "windows");

    let nashville = col("dest").eq(lit("BNA")).and(col("month").in_list(vec![lit(2), lit(3)], false));
    let sorted = ds.filter_expr(nashville).sort([
        desc("dep_delay").nulls_first(),
        asc("arr_delay"),
        desc("carrier"),
        asc("flight"),
        asc("month"),
        asc("day"),
        asc("tailnum").nulls_first(),
    ]);
    let columns = ["dep_delay", "arr_delay", "carrier", "flight", "month", "day", "tailnum"];
    check(&sorted.limit(60).select(columns), "sorts with nulls first and last");
}

#[test]
fn computed_columns() {
    let Some(ds) = table() else { return };
    let hour = || col("hour");
    let part = when(hour().lt(lit(6)), lit("night"))
        .when(hour().lt(lit(12)), lit("morning"))
        .when(hour().lt(lit(18)), lit("afternoon"))
        .otherwise(lit("evening"))
        .unwrap();
    let weekday = cast(functions::date_part(lit("dow"), col("date")), DataType::Int64);
    let parts = ds.with_columns([("part", part), ("weekday", weekday)]).group_by(["part", "weekday"]);
    let answer = parts.aggregate([agg::count().alias("n"), agg::mean("dep_delay").alias("delay")]);
    check(&answer.sort(["part", "weekday"]), "buckets and dates");

    let chosen = ds.filter_expr(col("tailnum").like(lit("%MQ")).or(col("tailnum").is_null()));
    let letter = functions::upper(functions::substring(col("dest"), lit(1), lit(1)));
    let length = cast(functions::character_length(col("tailnum")), DataType::Int64);
    let answer = chosen.with_column("letter", letter).group_by(["letter"]).aggregate([
        agg::count().alias("n"),
        agg::count_distinct("dest").alias("places"),
        agg::max(length).alias("longest"),
    ]);
    check(&answer.sort(["letter"]), "text");
}
