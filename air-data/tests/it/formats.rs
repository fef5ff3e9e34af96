//! TFRecord, WebDataset and JSON arrays: files that their own libraries made (`tests/formats/make.py`), there and back, and what is told of spoilt ones.

use std::path::PathBuf;
use std::sync::Arc;

use air_data::{Dataset, FileErrors, FileFormat, ReadOptions, Row, Session, col, lit};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};

use super::{iris, session, told};

pub fn fixture(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name).to_string_lossy().into_owned()
}

fn put(dir: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

fn out(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_string_lossy().into_owned()
}

fn given(fields: &[(&str, DataType)]) -> ReadOptions {
    let fields = fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    ReadOptions { schema: Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))), ..ReadOptions::default() }
}

fn columns(ds: &Dataset) -> Vec<String> {
    ds.schema()
        .unwrap()
        .fields()
        .iter()
        .map(|field| format!("{}: {}", field.name(), field.data_type()))
        .collect()
}

#[test]
fn examples_that_python_wrote() {
    let ds = session().read_tfrecord(fixture("examples.tfrecord")).unwrap();
    let list = |kind| DataType::new_list(kind, false);
    let schema = ds.schema().unwrap();
    let kinds: Vec<(&str, &DataType)> =
        schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    let expected = [
        ("big", &list(DataType::Int64)),
        ("id", &DataType::Int64),
        ("ids", &list(DataType::Int64)),
        ("image", &DataType::Binary),
        ("vector", &list(DataType::Float32)),
        ("weight", &DataType::Float32),
        ("words", &list(DataType::Binary)),
    ];
    assert_eq!(kinds, expected);
    let batch = ds.to_batch().unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("id").as_primitive::<Int64Type>().values(), &[-1, 0, 1]);
    assert_eq!(column("weight").as_primitive::<Float32Type>().values(), &[0.0, 0.5, 1.0]);
    assert_eq!(column("image").as_binary::<i32>().value(2), [0, 255, 2]);
    let ids = column("ids");
    let ids: Vec<Vec<i64>> = (0..3)
        .map(|row| ids.as_list::<i32>().value(row).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(ids, [vec![], vec![0], vec![0, 1]]);
    let big = column("big");
    assert_eq!(big.as_list::<i32>().value(1).as_primitive::<Int64Type>().values(), &[i64::MAX, i64::MIN]);
    let words = column("words");
    assert!(words.is_null(1) && words.null_count() == 1);
    let words = words.as_list::<i32>().value(0);
    assert_eq!(
        (words.as_binary::<i32>().value(0), words.as_binary::<i32>().value(1)),
        (&b"a"[..], "ä".as_bytes())
    );

    assert_eq!(ds.select(["weight", "id"]).filter_expr(col("id").gt(lit(-1))).count().unwrap(), 2);
    assert_eq!(ds.limit(2).select(["id"]).take_all::<i64>().unwrap(), [-1, 0]);
    // Columns that are given: fewer, as text, as vectors, and one that no record has.
    let fields = [
        ("vector", DataType::new_fixed_size_list(DataType::Float32, 2, false)),
        ("words", list(DataType::Utf8)),
        ("none", DataType::Int64),
    ];
    let ds = session().read_with(fixture("examples.tfrecord"), FileFormat::TfRecord, given(&fields)).unwrap();
    let lines: Vec<String> = ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
    assert_eq!(lines[0], r#"{"vector":[0.0,-1.5],"words":["a","ä"],"none":null}"#);
    assert_eq!(lines[1], r#"{"vector":[1.0,-1.5],"words":null,"none":null}"#);
}

#[test]
fn examples_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let flowers = iris(&session).with_column("n", col("sepal.length") * lit(10)).repartition(3);
    assert_eq!(flowers.write_tfrecord(out(&dir, "iris")).unwrap().len(), 3);
    let back = session.read_tfrecord(out(&dir, "iris")).unwrap();
    assert_eq!(back.count().unwrap(), 150);
    let sum: f64 = back.sum("n").unwrap();
    let expected: f64 = flowers.sum("n").unwrap();
    assert!((sum - expected).abs() < 1e-2, "{sum} {expected}");
    let varieties = back.select(["variety"]).to_batch().unwrap();
    assert_eq!(varieties.column(0).as_binary::<i32>().value(149), b"Virginica");

    // What was read is written the same, byte by byte, but for the order of features.
    let ds = session.read_tfrecord(fixture("examples.tfrecord")).unwrap();
    ds.write_tfrecord(out(&dir, "one.tfrecord")).unwrap();
    let once = session.read_tfrecord(out(&dir, "one.tfrecord")).unwrap();
    assert_eq!(once.to_batch().unwrap(), ds.to_batch().unwrap());
    once.write_tfrecord(out(&dir, "two.tfrecord")).unwrap();
    assert_eq!(
        std::fs::read(out(&dir, "one.tfrecord")).unwrap(),
        std::fs::read(out(&dir, "two.tfrecord")).unwrap()
    );

    let big: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![1, u64::MAX]));
    let big = session.from_batches(vec![RecordBatch::try_from_iter([("big", big)]).unwrap()]).unwrap();
    let error = told(&big.write_tfrecord(out(&dir, "big.tfrecord")).unwrap_err());
    assert!(error.contains("big.tfrecord") && error.contains("'big'"), "{error}");
    let dates = session.sql("select date '2024-02-29' as day").unwrap();
    let error = told(&dates.write_tfrecord(out(&dir, "dates.tfrecord")).unwrap_err());
    assert!(error.contains("'day' is Date32, which TFRecord does not hold"), "{error}");
    assert!(!dir.path().join("dates.tfrecord").exists());
    // A write that fails leaves nothing, in any format.
    let numbers = session.range(100).unwrap().repartition(4);
    let failing = numbers.map(|x: i64| if x == 99 { Err("no".into()) } else { Ok(x) });
    for format in [FileFormat::TfRecord, FileFormat::JsonArray] {
        assert!(failing.write(&out(&dir, "failed"), format, air_data::WriteOptions::default()).is_err());
        assert!(!dir.path().join("failed").exists());
    }
}

