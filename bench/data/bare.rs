//! What air-data stands on, without air-data: one operation by bare DataFusion, or by a loop over Parquet files on the processor's cores,
//! in a fresh process: `bench_data_bare OPERATION FOLDER`.
//!
//! Prints `{"seconds": s, "rows": n}`, as `bench_data` does. Loops are `map_batches` and `decode`, which reads five columns and does nothing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::functions_aggregate::expr_fn::{avg, sum};
use datafusion::logical_expr::{JoinType, col, lit};
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const SCALE: [(&str, f64, f64); 4] =
    [("f1", 0.5, 0.288_675_1), ("f2", 10.0, 3.0), ("f3", 2.0, 2.0), ("f4", -5.0, 50.0)];

async fn drain(frame: DataFrame) -> Result<usize, BoxError> {
    let mut stream = frame.execute_stream().await?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

async fn engine(operation: &str, folder: &str) -> Result<usize, BoxError> {
    let context = SessionContext::new_with_config(SessionConfig::new());
    let parquet = async |path: String| context.read_parquet(path, ParquetReadOptions::default()).await;
    let facts = parquet(format!("{folder}/facts")).await?;
    match operation {
        "count" => Ok(facts.count().await?),
        "scan" => drain(facts).await,
        "write" => {
            let out = format!("{folder}/out_bare");
            let _ = std::fs::remove_dir_all(&out);
            let kept = facts.filter(col("f1").gt(lit(0.5)).and(col("cat").not_eq(lit("c07"))))?;
            let y = (col("f1") * lit(2.0) + col("f2")).alias("y");
            let kept = kept.select(vec![col("id"), col("key"), y, col("cat")])?;
            let mut options = datafusion::config::TableParquetOptions::default();
            options.global.compression = Some("snappy".to_owned());
            kept.write_parquet(&out, DataFrameWriteOptions::new(), Some(options)).await?;
            Ok(parquet(out).await?.count().await?)
        }
        "group_by" => {
            let frame = facts.select_columns(&["key", "f1", "f2"])?;
            drain(frame.aggregate(vec![col("key")], vec![sum(col("f1")), avg(col("f2"))])?).await
        }
        "sort" => drain(facts.sort(vec![col("key").sort(true, false)])?).await,
        "join" => {
            let dim = parquet(format!("{folder}/dim")).await?;
            let dim = dim.with_column_renamed("key", "dim_key")?;
            let joined = facts.join(dim, JoinType::Inner, &["key"], &["dim_key"], None)?;
            drain(joined.drop_columns(&["dim_key"])?).await
        }
        "csv" => {
            let csv = context.read_csv(format!("{folder}/csv"), CsvReadOptions::new()).await?;
            drain(csv).await
        }
        other => Err(format!("no operation '{other}'").into()),
    }
}

fn scale(batch: &RecordBatch) -> Result<RecordBatch, BoxError> {
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

/// Files dealt to a thread a core; each batch goes through `f` and is dropped.
fn files(
    folder: &str,
    columns: Option<&[&str]>,
    f: impl Fn(&RecordBatch) -> Result<(), BoxError> + Sync,
) -> Result<usize, BoxError> {
    let entries = std::fs::read_dir(format!("{folder}/facts"))?;
    let files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_, BoxError>>()?;
    let next = AtomicUsize::new(0);
    let thread = || -> Result<usize, BoxError> {
        let mut rows = 0;
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
            if let Some(columns) = columns {
                let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
                builder = builder.with_projection(mask);
            }
            for batch in builder.with_batch_size(8192).build()? {
                let batch = batch?;
                rows += batch.num_rows();
                f(&batch)?;
            }
        }
        Ok(rows)
    };
    let cores = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(thread)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).sum()
    })
}

fn run(operation: &str, folder: &str) -> Result<usize, BoxError> {
    match operation {
        "map_batches" => files(folder, None, |batch| {
            std::hint::black_box(scale(batch)?);
            Ok(())
        }),
        "decode" => files(folder, Some(&["f1", "f2", "f3", "f4", "key"]), |_| Ok(())),
        _ => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(engine(operation, folder)),
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
