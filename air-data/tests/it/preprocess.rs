//! Preprocessors against scikit-learn's numbers (`tests/preprocess/make.py` made them).

use std::collections::BTreeMap;

use air_core::tensor::DType;
use air_data::preprocess::{
    Chain, Concatenator, CountVectorizer, FeatureHasher, Fitted, HashingVectorizer, KBinsDiscretizer,
    LabelEncoder, MaxAbsScaler, MinMaxScaler, MultiHotEncoder, Norm, Normalizer, OneHotEncoder,
    OrdinalEncoder, PowerMethod, PowerTransformer, Preprocessor, RobustScaler, SimpleImputer, StandardScaler,
    Strategy, Tokenizer, Tokens,
};
use air_data::{DataError, Dataset, Session, SessionConfig, TensorColumns, col, lit};
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
    e: Vec<f64>,
    t: Vec<Option<String>>,
    l: Vec<Option<Vec<String>>>,
    m: Vec<Vec<i64>>,
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
    dealt(rows.collect())
}

/// In several blocks, and batches that do not divide them.
fn dealt<T: Serialize>(rows: Vec<T>) -> Dataset {
    let config = SessionConfig { parallelism: 2, batch_rows: 7, progress: false, ..SessionConfig::default() };
    Session::new(config).unwrap().from_items(rows).unwrap().repartition(3)
}

/// The columns of the table that came later, beside those of numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct More {
    a: Option<f64>,
    b: i64,
    c: Option<String>,
    d: f64,
    e: f64,
    t: Option<String>,
    l: Option<Vec<String>>,
    m: Vec<i64>,
}

fn more() -> Dataset {
    let input = made().input;
    let rows = (0..input.b.len()).map(|i| More {
        a: input.a[i],
        b: input.b[i],
        c: input.c[i].clone(),
        d: input.d[i],
        e: input.e[i],
        t: input.t[i].clone(),
        l: input.l[i].clone(),
        m: input.m[i].clone(),
    });
    dealt(rows.collect())
}

/// The columns of a dataset are these, to about as many bits.
fn near(ds: &Dataset, columns: &[&str], expected: &Value, tolerance: f64) {
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
                        (got - expected).abs() <= tolerance * expected.abs().max(1.0),
                        "{name} {row}: {got} {expected}"
                    );
                }
                (got, expected) => assert_eq!(got, expected, "{name} {row}"),
            }
        }
    }
}

/// What is learnt does the same after a journey as JSON, and to a single batch.
fn fitted(ds: &Dataset, preprocessor: &impl Preprocessor) -> (Fitted, Dataset) {
    let (fitted, transformed) = preprocessor.fit_transform(ds).unwrap();
    let again = Fitted::from_json(&fitted.to_json()).unwrap();
    assert_eq!(again, fitted);
    let batch = again.transform_batch(&ds.to_batch().unwrap()).unwrap();
    assert_eq!(batch, transformed.to_batch().unwrap());
    (fitted, transformed)
}

fn check(preprocessor: &impl Preprocessor, columns: &[&str], expected: &str) -> Fitted {
    let (fitted, transformed) = fitted(&table(), preprocessor);
    near(&transformed, columns, &made().expected[expected], 1e-12);
    fitted
}

/// A column of vectors is these, row by row.
fn vectors<T>(ds: &Dataset, column: &str, expected: &str) -> Vec<Vec<T>>
where
    T: serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let got: Vec<Vec<T>> = ds.select([column]).take_all().unwrap();
    let expected: Vec<Vec<T>> = serde_json::from_value(made().expected[expected].clone()).unwrap();
    assert_eq!(got, expected);
    got
}