/// Many rows of which a late one has another shape.
fn late(session: &Session, path: &str, rows: usize, last: &[i64]) {
    let items: Vec<Option<Vec<Option<i64>>>> = (0..rows)
        .map(|row| {
            Some(if row + 1 == rows {
                last.iter().map(|x| Some(*x)).collect()
            } else {
                vec![Some(row as i64)]
            })
        })
        .collect();
    let lists: ArrayRef = Arc::new(arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>(items));
    let batch = RecordBatch::try_from_iter([("x", lists)]).unwrap();
    session.from_batches(vec![batch]).unwrap().write_tfrecord(path).unwrap();
}

#[test]
fn examples_that_do_not_fit_are_told_with_their_place() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = out(&dir, "late.tfrecord");
    late(&session, &path, 1500, &[7, 8]);
    let ds = session.read_tfrecord(&path).unwrap();
    assert_eq!(columns(&ds), ["x: Int64"]);
    let error = told(&ds.collect().unwrap_err());
    assert!(error.starts_with(&format!("reading {path}\n  caused by: record 1499 at byte ")), "{error}");
    assert!(error.contains("feature 'x' has 2 values, where one is expected"), "{error}");
    // A list in one file makes it one in all.
    late(&session, &out(&dir, "early.tfrecord"), 2, &[7, 8]);
    let both = session.read_tfrecord(dir.path()).unwrap();
    assert_eq!(both.schema().unwrap().field(0).data_type(), &DataType::new_list(DataType::Int64, false));
    assert_eq!(both.count().unwrap(), 1502);
    assert_eq!(both.take::<Vec<i64>>(2).unwrap(), [vec![0], vec![7, 8]]);

    // A feature that came late, and one of another kind.
    let ints: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1200));
    let text: ArrayRef =
        Arc::new((0..1200).map(|row| (row == 1100).then_some("late")).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter([("n", ints), ("t", text)]).unwrap();
    let path = out(&dir, "features.tfrecord");
    session.from_batches(vec![batch]).unwrap().write_tfrecord(&path).unwrap();
    let error = told(&session.read_tfrecord(&path).unwrap().collect().unwrap_err());
    assert!(
        error.contains("record 1100 at byte") && error.contains("feature 't' is not in the first 1000"),
        "{error}"
    );
    let fields = given(&[("n", DataType::Int64)]);
    assert_eq!(session.read_with(&path, FileFormat::TfRecord, fields).unwrap().count().unwrap(), 1200);
    let fields = given(&[("n", DataType::Float32)]);
    let error = told(&session.read_with(&path, FileFormat::TfRecord, fields).unwrap().collect().unwrap_err());
    assert!(error.contains("record 0 at byte 0: feature 'n' has integers"), "{error}");
    let fields = given(&[("n", DataType::Date32)]);
    let error = told(&session.read_with(&path, FileFormat::TfRecord, fields).unwrap().collect().unwrap_err());
    assert!(error.contains("column 'n' cannot be Date32"), "{error}");

    // A spoilt file is told, or skipped.
    let mut spoilt = std::fs::read(&path).unwrap();
    let end = spoilt.len() - 9;
    spoilt[end] ^= 1;
    let path = put(&dir, "spoilt.tfrecord", spoilt);
    let ds = session.read_with(&path, FileFormat::TfRecord, given(&[("n", DataType::Int64)])).unwrap();
    let error = told(&ds.collect().unwrap_err());
    assert!(
        error.contains(&path) && error.contains("record 1199 at byte") && error.contains("checksum"),
        "{error}"
    );
    let options = ReadOptions { on_error: FileErrors::Skip, ..given(&[("n", DataType::Int64)]) };
    let ds = session.read_with(&path, FileFormat::TfRecord, options).unwrap();
    ds.collect().unwrap();
    assert_eq!(ds.skipped_files().unwrap()[0].path, path);
}

