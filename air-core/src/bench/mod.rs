//! What `air-core bench` measures: our cost beside the floor it stands on, in one run.
//!
//! Every figure is the median of several rounds. A floor is the bare library or the bare memory underneath, measured with the same loop.

mod calls;
mod memory;
mod objects;
mod tasks;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::error::Result;
use crate::{Runtime, Spec};

/// One figure.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Figure {
    /// The median.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The same figure for what lies underneath; absent where this is the floor itself.
    pub floor: Option<f64>,
}

/// Rounds whose median is the figure; odd.
const ROUNDS: usize = 5;

/// The sizes in bytes of the all-reduces, and the figures of each: what we do, what the memory allows.
const ALL_REDUCE: [(usize, [&str; 2]); 3] = [
    (4 << 10, ["all_reduce_4kib_2_ranks", "reduce_limit_4kib"]),
    (4 << 20, ["all_reduce_4mib_2_ranks", "reduce_limit_4mib"]),
    (64 << 20, ["all_reduce_64mib_2_ranks", "reduce_limit_64mib"]),
];

fn median(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut rounds = (0..ROUNDS).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}

/// Measures everything; takes some seconds.
///
/// # Errors
/// When threads or memory cannot be had.
pub fn run() -> Result<BTreeMap<&'static str, Figure>> {
    // Before anything else has touched memory.
    let idle = memory::idle_runtime()?;
    let mut figures = BTreeMap::new();
    let mut add = |name, value, unit, floor| {
        figures.insert(name, Figure { value, unit, floor });
    };
    for (in_flight, names) in [
        (1, ["ask_sync", "bare_actix_sync", "bare_tokio_sync", "bare_crossbeam_sync"]),
        (64, ["ask_async_64", "bare_actix_async_64", "bare_tokio_async_64", "bare_crossbeam_async_64"]),
    ] {
        let calls = if in_flight == 1 { 5_000 } else { 100_000 };
        let [ask, actix, tokio, crossbeam] = names;
        let bare = [
            (actix, median(|| calls::bare_actix(calls, in_flight))?),
            (tokio, median(|| calls::bare_tokio(calls, in_flight))?),
            (crossbeam, median(|| calls::bare_crossbeam(calls, in_flight))?),
        ];
        add(ask, median(|| calls::ask(calls, in_flight))?, "calls/s", Some(bare[0].1));
        for (name, rate) in bare {
            add(name, rate, "calls/s", None);
        }
    }
    if let Some(resident) = idle {
        add("idle_runtime_memory", resident, "MiB", None);
    }
    let one_thread = median(|| calls::bare_actix_on_one_thread(200_000))?;
    add("ask_one_thread", median(|| calls::ask_on_one_thread(200_000))?, "s", Some(one_thread));
    add("bare_actix_one_thread", one_thread, "s", None);
    let parked = median(|| calls::bare_actix_parked(200))?;
    add("ask_parked", median(|| calls::ask_parked(200))?, "s", Some(parked));
    add("bare_actix_parked", parked, "s", None);
    add("tell", median(|| calls::tell(500_000))?, "calls/s", None);
    add("runtime_start", median(runtime_start)?, "s", None);
    add("worker_start", median(|| worker_start(200))?, "s", None);
    add("shared_worker_start", median(|| shared_worker_start(5_000))?, "s", None);
    add("tasks_sync", median(|| tasks::tasks(20_000, 1))?, "tasks/s", None);
    add("tasks_async_64", median(|| tasks::tasks(500_000, 64))?, "tasks/s", None);
    // Beside the same with 8 bytes: what is put is not copied, so its size does not matter.
    let small = median(|| objects::put_get(1, 20_000))?;
    add("put_get_800mb", median(|| objects::put_get(100_000_000, 20_000))?, "s", Some(small));
    let copy = median(memory::copy)?;
    add("copy_64mib", copy, "GiB/s", None);
    add(
        "tensor_send_64mib",
        median(|| memory::tensor_send(100_000))?,
        "sends/s",
        Some(median(|| memory::bare_send(100_000))?),
    );
    for (bytes, names) in ALL_REDUCE {
        let [ours, limit] = names;
        let floor = median(|| memory::reduce_limit(bytes))?;
        add(ours, median(|| memory::all_reduce(bytes))?, "GiB/s", Some(floor));
        add(limit, floor, "GiB/s", None);
    }
    Ok(figures)
}

fn runtime_start() -> Result<f64> {
    let began = Instant::now();
    let runtime = Runtime::start()?;
    let took = began.elapsed().as_secs_f64();
    drop(runtime);
    Ok(took)
}

/// Seconds to start, use and end one worker with a thread of its own.
fn worker_start(workers: u32) -> Result<f64> {
    let runtime = Runtime::start()?;
    let began = Instant::now();
    for _ in 0..workers {
        let worker = runtime.spawn(Spec::new("echo"), |_| Ok(calls::Echo))?;
        worker.ask_blocking(calls::Call)?;
        worker.stop();
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(workers))
}

/// Seconds to start one worker among many on shared threads.
fn shared_worker_start(workers: u32) -> Result<f64> {
    let runtime = Runtime::start()?;
    let began = Instant::now();
    let all = (0..workers)
        .map(|_| runtime.spawn(Spec::new("echo").shared(), |_| Ok(calls::Echo)))
        .collect::<Result<Vec<_>>>()?;
    for worker in &all {
        worker.ask_blocking(calls::Call)?;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(workers))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_counts_what_it_says() {
        for in_flight in [1, 7] {
            for measure in [calls::ask, calls::bare_actix, calls::bare_tokio, calls::bare_crossbeam] {
                assert!(measure(20, in_flight).unwrap() > 0.0);
            }
        }
        assert!(calls::ask_parked(3).unwrap().is_finite());
        assert!(calls::bare_actix_parked(3).unwrap().is_finite());
        for in_flight in [1, 7] {
            assert!(tasks::tasks(20, in_flight).unwrap() > 0.0);
        }
        assert!(objects::put_get(8, 2).unwrap() < 1.0);
        for measure in [memory::all_reduce, memory::reduce_limit] {
            assert!(measure(4 << 20).unwrap() > 0.0);
        }
        assert!(worker_start(2).unwrap() > 0.0);
        assert!(shared_worker_start(2).unwrap() > 0.0);
    }
}
