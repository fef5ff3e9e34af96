//! Times a closure over a table: reads Parquet, scales and clips four columns in `map_batches`, streams every batch out.
//!
//! `cargo run --release -p air-data --example map_batches -- --input FOLDER [--runs 3] [--json]`

use std::sync::Arc;
use std::time::Instant;

use air_core::BoxError;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

/// Column, mean and deviation.
const SCALE: [(&str, f64, f64); 4] =
    [("f1", 0.5, 0.288_675_1), ("f2", 10.0, 3.0), ("f3", 2.0, 2.0), ("f4", -5.0, 50.0)];
const ROWS_A_BATCH: usize = 8192;

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

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let input = value("--input").ok_or("--input FOLDER is needed")?;
    let runs: usize = value("--runs").map_or(Ok(3), |runs| runs.parse())?;

    let mut seconds = Vec::new();
    let mut rows = 0;
    for _ in 0..runs {
        let start = Instant::now();
        rows = 0;
        for batch in air_data::read_parquet(input.as_str())?.map_batches(scale).batches(ROWS_A_BATCH)? {
            rows += batch?.num_rows();
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", serde_json::json!({ "seconds": seconds, "rows": rows }));
    } else {
        println!("{rows} rows in {seconds:.3?} s");
    }
    Ok(())
}
