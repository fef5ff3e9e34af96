//! A model in a pool of workers, its answers streamed to two trainers: what batch inference and training take of a dataset.
//!
//! ```text
//! cargo run --release -p air-data --example data_pool
//! ```

use std::sync::Arc;

use air_core::BoxError;
use air_data::{BatchOptions, Pool, SplitOptions, WorkerContext, col, lit};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

/// Stands for what takes long to load and is expensive to run.
struct Model {
    weights: Vec<f64>,
}

impl Model {
    fn load(worker: &WorkerContext) -> Result<Self, BoxError> {
        eprintln!("worker {} loads its model (life {})", worker.rank, worker.generation);
        Ok(Self { weights: (0..64).map(|n| f64::from(n) / 64.0).collect() })
    }

    fn score(&self, id: i64) -> f64 {
        self.weights
            .iter()
            .enumerate()
            .map(|(power, weight)| weight * (id as f64).sin().powi(power as i32))
            .sum()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("score", DataType::Float64, false),
    ]));
    // Four workers, each with its own model, batches of 256 rows, at most one of which may fail for good.
    let pool = Pool::fixed(4).batch_size(256).retries(2).max_errored_blocks(1).returns(schema.clone());
    let scored = air_data::range(50_000)?.map_batches_with(pool, Model::load, move |model, batch| {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        if ids.values().contains(&1000) {
            return Err("a picture that cannot be read".into());
        }
        let scores = Float64Array::from_iter_values(ids.values().iter().map(|id| model.score(*id)));
        Ok(RecordBatch::try_new(schema.clone(), vec![batch.column(0).clone(), Arc::new(scores) as ArrayRef])?)
    });

    // Two trainers, the same number of rows for each, two epochs, mixed within windows.
    let shards = scored.filter_expr(col("score").gt(lit(0.0))).streaming_split(2, SplitOptions::equal())?;
    let trainers: Vec<_> = shards
        .into_iter()
        .map(|mut shard| {
            std::thread::spawn(move || {
                let mut rows = Vec::new();
                for epoch in 0..2 {
                    let options = BatchOptions::new(128).local_shuffle(epoch, 4096).drop_last();
                    let mut seen = 0;
                    for batch in shard.batches(options)? {
                        seen += batch?.num_rows();
                    }
                    rows.push(seen);
                }
                Ok::<_, air_data::DataError>((shard.rank(), rows))
            })
        })
        .collect();
    for trainer in trainers {
        let (rank, rows) = trainer.join().map_err(|_| "a trainer panicked")??;
        println!("rank {rank} trained on {rows:?} rows");
    }

    println!("{} rows scored", scored.count()?);
    if let Some(stats) = scored.stats() {
        print!("{stats}");
    }
    Ok(())
}
