//! Columns: selected, renamed, computed; and expressions.

use std::sync::Arc;

use air_core::BoxError;
use air_data::expr::{DataType, ExprFunctionExt, Udf, cast, functions, when, window};
use air_data::{DataError, Dataset, Row, asc, col, lit};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};

use super::{iris, session, told};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Pair {
    a: i64,
    b: String,
}

fn pairs() -> Dataset {
    let pairs = [(3, "x"), (1, "y"), (2, "x")].map(|(a, b)| Pair { a, b: b.to_owned() });
    session().from_items(pairs.to_vec()).unwrap()
}

#[test]
fn columns_are_selected_by_name_and_by_expression() {
    let ds = pairs();
    assert_eq!(ds.select(["b", "a"]).columns().unwrap(), ["b", "a"]);
    let sums = ds.select([col("a") + lit(1), (col("a") * lit(2)).alias("twice")]);
    assert_eq!(sums.columns().unwrap()[1], "twice");
    assert_eq!(sums.select(["twice"]).take_all::<i64>().unwrap(), [6, 2, 4]);
    let error = told(&ds.select(["a", "a"]).count().unwrap_err());
    assert_eq!(error, "column 'a' appears more than once in select");
}

#[test]
fn columns_are_renamed_in_their_places_all_at_once() {
    let ds = pairs();
    let exchanged = ds.rename_columns([("a", "b"), ("b", "a")]);
    assert_eq!(exchanged.columns().unwrap(), ["b", "a"]);
    assert_eq!(exchanged.select(["a"]).take_all::<String>().unwrap(), ["x", "y", "x"]);
    let error = ds.rename_columns([("a", "b")]).count().unwrap_err();
    assert!(matches!(error.root(), DataError::DuplicateColumn { column, .. } if column == "b"), "{error}");
    let error = told(&ds.rename_columns([("c", "d")]).count().unwrap_err());
    assert_eq!(error, "no column 'c'; the columns are a, b");
}

#[test]
fn computed_columns_see_the_columns_as_they_were() {
    let ds = pairs().with_columns([("a", col("a") * lit(10)), ("c", col("a") + lit(1))]);
    assert_eq!(ds.columns().unwrap(), ["a", "b", "c"]);
    assert_eq!(ds.select(["a"]).take_all::<i64>().unwrap(), [30, 10, 20]);
    assert_eq!(ds.select(["c"]).take_all::<i64>().unwrap(), [4, 2, 3]);
    // One after the other sees the new ones.
    let ds = pairs().with_column("a", col("a") * lit(10)).with_column("c", col("a") + lit(1));
    assert_eq!(ds.select(["c"]).take_all::<i64>().unwrap(), [31, 11, 21]);
}

#[test]
fn functions_of_every_kind_are_there() {
    let ds = pairs().select([
        functions::upper(col("b")).alias("upper"),
        functions::abs(lit(2) - col("a")).alias("abs"),
        when(col("a").gt(lit(1)), lit("many")).otherwise(lit("one")).unwrap().alias("case"),
        cast(col("a"), DataType::Utf8).alias("text"),
        functions::round(vec![lit(2.345) + cast(col("a"), DataType::Float64), lit(1)]).alias("round"),
    ]);
    let rows: Vec<String> = ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
    assert_eq!(
        rows,
        [
            r#"{"upper":"X","abs":1,"case":"many","text":"3","round":5.3}"#,
            r#"{"upper":"Y","abs":1,"case":"one","text":"1","round":3.3}"#,
            r#"{"upper":"X","abs":0,"case":"many","text":"2","round":4.3}"#,
        ]
    );
}

#[test]
fn functions_over_a_window_make_columns() {
    let sum = air_data::expr::window::lag(col("a"), Some(1), None)
        .partition_by(vec![col("b")])
        .order_by(vec![asc("a").into()])
        .build()
        .unwrap();
    let ds = pairs().with_column("before", sum).sort(["b", "a"]);
    let rows: Vec<(i64, Option<i64>)> =
        ds.take_all::<Row>().unwrap().iter().map(|row| (row.i64("a").unwrap(), row.i64("before"))).collect();
    assert_eq!(rows, [(2, None), (3, Some(2)), (1, None)]);
    let rank = window::row_number().order_by(vec![asc("a").into()]).build().unwrap();
    assert_eq!(
        pairs()
            .with_column("rank", rank)
            .filter_expr(col("rank").eq(lit(1)))
            .select(["b"])
            .take_all::<String>()
            .unwrap(),
        ["y"]
    );
}