#[test]
fn samples_that_webdataset_wrote() {
    let ds = session().read_webdataset(fixture("samples.tar")).unwrap();
    assert_eq!(columns(&ds), ["__key__: Utf8", "bin: Binary", "cls: Int64", "json: Utf8", "txt: Utf8"]);
    let lines: Vec<String> =
        ds.drop_columns(["bin"]).take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
    assert_eq!(lines[1], r#"{"__key__":"train/0001","cls":7,"json":"{\"n\": 1}","txt":"text 1, ä"}"#);
    assert_eq!(lines.len(), 3);
    let bin = ds.select(["bin"]).to_batch().unwrap();
    let bin = bin.column(0).as_binary::<i32>();
    assert!(bin.is_null(1));
    assert_eq!(bin.value(2), [2, 0, 255]);
    // What nobody wants is passed over.
    assert_eq!(ds.select(["cls"]).take_all::<i64>().unwrap(), [0, 7, 14]);
    let fields = given(&[("txt", DataType::Binary), ("cls", DataType::Float64), ("jpg", DataType::Binary)]);
    let ds = session().read_with(fixture("samples.tar"), FileFormat::WebDataset, fields).unwrap();
    assert_eq!(ds.sum::<f64>("cls").unwrap(), 21.0);
    assert_eq!(ds.select(["jpg"]).to_batch().unwrap().column(0).null_count(), 3);
    let fields = given(&[("txt", DataType::Int64)]);
    let ds = session().read_with(fixture("samples.tar"), FileFormat::WebDataset, fields).unwrap();
    let error = told(&ds.collect().unwrap_err());
    assert!(
        error.contains("sample 0, 'train/0000.txt' at byte ") && error.contains("is no integer"),
        "{error}"
    );
}

#[test]
fn archives_of_three_dialects() {
    for name in ["ustar", "gnu", "pax"] {
        let ds = session().read_webdataset(fixture(&format!("{name}.tar"))).unwrap();
        let batch = ds.to_batch().unwrap();
        assert_eq!(batch.num_rows(), 2, "{name}");
        let key = batch.column_by_name("__key__").unwrap().as_string::<i32>().clone();
        assert_eq!(key.value(0), "a", "{name}");
        let long = if name == "ustar" { 60 } else { 150 };
        assert_eq!(key.value(1), format!("long/{}/{}", "d".repeat(80), "k".repeat(long)), "{name}");
        let text = batch.column_by_name("txt").unwrap().as_string::<i32>().clone();
        assert_eq!((text.value(0), text.value(1)), ("first", "x".repeat(513).as_str()));
        assert_eq!(batch.column_by_name("seg.png").unwrap().as_binary::<i32>().value(0), b"\x89PNG");
    }
}

#[test]
fn samples_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let keys: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("{}/{i:06}", "p".repeat(i % 150)))));
    let bytes = (0..1000_usize).map(|i| (i % 5 != 0).then(|| vec![i as u8; i * 3]));
    let bytes: ArrayRef = Arc::new(bytes.collect::<BinaryArray>());
    let class: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1000).map(|i| i % 10)));
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("ä {i}\n"))));
    let columns = [("__key__", keys, false), ("bin", bytes, true), ("cls", class, true), ("txt", text, true)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let ds = session.from_batches(vec![batch.clone()]).unwrap();
    assert_eq!(ds.repartition(4).write_webdataset(out(&dir, "shards")).unwrap().len(), 4);
    let back = session.read_webdataset(out(&dir, "shards")).unwrap();
    assert_eq!(back.to_batch().unwrap().columns(), batch.columns());

    let error = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        told(&session.from_batches(vec![batch]).unwrap().write_webdataset(out(&dir, "x.tar")).unwrap_err())
    };
    let texts = |texts: &[Option<&str>]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let x = || ("txt", texts(&[Some("x"), Some("y")]));
    assert!(error(vec![x()]).contains("there is no column '__key__'"));
    assert!(error(vec![("__key__", texts(&[Some("a"), Some("a")])), x()]).contains("comes twice"));
    assert!(error(vec![("__key__", texts(&[Some("a"), Some("b.c")])), x()]).contains("cannot be the key"));
    let nothing =
        error(vec![("__key__", texts(&[Some("a"), Some("b")])), ("txt", texts(&[Some("x"), None]))]);
    assert!(nothing.contains("the sample 'b' has no value"), "{nothing}");
    assert!(!dir.path().join("x.tar").exists());
}

