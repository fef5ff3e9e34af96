//! The data quick start, value by value.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

use super::{example, iris, session};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Record {
    col1: i64,
    col2: String,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Flower {
    #[serde(rename = "sepal.length")]
    sepal_length: f64,
    #[serde(rename = "sepal.width")]
    sepal_width: f64,
    #[serde(rename = "petal.length")]
    petal_length: f64,
    #[serde(rename = "petal.width")]
    petal_width: f64,
    variety: String,
}

#[test]
fn range_of_ten_thousand() {
    let ds = air_data::range(10_000).unwrap();
    assert_eq!(ds.take::<i64>(5).unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(ds.count().unwrap(), 10_000);
    let schema = ds.schema().unwrap();
    assert_eq!(schema.fields().len(), 1);
    assert_eq!((schema.field(0).name().as_str(), schema.field(0).data_type()), ("id", &DataType::Int64));
}

#[test]
fn ten_thousand_records() {
    let items = (0..10_000).map(|i| Record { col1: i, col2: i.to_string() }).collect();
    let ds = session().from_items::<Record>(items).unwrap();
    let mut shown = Vec::new();
    ds.show_to(5, &mut shown).unwrap();
    let lines: Vec<String> = (0..5).map(|i| format!("{{\"col1\":{i},\"col2\":\"{i}\"}}\n")).collect();
    assert_eq!(String::from_utf8(shown).unwrap(), lines.concat());
    let schema = ds.schema().unwrap();
    let columns: Vec<_> =
        schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect();
    assert_eq!(columns, [("col1", DataType::Int64), ("col2", DataType::Utf8)]);
    assert_eq!(ds.take::<Record>(2).unwrap()[1], Record { col1: 1, col2: "1".to_owned() });
}

#[test]
fn a_table_from_memory() {
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let two: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let batch = RecordBatch::try_from_iter([("one", one), ("two", two)]).unwrap();
    let ds = session().from_batches(vec![batch.clone()]).unwrap();
    assert_eq!(ds.count().unwrap(), 3);
    assert_eq!(ds.to_batch().unwrap(), batch);
}

#[test]
fn map_filter_flat_map() {
    let doubled = session().range(10_000).unwrap().map(|x: i64| Ok(2 * x));
    assert_eq!(doubled.take::<i64>(5).unwrap(), [0, 2, 4, 6, 8]);
    assert_eq!(doubled.filter(|x: &i64| Ok(*x > 5)).take::<i64>(5).unwrap(), [6, 8, 10, 12, 14]);
    assert_eq!(doubled.flat_map(|x: i64| Ok([x, -x])).take::<i64>(5).unwrap(), [0, 0, 2, -2, 4]);
}

#[test]
fn iris_from_csv_and_parquet() {
    let session = session();
    let csv = iris(&session);
    let parquet = session.read_parquet(example("iris.parquet")).unwrap();
    for ds in [&csv, &parquet] {
        assert_eq!(ds.count().unwrap(), 150);
        let schema = ds.schema().unwrap();
        let types: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(types[..4], [DataType::Float64, DataType::Float64, DataType::Float64, DataType::Float64]);
        assert_eq!(types[4..], [DataType::Utf8]);
    }
    assert_eq!(csv.take_all::<Flower>().unwrap(), parquet.take_all::<Flower>().unwrap());
}

#[test]
fn one_block_is_one_file_and_two_are_two() {
    let session = session();
    let ds = iris(&session);
    for (blocks, files) in [(1, 1), (2, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out").to_string_lossy().into_owned();
        let ds = if blocks == 1 { ds.clone() } else { ds.repartition(blocks) };
        let written = ds.write_parquet(&path).unwrap();
        assert_eq!(written.len(), files);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), files, "and nothing else lies there");
        assert_eq!(
            session.read_parquet(&path).unwrap().take_all::<Flower>().unwrap(),
            ds.take_all::<Flower>().unwrap()
        );
    }
}

fn short_sepals_and_long_petals(batch: RecordBatch) -> Result<RecordBatch, air_core::BoxError> {
    let column = |name: &str| {
        batch.column_by_name(name).map(|c| c.as_primitive::<Float64Type>().clone()).ok_or("no such column")
    };
    let (sepal, petal) = (column("sepal.length")?, column("petal.length")?);
    let keep: BooleanArray =
        sepal.values().iter().zip(petal.values()).map(|(s, p)| Some(*s < 5.5 && *p > 3.5)).collect();
    Ok(filter_record_batch(&batch, &keep)?)
}

#[test]
fn three_flowers_pass_the_batch_filter() {
    let ds = iris(&session()).repartition(10).map_batches(short_sepals_and_long_petals);
    let rows: Vec<Flower> = ds.take_all().unwrap();
    let flower = |sepal_length, sepal_width, petal_length, petal_width, variety: &str| Flower {
        sepal_length,
        sepal_width,
        petal_length,
        petal_width,
        variety: variety.to_owned(),
    };
    let expected = [
        flower(5.2, 2.7, 3.9, 1.4, "Versicolor"),
        flower(5.4, 3.0, 4.5, 1.5, "Versicolor"),
        flower(4.9, 2.5, 4.5, 1.7, "Virginica"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn batches_and_shares() {
    let session = session();
    let ds = iris(&session);
    let sizes: Vec<usize> = ds.batches(10).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(sizes, [10; 15]);

    let ten = ds.repartition(10);
    assert_eq!(ten.num_blocks().unwrap(), 10);
    let shares = ten.split(4);
    let counts: Vec<u64> = shares.iter().map(|share| share.count().unwrap()).collect();
    assert_eq!(counts, [45, 45, 30, 30]);
    let rows: Vec<Flower> = shares.iter().flat_map(|share| share.take_all().unwrap()).collect();
    assert_eq!(rows, ds.take_all::<Flower>().unwrap());
}