#[test]
fn unknown_columns_are_met_by_the_nearest_and_a_list() {
    let ds = iris(&session());
    let columns = "the columns are sepal.length, sepal.width, petal.length, petal.width, variety";
    let expected = format!("no column 'sepal_length'; did you mean 'sepal.length'? {columns}");
    let near = |error: DataError| assert_eq!(told(&error), expected);
    near(ds.sort(["sepal_length"]).count().unwrap_err());
    near(ds.select([col("sepal_length") + lit(1.0)]).count().unwrap_err());
    near(ds.group_by(["sepal_length"]).count().count().unwrap_err());
    near(ds.group_by(["variety"]).sum("sepal_length").count().unwrap_err());
    near(ds.sum::<f64>("sepal_length").unwrap_err());
    near(ds.join(&ds, air_data::Join::inner(["sepal_length"])).count().unwrap_err());
    near(ds.unique::<f64>("sepal_length").unwrap_err());
}

#[test]
fn a_dataset_is_looked_into() {
    let ds = iris(&session());
    assert_eq!(ds.take_batch(7).unwrap().num_rows(), 7);
    assert_eq!(ds.input_files().unwrap(), [super::example("iris.csv")]);
    let derived = ds.materialize().union([&ds]).filter_expr(col("variety").eq(lit("Setosa")));
    assert_eq!(derived.input_files().unwrap(), [super::example("iris.csv")]);
    ds.session().register("flowers", &derived).unwrap();
    let query = ds.session().sql("select count(*) from flowers").unwrap();
    assert_eq!(query.input_files().unwrap(), [super::example("iris.csv")]);
    assert!(ds.to_string().starts_with("sepal.length: Float64 (nullable)\nsepal.width"), "{ds}");
    assert_eq!(session().range(5).unwrap().to_string(), "id: Int64");
    // Ten numbers of eight bytes.
    assert_eq!(session().range(10).unwrap().size_bytes().unwrap(), 80);
    assert_eq!(
        session().range(10).unwrap().select(["nope"]).to_string(),
        "invalid dataset: no column 'nope'; the columns are id"
    );
}

/// The engine's optimizer takes equal steps for one, so all of these ended too low.
#[test]
fn the_same_step_taken_again_is_another_step() {
    let numbers = |ds: &Dataset| ds.select(["a"]).take_all::<i64>().unwrap();
    let add = |ds: &Dataset| ds.with_column("a", col("a") + lit(1));
    let square = |ds: &Dataset| ds.with_column("a", col("a") * col("a"));
    let ds = pairs();
    assert_eq!(numbers(&add(&add(&ds))), [5, 3, 4]);
    assert_eq!(numbers(&(0..12).fold(ds.clone(), |ds, _| add(&ds))), [15, 13, 14]);
    assert_eq!(numbers(&square(&square(&ds))), [81, 1, 16]);
    let filtered = add(&add(&ds).filter_expr(col("a").gt(lit(0))));
    assert_eq!(numbers(&add(&filtered.sort([asc("a")]))), [4, 5, 6]);
    // By way of another name.
    let renamed = add(&ds).select([col("b"), (col("a") + lit(1)).alias("c")]).rename_columns([("c", "a")]);
    assert_eq!(numbers(&renamed), [5, 3, 4]);
    // Exchanged twice, three times.
    let exchange = |ds: &Dataset| ds.rename_columns([("a", "b"), ("b", "a")]);
    assert_eq!(numbers(&exchange(&exchange(&ds))), [3, 1, 2]);
    let thrice = exchange(&exchange(&exchange(&ds)));
    assert_eq!(thrice.select(["a"]).take_all::<String>().unwrap(), ["x", "y", "x"]);

    let session = session();
    session.register("t", &session.range(2).unwrap()).unwrap();
    let query = "select id + 1 as id from (select id + 1 as id from (select id + 1 as id from t))";
    assert_eq!(session.sql(query).unwrap().take_all::<i64>().unwrap(), [3, 4]);
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tagged {
    id: i64,
    tags: Option<Vec<String>>,
}

#[test]
fn lists_become_rows_with_the_other_columns_beside_them() {
    let tagged = |id, tags: Option<&[&str]>| Tagged {
        id,
        tags: tags.map(|tags| tags.iter().map(ToString::to_string).collect()),
    };
    let rows =
        vec![tagged(1, Some(&["a", "b"])), tagged(2, None), tagged(3, Some(&[])), tagged(4, Some(&["c"]))];
    let ds = session().from_items(rows).unwrap().repartition(3).explode("tags");
    assert_eq!(ds.columns().unwrap(), ["id", "tags"]);
    let rows: Vec<(i64, String)> = ds
        .rows::<Row>()
        .unwrap()
        .map(|row| row.map(|row| (row.i64("id").unwrap(), row.str("tags").unwrap().to_owned())).unwrap())
        .collect();
    assert_eq!(rows, [(1, "a".to_owned()), (1, "b".to_owned()), (4, "c".to_owned())]);
    assert_eq!(
        told(&pairs().explode("a").count().unwrap_err()),
        "bad setting column: explode needs lists, and 'a' is Int64"
    );
    assert_eq!(told(&pairs().explode("c").count().unwrap_err()), "no column 'c'; the columns are a, b");
}

#[test]
fn rows_one_after_the_other() {
    let ds = session().range(20_000).unwrap().repartition(3);
    assert!(ds.rows::<i64>().unwrap().map(Result::unwrap).eq(0..20_000));
    // What goes wrong is the last item, and told with its row.
    let mut rows = ds.map(|x: i64| Ok(if x == 9_000 { None } else { Some(x) })).rows::<i64>().unwrap();
    let error = rows.find_map(Result::err).unwrap();
    assert!(
        told(&error).starts_with("rows cannot convert between rows and i64 on row 9000"),
        "{}",
        told(&error)
    );
    assert!(rows.next().is_none());
    let failing = ds.map(|x: i64| if x == 12_345 { Err("no".into()) } else { Ok(x) });
    let error = failing.rows::<i64>().unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error.root(), DataError::Closure { .. }), "{error}");
}