#[test]
fn json_that_is_one_array() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = put(&dir, "a.json", "\n [\n{\"a\": 1, \"b\": {\"c\": [\"x]\", \"}\"]}},\n {\"a\": null}\n]\n");
    let ds = session.read_json(&path).unwrap();
    let lines: Vec<String> = ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
    assert_eq!(lines, [r#"{"a":1,"b":{"c":["x]","}"]}}"#, r#"{"a":null,"b":null}"#]);
    assert_eq!(ds.count().unwrap(), 2);

    let many = session.range(30_000).unwrap().with_column("text", lit("a\n\"b\""));
    many.write(&out(&dir, "many.json"), FileFormat::JsonArray, air_data::WriteOptions::default()).unwrap();
    let back = session.read_json(out(&dir, "many.json")).unwrap();
    assert_eq!(back.to_batch().unwrap().columns(), many.to_batch().unwrap().columns());
    assert_eq!(back.select(["id"]).limit(9000).sum::<i64>("id").unwrap(), 8999 * 4500);
    let text = std::fs::read_to_string(out(&dir, "many.json")).unwrap();
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len(), 30_000);
    session
        .range(0)
        .unwrap()
        .write(&out(&dir, "none.json"), FileFormat::JsonArray, air_data::WriteOptions::default())
        .unwrap();
    assert_eq!(std::fs::read_to_string(out(&dir, "none.json")).unwrap(), "[]\n");

    let wrong = |text: &str| {
        let path = put(&dir, "wrong.json", text);
        let error = session.read_json(&path).and_then(|ds| ds.collect()).unwrap_err();
        let error = told(&error);
        assert!(error.starts_with(&format!("reading {path}\n  caused by: ")), "{error}");
        error
    };
    assert!(wrong("[{\"a\": 1}, {\"a\": }]").contains("element 1: "));
    assert!(wrong("[{\"a\": 1}, 7]").contains("element 1: no object"));
    assert!(wrong("[{\"a\": 1}").contains("cut short"));
    // Beyond what tells the columns.
    let mut late = String::from("[");
    late.extend((0..2000).map(|i| format!("{{\"a\": {i}}},")));
    assert!(wrong(&(late + "{\"a\": \"x\"}]")).contains("element 2000: "));
}
