//! What every scheduler must hold to.

use crate::TrialId;
use crate::schedule::{Decision, Scheduler};
use crate::search::{Mode, Outcome};

const TRIALS: u64 = 27;
const ITERATIONS: u64 = 30;

/// Every trial's loss falls towards its own floor, which is its number shuffled; so trial order says nothing about quality.
fn loss(mode: Mode, trial: TrialId, iteration: u64) -> f64 {
    let floor = (trial * 11 % TRIALS) as f64;
    let loss = floor + 1.0 / iteration as f64;
    if mode == Mode::Max { -loss } else { loss }
}

/// Runs all trials side by side; returns after which iteration each stopped.
fn run(scheduler: &mut dyn Scheduler, mode: Mode, value: impl Fn(TrialId, u64) -> f64) -> Vec<u64> {
    let mut stopped = vec![0; TRIALS as usize];
    for iteration in 1..=ITERATIONS {
        for trial in 0..TRIALS {
            if stopped[trial as usize] == 0
                && scheduler.on_report(trial, iteration, value(trial, iteration)) != Decision::Continue
            {
                stopped[trial as usize] = iteration;
                scheduler.on_end(trial, Outcome::Stopped(loss(mode, trial, iteration)));
            }
        }
    }
    stopped
}

/// Checks that schedulers from `make`, which should let a trial run for at least 30 iterations, never stop the best trial, rank not-a-number
/// last, decide alike for alike reports, treat `Min` and `Max` alike, and survive any report.
///
/// # Panics
/// With the rule that is broken.
pub fn scheduler(make: impl Fn(Mode) -> Box<dyn Scheduler>) {
    for mode in [Mode::Min, Mode::Max] {
        let stopped = run(&mut *make(mode), mode, |t, i| loss(mode, t, i));
        // Trial 0 has the lowest floor.
        assert_eq!(stopped[0], 0, "the best trial was stopped after iteration {}", stopped[0]);
        assert_eq!(
            stopped,
            run(&mut *make(mode), mode, |t, i| loss(mode, t, i)),
            "alike reports, unlike decisions"
        );

        let broken = |t: TrialId, i: u64| if t % 2 == 1 { f64::NAN } else { loss(mode, t, i) };
        let stopped = run(&mut *make(mode), mode, broken);
        assert_eq!(stopped[0], 0, "not-a-number ranks before a number");

        let mut scheduler = make(mode);
        for (trial, value) in
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::MAX, f64::MIN].into_iter().enumerate()
        {
            for iteration in [1, 1, 7, 3, u64::MAX, u64::MAX - 1] {
                let _ = scheduler.on_report(trial as TrialId, iteration, value);
            }
            scheduler.on_end(trial as TrialId, Outcome::Failed);
            scheduler.on_end(trial as TrialId, Outcome::Failed);
        }
    }
    let (min, max) = (Mode::Min, Mode::Max);
    let mirrored = run(&mut *make(max), max, |t, i| loss(max, t, i));
    assert_eq!(run(&mut *make(min), min, |t, i| loss(min, t, i)), mirrored, "`Min` and `Max` are not alike");
}
