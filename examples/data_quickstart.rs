//! Create, load, transform: the data quick start.
//!
//! ```text
//! cargo run --release -p air-data --example data_quickstart
//! ```

use air_data::{Row, col, lit};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    col1: i64,
    col2: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Flower {
    #[serde(rename = "sepal.length")]
    sepal: f64,
    #[serde(rename = "petal.length")]
    petal: f64,
    variety: String,
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Create.
    let numbers = air_data::range(10_000)?;
    println!("{:?} … {} rows", numbers.take::<i64>(5)?, numbers.count()?);

    let records =
        air_data::from_items((0..10_000).map(|i| Record { col1: i, col2: i.to_string() }).collect())?;
    records.show(5)?;

    let one: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let two: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    air_data::from_batches(vec![RecordBatch::try_from_iter([("one", one), ("two", two)])?])?.show(3)?;

    // Transform.
    let doubled = numbers.map(|x: i64| Ok(2 * x));
    println!("map       {:?}", doubled.take::<i64>(5)?);
    println!("filter    {:?}", doubled.filter(|x: &i64| Ok(*x > 5)).take::<i64>(5)?);
    println!("flat_map  {:?}", doubled.flat_map(|x: i64| Ok([x, -x])).take::<i64>(5)?);

    // Load and save.
    let iris = air_data::read_csv(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv"))?;
    println!("iris      {} rows, {} columns", iris.count()?, iris.schema()?.fields().len());
    let out = tempfile::tempdir()?;
    let files = iris.repartition(2).write_parquet(out.path().join("iris").to_string_lossy())?;
    println!("wrote     {} files", files.len());

    // The same question three ways: an expression the engine sees through, a closure over rows, SQL.
    let expression = iris.filter_expr(col("sepal.length").lt(lit(5.5)).and(col("petal.length").gt(lit(3.5))));
    for row in expression.take_all::<Row>()? {
        println!("          {row}");
    }
    let closure = iris.repartition(10).filter(|f: &Flower| Ok(f.sepal < 5.5 && f.petal > 3.5));
    println!("closure   {} rows", closure.count()?);
    iris.session().register("iris", &iris)?;
    iris.session()
        .sql("select variety, avg(\"petal.length\") as petal from iris group by variety order by petal")?
        .show(3)?;

    // Hand over to training.
    println!("batches   {}", iris.batches(10)?.count());
    let shares: Result<Vec<u64>, _> =
        iris.repartition(10).split(4).iter().map(air_data::Dataset::count).collect();
    println!("shares    {:?}", shares?);
    Ok(())
}
