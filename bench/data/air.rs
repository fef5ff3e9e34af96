//! One operation of the engines' comparison with air-data, in a fresh process: `bench_data OPERATION FOLDER`.
//!
//! The folder is what `bench/data/gen.py` makes. Prints `{"seconds": s, "rows": n}`; the time is from opening the table to the last row.

use std::sync::Arc;
use std::time::Instant;

use air_core::BoxError;
use air_core::data::BatchSource;
use air_data::{Batches, Dataset, Join, TensorSpec, agg, col, lit};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use serde::{Deserialize, Serialize};

/// Column, mean and deviation.
const SCALE: [(&str, f64, f64); 4] =
    [("f1", 0.5, 0.288_675_1), ("f2", 10.0, 3.0), ("f3", 2.0, 2.0), ("f4", -5.0, 50.0)];

/// Scales and clips four columns.
fn scale(batch: RecordBatch) -> Result<RecordBatch, BoxError> {
    let schema = batch.schema();
    let mut columns = batch.columns().to_vec();
    for (name, mean, deviation) in SCALE {
        let at = schema.index_of(name)?;
        let factor = 1.0 / deviation;
        let scaled = columns[at]
            .as_primitive::<Float64Type>()
            .unary::<_, Float64Type>(|v| ((v - mean) * factor).clamp(-1.0, 1.0));
        columns[at] = Arc::new(scaled) as ArrayRef;
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[derive(Deserialize)]
struct Fact {
    id: i64,
    f1: f64,
    f2: f64,
}

#[derive(Serialize, Deserialize)]
struct Sum {
    id: i64,
    y: f64,
}

fn drain(batches: Batches) -> Result<usize, BoxError> {
    let mut rows = 0;
    for batch in batches {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

fn all(ds: &Dataset) -> Result<usize, BoxError> {
    drain(ds.record_batches()?)
}

fn run(operation: &str, folder: &str) -> Result<usize, BoxError> {
    let facts = || air_data::read_parquet(format!("{folder}/facts"));
    let out = format!("{folder}/out_air");
    match operation {
        "startup" => all(&air_data::range(1000)?.map_batches(Ok)),
        "count" => Ok(facts()?.count()? as usize),
        "scan" => all(&facts()?),
        "write" => {
            let _ = std::fs::remove_dir_all(&out);
            let kept = facts()?.filter_expr(col("f1").gt(lit(0.5)).and(col("cat").not_eq(lit("c07"))));
            let y = (col("f1") * lit(2.0) + col("f2")).alias("y");
            kept.select([col("id"), col("key"), y, col("cat")]).write_parquet(&out)?;
            Ok(air_data::read_parquet(out)?.count()? as usize)
        }
        "map_batches" => all(&facts()?.map_batches(scale)),
        "rows" => all(&facts()?.map(|fact: Fact| Ok(Sum { id: fact.id, y: fact.f1 * 2.0 + fact.f2 }))),
        "group_by" => {
            let sums = [agg::sum("f1"), agg::mean("f2")];
            all(&facts()?.select(["key", "f1", "f2"]).group_by(["key"]).aggregate(sums))
        }
        "sort" => all(&facts()?.sort(["key"])),
        "shuffle" => all(&facts()?.random_shuffle(1)),
        "join" => {
            let dim = air_data::read_parquet(format!("{folder}/dim"))?;
            all(&facts()?.join(&dim, Join::inner(["key"])))
        }
        "csv" => all(&air_data::read_csv(format!("{folder}/csv"))?),
        "batches" => {
            // Every column as a slice of numbers, of which the first is looked at.
            let (mut rows, mut first) = (0, 0.0);
            for batch in facts()?.select(["f1", "f2", "f3", "f4", "key"]).batches(1024)? {
                let batch = batch?;
                for column in 0..4 {
                    first += batch.column(column).as_primitive::<Float64Type>().values()[0];
                }
                first += batch.column(4).as_primitive::<Int64Type>().values()[0] as f64;
                rows += batch.num_rows();
            }
            std::hint::black_box(first);
            Ok(rows)
        }
        "tensors" => {
            let mut source =
                facts()?.batch_source(TensorSpec::new(1024).features(["f1", "f2", "f3", "f4"]))?;
            let mut rows = 0;
            while let Some(batch) = source.next_batch()? {
                rows += batch.rows();
            }
            Ok(rows)
        }
        other => Err(format!("no operation '{other}'").into()),
    }
}

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [operation, folder] = &args[..] else { return Err("needed: OPERATION FOLDER".into()) };
    let began = Instant::now();
    let rows = run(operation, folder)?;
    println!("{}", serde_json::json!({ "seconds": began.elapsed().as_secs_f64(), "rows": rows }));
    Ok(())
}