fn names(expected: &str) -> Vec<String> {
    serde_json::from_value(made().expected[expected].clone()).unwrap()
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
fn rows_of_length_one() {
    for (norm, name) in [(Norm::L1, "l1"), (Norm::L2, "l2"), (Norm::Max, "max")] {
        let (_, normal) = fitted(&more(), &Normalizer::new(["b", "e"], norm));
        near(&normal, &["b", "e"], &made().expected[&format!("Normalizer_{name}")], 1e-12);
    }
    // Zeros stay zeros; a null is none of a row's numbers.
    let rows = [(Some(0.0), 0.0), (None, -4.0), (Some(3.0), 4.0)]
        .map(|(a, b)| BTreeMap::from([("a", a), ("b", Some(b))]));
    let (_, normal) = fitted(&dealt(rows.to_vec()), &Normalizer::new(["a", "b"], Norm::L2));
    assert_eq!(normal.select(["a"]).take_all::<Option<f64>>().unwrap(), [Some(0.0), None, Some(0.6)]);
    assert_eq!(normal.select(["b"]).take_all::<f64>().unwrap(), [0.0, -1.0, 0.8]);
}

/// scikit-learn finds λ to about eight digits, and so do we.
#[test]
fn powers() {
    for (method, name, columns) in [
        (PowerMethod::YeoJohnson, "yeo-johnson", &["a", "b", "d", "e"][..]),
        (PowerMethod::BoxCox, "box-cox", &["e"][..]),
    ] {
        let transformer = PowerTransformer::new(columns.to_vec(), method);
        let (learnt, bent) = fitted(&more(), &transformer);
        near(&bent, columns, &made().expected[&format!("PowerTransformer_{name}")], 1e-6);
        let Fitted::Power { columns: powers } = &learnt else { panic!("{learnt:?}") };
        let lambdas = &made().expected[&format!("PowerTransformer_lambdas_{name}")];
        let lambdas: Vec<f64> = serde_json::from_value(lambdas.clone()).unwrap();
        for (power, lambda) in powers.iter().zip(&lambdas) {
            assert!((power.lambda - lambda).abs() < 1e-6, "{} {lambda}", power.lambda);
        }
        let (_, bent) = fitted(&more(), &transformer.standardize(false));
        near(&bent, columns, &made().expected[&format!("PowerTransformer_plain_{name}")], 1e-6);
    }
    let error = told(&PowerTransformer::new(["b"], PowerMethod::BoxCox).fit(&more()).unwrap_err());
    assert!(error.ends_with("Box-Cox needs positive numbers; Yeo-Johnson takes any"), "{error}");
    let learnt = PowerTransformer::new(["e"], PowerMethod::BoxCox).fit(&more()).unwrap();
    let zero = more().with_column("e", lit(0.0));
    let error = told(&learnt.transform(&zero).collect().unwrap_err());
    assert!(error.contains("Box-Cox needs positive numbers, not 0"), "{error}");
}

#[test]
fn bins() {
    let (_, uniform) = fitted(&more(), &KBinsDiscretizer::uniform(["b", "e"], 5));
    near(&uniform, &["b", "e"], &made().expected["KBinsDiscretizer_uniform"], 0.0);
    let (_, quantiles) = fitted(&more(), &KBinsDiscretizer::quantile(["b", "e"], 5));
    near(&quantiles, &["b", "e"], &made().expected["KBinsDiscretizer_quantile"], 0.0);
    let (_, custom) = fitted(&more(), &KBinsDiscretizer::custom([("b", vec![-20.0, 0.0, 31.0])]));
    let expected: Vec<i64> = serde_json::from_value(made().expected["digitize"].clone()).unwrap();
    assert_eq!(custom.select(["b"]).take_all::<i64>().unwrap(), expected);
    // What is missing has no bin, what lies outside the first or the last.
    let learnt = KBinsDiscretizer::uniform(["a"], 3).fit(&table()).unwrap();
    let values = vec![Some(-1e9), None, Some(f64::NAN), Some(1e9)];
    let few = session().from_items(values).unwrap().rename_columns([("item", "a")]);
    assert_eq!(learnt.transform(&few).take_all::<Option<i64>>().unwrap(), [Some(0), None, None, Some(2)]);
    let error = told(&KBinsDiscretizer::custom([("b", vec![1.0, 1.0])]).fit(&more()).unwrap_err());
    assert!(error.contains("each larger than the one before"), "{error}");
    let error = told(&KBinsDiscretizer::uniform(["b"], 1).fit(&more()).unwrap_err());
    assert!(error.ends_with("between 2 and 65536 bins, not 1"), "{error}");
}

#[test]
fn lists_as_ones_and_zeros() {
    for (column, kind) in [("l", "text"), ("m", "numbers, by their value")] {
        let (learnt, hot) = fitted(&more(), &MultiHotEncoder::new([column]));
        vectors::<u8>(&hot, column, &format!("MultiLabelBinarizer_{column}"));
        assert_eq!(
            learnt.labels(column).unwrap(),
            names(&format!("MultiLabelBinarizer_classes_{column}")),
            "{kind}"
        );
    }
    let error = told(&MultiHotEncoder::new(["e"]).fit(&more()).unwrap_err());
    assert!(error.ends_with("it needs lists, and the values are Float64"), "{error}");
}

#[test]
fn texts_as_counts_and_hashes() {
    let (learnt, counts) = fitted(&more(), &CountVectorizer::new(["t"]));
    vectors::<u32>(&counts, "t", "CountVectorizer");
    assert_eq!(learnt.labels("t").unwrap(), names("CountVectorizer_names"));
    let (learnt, counts) = fitted(&more(), &CountVectorizer::new(["t"]).max_features(4));
    vectors::<u32>(&counts, "t", "CountVectorizer_most");
    assert_eq!(learnt.labels("t").unwrap(), names("CountVectorizer_names_most"));

    for (norm, name) in [(Some(Norm::L2), "l2"), (Some(Norm::L1), "l1"), (None, "None")] {
        let (_, hashed) = fitted(&more(), &HashingVectorizer { norm, ..HashingVectorizer::new(["t"], 16) });
        // To the last bit of an `f32`.
        vectors::<f32>(&hashed, "t", &format!("HashingVectorizer_{name}"));
    }
    let (_, hashed) = fitted(&more(), &FeatureHasher::new(["b", "c", "a"], 8));
    assert_eq!(hashed.columns().unwrap(), ["d", "e", "t", "l", "m", "hashed"]);
    vectors::<f32>(&hashed, "hashed", "FeatureHasher");

    // Tokens made before are counted as they are.
    let chain = Chain::new().then(Tokenizer::new(["t"], Tokens::Words)).then(CountVectorizer::new(["t"]));
    let (_, counts) = fitted(&more(), &chain);
    vectors::<u32>(&counts, "t", "CountVectorizer");
    let (_, tokens) = fitted(&more(), &Tokenizer::new(["t"], Tokens::Separated(", ".into())));
    let tokens: Vec<Option<Vec<String>>> = tokens.select(["t"]).take_all().unwrap();
    for (tokens, text) in tokens.iter().zip(made().input.t) {
        assert_eq!(tokens.as_ref().map(|tokens| tokens.join(", ")), text);
    }

    let error = told(&HashingVectorizer::new(["t"], 0).fit(&more()).unwrap_err());
    assert!(error.ends_with("vectors of 0 numbers; between 1 and 4096 are made"), "{error}");
    let error = told(&CountVectorizer::new(["e"]).fit(&more()).unwrap_err());
    assert!(error.contains("CountVectorizer cannot use column 'e': it needs text"), "{error}");
    let many = session().range(5000).unwrap().map(|x: i64| Ok(format!("word{x}")));
    let error = told(&CountVectorizer::new(["id"]).fit(&many).unwrap_err());
    assert!(error.contains("more than 4096 different tokens"), "{error}");
}

#[test]
fn vectors_are_tensors_and_join_numbers() {
    let chain = Chain::new()
        .then(MultiHotEncoder::new(["m"]))
        .then(KBinsDiscretizer::uniform(["b"], 5))
        .then(Concatenator::new(["e", "m", "b"]));
    let (_, ready) = fitted(&more(), &chain);
    let batch = ready.to_batch().unwrap();
    let features = batch.tensor("features").unwrap();
    assert_eq!((features.shape(), features.dtype()), (&[40, 5][..], DType::F32));
    let expected = made();
    let bins: Vec<Vec<f32>> =
        serde_json::from_value(expected.expected["KBinsDiscretizer_uniform"].clone()).unwrap();
    let hot: Vec<Vec<f32>> =
        serde_json::from_value(expected.expected["MultiLabelBinarizer_m"].clone()).unwrap();
    for row in 0..40 {
        let got = features.select(0, row).unwrap().to_vec::<f32>().unwrap();
        let input = &expected.input;
        assert_eq!(got, [&[input.e[row] as f32], &hot[row][..], &[bins[0][row]]].concat());
    }
}

/// As a server does: a request's rows in, a model's vectors out, without an engine.
#[test]
fn rust_values_are_transformed() {
    let ds = more().select(["a", "b", "t"]);
    let learnt = Chain::new()
        .then(SimpleImputer::new(["a"], Strategy::Mean))
        .then(CountVectorizer::new(["t"]))
        .then(Concatenator::new(["a", "b", "t"]).output("x"))
        .fit(&ds)
        .unwrap();
    #[derive(Serialize, Deserialize)]
    struct Request {
        t: Option<String>,
        a: Option<f64>,
        b: i64,
    }
    let words = learnt.labels("t").unwrap().to_vec();
    let ask = |a, b, t: Option<&str>| Request { t: t.map(str::to_owned), a, b };
    let answers: Vec<Vec<f32>> =
        learnt.transform_items(&[ask(None, 7, Some("Red red blue")), ask(Some(1.5), -1, None)]).unwrap();
    let Fitted::Chain { steps } = &learnt else { panic!() };
    assert_eq!(steps.len(), 3);
    let mean = made().input.a.iter().flatten().sum::<f64>() / made().input.a.iter().flatten().count() as f64;
    assert!((f64::from(answers[0][0]) - mean).abs() < 1e-6);
    assert_eq!(answers[0][1], 7.0);
    let count = |word: &str| answers[0][2 + words.iter().position(|known| known == word).unwrap()];
    assert_eq!((count("red"), count("blue"), count("b2b")), (2.0, 1.0, 0.0));
    assert_eq!(answers[1], [&[1.5, -1.0][..], &vec![0.0; words.len()]].concat());
    let maps = [BTreeMap::from([("b".to_owned(), 3.0)])];
    let error = learnt.transform_items::<BTreeMap<String, f64>, Vec<f32>>(&maps);
    assert!(matches!(error, Err(DataError::UnknownColumn { .. })), "{error:?}");
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
