//! Times a stateful pool with a slow stage beside the same stage in threads of its own: how much of the ideal is left, and how much
//! memory waits.
//!
//! `cargo run --release -p air-data --example slow_pool -- [--workers 4] [--batches 800] [--stage-ms 5] [--runs 3] [--json]`

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use air_core::BoxError;
use air_data::Pool;

const ROWS_A_BATCH: u64 = 1024;

/// The ideal: threads that take numbers and wait, with nothing in between.
fn by_hand(workers: u64, batches: u64, stage: Duration) -> Duration {
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < batches {
                    std::thread::sleep(stage);
                }
            });
        }
    });
    began.elapsed()
}

/// The pool, and the most bytes that were in use meanwhile.
fn pooled(workers: u64, batches: u64, stage: Duration) -> Result<(Duration, u64, u64), BoxError> {
    let pool = Pool::fixed(workers as usize).batch_size(ROWS_A_BATCH as usize);
    let ds = air_data::range(batches * ROWS_A_BATCH)?.map_batches_with(
        pool,
        |_| Ok(()),
        move |(), batch| {
            std::thread::sleep(stage);
            Ok(batch)
        },
    );
    let began = Instant::now();
    let mut rows = 0;
    for batch in ds.batches(ROWS_A_BATCH as usize)? {
        rows += batch?.num_rows() as u64;
    }
    let took = began.elapsed();
    Ok((took, rows, ds.stats().map_or(0, |stats| stats.budget.peak_bytes)))
}

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: u64| -> Result<u64, BoxError> {
        let given = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
        Ok(given.map_or(Ok(default), |given| given.parse())?)
    };
    let (workers, batches) = (value("--workers", 4)?, value("--batches", 800)?);
    let stage = Duration::from_millis(value("--stage-ms", 5)?);

    let (mut seconds, mut of_ideal, mut rows, mut peak) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..value("--runs", 3)? {
        // In turns, so that a noisy minute hurts both.
        let ideal = by_hand(workers, batches, stage);
        let (took, came_out, most) = pooled(workers, batches, stage)?;
        seconds.push(took.as_secs_f64());
        of_ideal.push(ideal.as_secs_f64() / took.as_secs_f64());
        (rows, peak) = (came_out, most);
    }
    if args.iter().any(|arg| arg == "--json") {
        let measured =
            serde_json::json!({ "seconds": seconds, "of_ideal": of_ideal, "rows": rows, "peak_bytes": peak });
        println!("{measured}");
    } else {
        println!("{rows} rows in {seconds:.3?} s, {of_ideal:.3?} of the ideal, at most {peak} bytes waiting");
    }
    Ok(())
}
