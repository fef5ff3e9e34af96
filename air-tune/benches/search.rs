//! What a proposal costs when so many trials are known: ten numbers, one asked and told.

use air_core::seed::Seed;
use air_tune::search::{Cma, CmaConfig, Gp, GpConfig, Outcome, Searcher, Tpe, TpeConfig};
use air_tune::space::{Assignment, Space, uniform};
use air_tune::{Mode, TrialId};
use divan::Bencher;

fn main() {
    divan::main();
}

fn space() -> Space {
    (0..10).fold(Space::new(), |space, at| space.with(&format!("x{at}"), uniform(0.0, 1.0)))
}

fn loss(point: &Assignment) -> f64 {
    point.iter().filter_map(|(_, value)| value.as_f64()).map(|x| (x - 0.3).powi(2)).sum()
}

fn step(searcher: &mut dyn Searcher, trial: TrialId) {
    if let Some(point) = searcher.ask(trial) {
        searcher.tell(trial, Outcome::Complete(loss(&point)));
    }
}

/// Asks and tells with `known` trials behind it and a few more.
fn ask_and_tell(bencher: Bencher, mut searcher: impl Searcher, known: u64) {
    (0..known).for_each(|trial| step(&mut searcher, trial));
    let mut trial = known;
    bencher.bench_local(|| {
        step(&mut searcher, trial);
        trial += 1;
    });
}

#[divan::bench(args = [50, 200, 1_000], sample_count = 20, sample_size = 1)]
fn tpe(bencher: Bencher, known: u64) {
    let searcher = Tpe::new(&space(), Mode::Min, u64::MAX, TpeConfig::default(), Seed::new(0));
    ask_and_tell(bencher, searcher.expect("the space is good"), known);
}

#[divan::bench(args = [50, 200, 1_000], sample_count = 20, sample_size = 1)]
fn cma(bencher: Bencher, known: u64) {
    let searcher = Cma::new(&space(), Mode::Min, u64::MAX, CmaConfig::default(), Seed::new(0));
    ask_and_tell(bencher, searcher.expect("the space is good"), known);
}

#[divan::bench(args = [50, 100, 200], sample_count = 20, sample_size = 1)]
fn gp(bencher: Bencher, known: u64) {
    let searcher = Gp::new(&space(), Mode::Min, u64::MAX, GpConfig::default(), Seed::new(0));
    ask_and_tell(bencher, searcher.expect("the space is good"), known);
}
