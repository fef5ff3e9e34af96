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

/// What can be measured by itself.
pub const GROUPS: [&str; 6] = ["asks", "starts", "tasks", "objects", "memory", "all-reduce"];

/// The sizes in bytes of the all-reduces, and the figures of each: what we do, what the memory allows.
const ALL_REDUCE: [(usize, [&str; 2]); 3] = [
    (4 << 10, ["all_reduce_4kib_2_ranks", "reduce_limit_4kib"]),
    (4 << 20, ["all_reduce_4mib_2_ranks", "reduce_limit_4mib"]),
    (64 << 20, ["all_reduce_64mib_2_ranks", "reduce_limit_64mib"]),
];

/// Figures by name.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Figure>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64, unit: &'static str, floor: Option<f64>) {
        self.0.insert(name, Figure { value, unit, floor });
    }
}

fn median(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    medians([&mut measure]).map(|[median]| median)
}

/// The median of each, which take turns: what slows the machine down for a while slows down all of them.
fn medians<const N: usize>(mut measures: [&mut dyn FnMut() -> Result<f64>; N]) -> Result<[f64; N]> {
    let mut rounds = [[0.0; ROUNDS]; N];
    for round in 0..ROUNDS {
        for (measure, rounds) in measures.iter_mut().zip(&mut rounds) {
            rounds[round] = measure()?;
        }
    }
    Ok(rounds.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    }))
}

/// Measures everything, or the groups named of [`GROUPS`]; takes some seconds.
///
/// # Errors
/// When threads or memory cannot be had.
pub fn run(only: &[String]) -> Result<BTreeMap<&'static str, Figure>> {
    let measures: [fn(&mut Figures) -> Result<()>; GROUPS.len()] =
        [calls::measure, starts, tasks, objects, memory, all_reduce];
    let mut figures = Figures::default();
    let wanted = |group: &str| only.is_empty() || only.iter().any(|name| name == group);
    // Before anything else has touched memory.
    let idle = if wanted("memory") { memory::idle_runtime()? } else { None };
    if let Some(resident) = idle {
        figures.add("idle_runtime_memory", resident, "MiB", None);
    }
    for (group, measure) in GROUPS.iter().zip(measures) {
        if wanted(group) {
            measure(&mut figures)?;
        }
    }
    Ok(figures.0)
}

fn starts(figures: &mut Figures) -> Result<()> {
    figures.add("runtime_start", median(runtime_start)?, "s", None);
    figures.add("worker_start", median(|| worker_start(200))?, "s", None);
    figures.add("shared_worker_start", median(|| shared_worker_start(5_000))?, "s", None);
    Ok(())
}

fn tasks(figures: &mut Figures) -> Result<()> {
    figures.add("tasks_sync", median(|| tasks::tasks(20_000, 1))?, "tasks/s", None);
    figures.add("tasks_async_64", median(|| tasks::tasks(500_000, 64))?, "tasks/s", None);
    Ok(())
}

fn objects(figures: &mut Figures) -> Result<()> {
    // Beside the same with 8 bytes: what is put is not copied, so its size does not matter.
    let small = median(|| objects::put_get(1, 20_000))?;
    figures.add("put_get_800mb", median(|| objects::put_get(100_000_000, 20_000))?, "s", Some(small));
    Ok(())
}

fn memory(figures: &mut Figures) -> Result<()> {
    figures.add("copy_64mib", median(memory::copy)?, "GiB/s", None);
    let bare = median(|| memory::bare_send(100_000))?;
    figures.add("tensor_send_64mib", median(|| memory::tensor_send(100_000))?, "sends/s", Some(bare));
    Ok(())
}

fn all_reduce(figures: &mut Figures) -> Result<()> {
    for (bytes, names) in ALL_REDUCE {
        let [ours, limit] = names;
        let floor = median(|| memory::reduce_limit(bytes))?;
        figures.add(ours, median(|| memory::all_reduce(bytes))?, "GiB/s", Some(floor));
        figures.add(limit, floor, "GiB/s", None);
    }
    Ok(())
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
        for measure in [calls::ask_parked, calls::bare_actix_parked] {
            assert!(measure(3).unwrap().is_finite());
        }
        for measure in [
            calls::ask_between_workers,
            calls::bare_actix_between_actors,
            calls::ask_on_one_thread,
            calls::bare_actix_on_one_thread,
        ] {
            assert!(measure(3).unwrap().is_finite());
        }
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
