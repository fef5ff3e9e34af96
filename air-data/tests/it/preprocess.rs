//! Preprocessors against scikit-learn's numbers (`tests/preprocess/make.py` made them).

use std::collections::BTreeMap;

use air_data::preprocess::{
    Chain, Concatenator, Fitted, LabelEncoder, MaxAbsScaler, MinMaxScaler, OneHotEncoder, OrdinalEncoder,
    Preprocessor, RobustScaler, SimpleImputer, StandardScaler, Strategy,
};
use air_data::{DataError, Dataset, Session, SessionConfig, col, lit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{iris, session, told};

#[derive(Debug, Deserialize)]
struct Made {
    input: Input,
    expected: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Input {
    a: Vec<Option<f64>>,
    b: Vec<i64>,
    c: Vec<Option<String>>,
    d: Vec<f64>,
    n: Vec<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rec {
    a: Option<f64>,
    b: i64,
    c: Option<String>,
    d: f64,
    n: i64,
}

fn made() -> Made {
    serde_json::from_str(include_str!("../preprocess/sklearn.json")).unwrap()
}

fn table() -> Dataset {
    let input = made().input;
    let rows = (0..input.b.len()).map(|i| Rec {
        a: input.a[i],
        b: input.b[i],
        c: input.c[i].clone(),
        d: input.d[i],
        n: input.n[i],
    });
    let config = SessionConfig { parallelism: 2, batch_rows: 7, progress: false, ..SessionConfig::default() };
    Session::new(config).unwrap().from_items(rows.collect()).unwrap().repartition(3)
}

/// The columns of a dataset are these, to the last few bits.
fn same(ds: &Dataset, columns: &[&str], expected: &Value) {
    let expected: Vec<Vec<Option<f64>>> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(columns.len(), expected.len());
    for (name, expected) in columns.iter().zip(expected) {
        let as_float = air_data::expr::cast(col(name), air_data::expr::DataType::Float64);
        let got: Vec<Option<f64>> = ds.select([as_float.alias("x")]).take_all().unwrap();
        assert_eq!(got.len(), expected.len());
        for (row, (got, expected)) in got.iter().zip(&expected).enumerate() {
            match (got, expected) {
                (Some(got), Some(expected)) => {
                    assert!(
                        (got - expected).abs() <= 1e-12 * expected.abs().max(1.0),
                        "{name} {row}: {got} {expected}"
                    );
                }
                (got, expected) => assert_eq!(got, expected, "{name} {row}"),
            }
        }
    }
}

/// What is learnt does the same after a journey as JSON, and to a single batch.
fn check(preprocessor: &impl Preprocessor, columns: &[&str], expected: &str) -> Fitted {
    let (ds, made) = (table(), made());
    let (fitted, transformed) = preprocessor.fit_transform(&ds).unwrap();
    same(&transformed, columns, &made.expected[expected]);
    let again = Fitted::from_json(&fitted.to_json()).unwrap();
    assert_eq!(again, fitted);
    let batch = again.transform_batch(&ds.to_batch().unwrap()).unwrap();
    assert_eq!(batch, transformed.to_batch().unwrap());
    fitted
}

#[test]
fn scalers() {
    let columns = ["a", "b", "d"];
    check(&StandardScaler::new(columns), &columns, "StandardScaler");
    check(&MinMaxScaler::new(columns), &columns, "MinMaxScaler");
    check(&MaxAbsScaler::new(columns), &columns, "MaxAbsScaler");
    check(&RobustScaler::new(columns), &columns, "RobustScaler");
}

#[test]
fn encoders() {
    check(&OrdinalEncoder::new(["c"]), &["c"], "OrdinalEncoder");
    // Numbers by their value, not as text.
    check(&OrdinalEncoder::new(["n"]), &["n"], "OrdinalEncoder_n");
    let expected = made().expected;
    let names: Vec<String> = serde_json::from_value(expected["OneHotEncoder_names"].clone()).unwrap();
    let columns: Vec<String> = names.iter().map(|name| format!("c_{name}")).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let fitted = check(&OneHotEncoder::new(["c"]), &columns, "OneHotEncoder");
    assert_eq!(fitted.labels("c").unwrap(), names);
    let all = fitted.transform(&table()).columns().unwrap();
    assert_eq!(all, [&["a", "b"], &columns[..], &["d", "n"]].concat());
    let (fitted, labels) = LabelEncoder::new("n").fit_transform(&table()).unwrap();
    let expected: Vec<i64> = serde_json::from_value(expected["LabelEncoder"].clone()).unwrap();
    assert_eq!(labels.select(["n"]).take_all::<i64>().unwrap(), expected);
    assert_eq!(fitted.labels("n").unwrap(), ["2", "10", "33"]);
    assert_eq!(fitted.labels("a"), None);
}

#[test]
fn imputers() {
    for (strategy, expected) in [
        (Strategy::Mean, "SimpleImputer_mean"),
        (Strategy::Median, "SimpleImputer_median"),
        (Strategy::MostFrequent, "SimpleImputer_most_frequent"),
    ] {
        check(&SimpleImputer::new(["a", "b"], strategy), &["a", "b"], expected);
    }
    let (_, filled) = SimpleImputer::new(["c"], Strategy::MostFrequent).fit_transform(&table()).unwrap();
    let expected: Vec<String> =
        serde_json::from_value(made().expected["SimpleImputer_text"].clone()).unwrap();
    assert_eq!(filled.select(["c"]).take_all::<String>().unwrap(), expected);
    let (_, filled) =
        SimpleImputer::new(["a"], Strategy::Constant("-1.5".into())).fit_transform(&table()).unwrap();
    let got = filled.select(["a"]).take_all::<f64>().unwrap();
    assert!(made().input.a.iter().zip(got).all(|(was, is)| was.unwrap_or(-1.5) == is));
}

#[test]
fn a_chain_ends_in_vectors() {
    let chain = || {
        Chain::new()
            .then(SimpleImputer::new(["a", "b"], Strategy::Mean))
            .then(StandardScaler::new(["a", "b"]))
    };
    check(&chain(), &["a", "b"], "chain");
    let (_, vectors) =
        chain().then(Concatenator::new(["b", "a"]).output("x")).fit_transform(&table()).unwrap();
    assert_eq!(vectors.columns().unwrap(), ["c", "d", "n", "x"]);
    let expected: Vec<Vec<f64>> = serde_json::from_value(made().expected["chain"].clone()).unwrap();
    let got: Vec<Vec<f32>> = vectors.select(["x"]).take_all().unwrap();
    for (row, got) in got.iter().enumerate() {
        assert_eq!(got.len(), 2);
        assert!(
            (f64::from(got[0]) - expected[1][row]).abs() < 1e-6
                && (f64::from(got[1]) - expected[0][row]).abs() < 1e-6
        );
    }
}

#[test]
fn values_that_a_fit_has_not_seen() {
    let ds = iris(&session());
    let two = ds.filter_expr(col("variety").not_eq(lit("Setosa")));
    let fitted = LabelEncoder::new("variety").fit(&two).unwrap();
    let labels = fitted.transform(&ds).select(["variety"]).take_all::<Option<i64>>().unwrap();
    assert_eq!((labels[0], labels[50], labels[149]), (None, Some(0), Some(1)));
}

#[test]
fn mistakes_are_told_with_the_column() {
    let ds = iris(&session());
    let error = told(&StandardScaler::new(["variety"]).fit(&ds).unwrap_err());
    assert_eq!(
        error,
        "StandardScaler cannot use column 'variety': it needs numbers, and the values are Utf8"
    );
    let error = told(&StandardScaler::new(["nope"]).fit(&ds).unwrap_err());
    assert!(error.starts_with("no column 'nope'"), "{error}");
    let none = ds.filter_expr(lit(false));
    let error = told(&MinMaxScaler::new(["sepal.length"]).fit(&none).unwrap_err());
    assert!(error.ends_with("it has no values, or infinite ones, to be fitted to"), "{error}");
    let error = told(&OneHotEncoder::new(["variety"]).fit(&none).unwrap_err());
    assert!(error.ends_with("it has no values to be fitted to"), "{error}");
    let fitted = StandardScaler::new(["sepal.length"]).fit(&ds).unwrap();
    let error = told(&fitted.transform(&ds.drop_columns(["sepal.length"])).count().unwrap_err());
    assert!(error.starts_with("no column 'sepal.length'"), "{error}");
    let error = Concatenator::new(["a"]).fit(&table()).unwrap().transform(&table()).collect().unwrap_err();
    assert!(told(&error).contains("it has a null; impute it first"), "{}", told(&error));
    let error = Fitted::from_json("{\"kind\": \"scaled\", \"columns\": [{}]}").unwrap_err();
    assert!(matches!(error, DataError::Preprocess { .. }), "{error}");
    let constant = SimpleImputer::new(["sepal.length"], Strategy::Constant("x".into())).fit(&ds).unwrap();
    assert!(told(&constant.transform(&ds).collect().unwrap_err()).contains("sepal.length"));
}