#[test]
fn a_closure_is_a_function_in_expressions_and_in_sql() {
    let (session, ds) = (session(), pairs());
    let join = Udf::new("join", [DataType::Utf8, DataType::Int64], DataType::Utf8, |columns| {
        let (texts, numbers) = (columns[0].as_string::<i32>(), columns[1].as_primitive::<Int64Type>());
        let joined = texts.iter().zip(numbers).map(|(text, number)| Some(format!("{}{}", text?, number?)));
        Ok(Arc::new(joined.collect::<StringArray>()))
    })
    .unwrap();
    // A constant becomes a column, a smaller integer is cast.
    let joined = ds.with_column("c", join.call([col("b"), cast(col("a"), DataType::Int32) + lit(1_i32)]));
    assert_eq!(joined.select(["c"]).take_all::<String>().unwrap(), ["x4", "y2", "x3"]);
    let chosen = ds.filter_expr(join.call([col("b"), lit(7_i64)]).eq(lit("y7")));
    assert_eq!(chosen.select(["a"]).take_all::<i64>().unwrap(), [1]);
    session.register("pairs", &session.from_items(vec![Pair { a: 5, b: "z".into() }]).unwrap()).unwrap();
    let unknown = told(&session.sql("select join(b, a) as c from pairs").unwrap_err());
    assert!(unknown.contains("join"), "{unknown}");
    session.register_udf(&join);
    let answer = session.sql("select join(b, a) as c from pairs").unwrap();
    assert_eq!(answer.take_all::<String>().unwrap(), ["z5"]);
}

#[test]
fn a_function_that_fails_is_named() {
    let failing = |name: &str, function: fn(&[ArrayRef]) -> Result<ArrayRef, BoxError>| {
        let function = Udf::new(name, [DataType::Int64], DataType::Int64, function).unwrap();
        told(&pairs().with_column("c", function.call([col("a")])).take_all::<Row>().unwrap_err())
    };
    assert_eq!(failing("bad", |_| Err("no luck".into())), "function `bad`\n  caused by: no luck");
    assert_eq!(failing("loud", |_| panic!("oh")), "function `loud`\n  caused by: panicked: oh");
    let short = failing("short", |columns| Ok(columns[0].slice(0, 1)));
    assert_eq!(short, "function `short`\n  caused by: gave 1 rows for 3");
    let other = failing("other", |columns| Ok(Arc::new(StringArray::from(vec!["x"; columns[0].len()]))));
    assert_eq!(other, "function `other`\n  caused by: gave Utf8, not Int64");

    let named =
        Udf::new("", [DataType::Int64], DataType::Int64, |columns| Ok(columns[0].clone())).unwrap_err();
    assert!(told(&named).contains("name"), "{named}");
    let none = Udf::new("none", [], DataType::Int64, |columns| Ok(columns[0].clone())).unwrap_err();
    assert!(told(&none).contains("inputs"), "{none}");
    let double =
        Udf::new("double", [DataType::Int64], DataType::Int64, |columns| Ok(columns[0].clone())).unwrap();
    let error = told(&pairs().with_column("c", double.call([col("b"), col("a")])).count().unwrap_err());
    assert!(error.contains("double"), "{error}");
}
