//! What every scheduler must hold to.

use air_core::seed::Seed;

use super::space;
use crate::TrialId;
use crate::schedule::{Action, Decision, Scheduler};
use crate::search::{BasicVariants, Mode, Outcome, Searcher};

const TRIALS: u64 = 27;
const ITERATIONS: u64 = 30;

/// Every trial's loss falls towards its own floor, which is its number shuffled; so trial order says nothing about quality.
fn loss(mode: Mode, trial: TrialId, iteration: u64) -> f64 {
    let floor = (trial * 11 % TRIALS) as f64;
    let loss = floor + 1.0 / iteration as f64;
    if mode == Mode::Max { -loss } else { loss }
}

/// Where a trial of the run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    Runs,
    Paused,
    Over,
}

/// What came of the trials of a run.
#[derive(Debug, PartialEq)]
struct Course {
    /// After which iteration each was stopped; 0 if it was not.
    stopped: Vec<u64>,
    /// Who went on as whom, after which iteration.
    clones: Vec<(u64, TrialId, TrialId)>,
}

/// Runs all trials side by side, an iteration each in turn.
fn run(scheduler: &mut dyn Scheduler, mode: Mode, value: impl Fn(TrialId, u64) -> f64) -> Course {
    let count = TRIALS as usize;
    let mut course = Course { stopped: vec![0; count], clones: Vec::new() };
    let (mut stands, mut done) = (vec![Stand::Runs; count], vec![0; count]);
    let points = BasicVariants::new(&space(), TRIALS, Seed::new(0));
    for trial in 0..TRIALS {
        let point = points.as_ref().ok().and_then(|points| points.clone().ask(trial)).unwrap_or_default();
        scheduler.on_start(trial, &point);
    }
    scheduler.on_exhausted();
    let mut rounds = 0;
    while stands.iter().any(|stand| *stand != Stand::Over) {
        rounds += 1;
        assert!(rounds < 100 * ITERATIONS, "trials are paused for ever: {stands:?}");
        if !stands.contains(&Stand::Runs) {
            scheduler.on_idle();
            act(scheduler, &mut course, &mut stands, &done);
            // As the experiment does with trials that nobody names.
            if !stands.contains(&Stand::Runs) {
                stands
                    .iter_mut()
                    .filter(|stand| **stand == Stand::Paused)
                    .for_each(|stand| *stand = Stand::Runs);
            }
        }
        for trial in 0..count {
            if stands[trial] != Stand::Runs {
                continue;
            }
            done[trial] += 1;
            let at = done[trial];
            match scheduler.on_report(trial as TrialId, at, value(trial as TrialId, at)) {
                Decision::Continue if at < ITERATIONS => {}
                Decision::Pause => stands[trial] = Stand::Paused,
                decision => {
                    stands[trial] = Stand::Over;
                    let loss = loss(mode, trial as TrialId, at);
                    if let Decision::Stop(_) = decision {
                        course.stopped[trial] = at;
                        scheduler.on_end(trial as TrialId, Outcome::Stopped(loss));
                    } else {
                        scheduler.on_end(trial as TrialId, Outcome::Complete(loss));
                    }
                }
            }
            act(scheduler, &mut course, &mut stands, &done);
        }
    }
    course
}

/// Does what becomes of paused trials, and of what that leads to.
fn act(scheduler: &mut dyn Scheduler, course: &mut Course, stands: &mut [Stand], done: &[u64]) {
    loop {
        let actions = scheduler.take_actions();
        if actions.is_empty() {
            return;
        }
        for action in actions {
            let (Action::Resume { trial, .. } | Action::Stop { trial, .. }) = &action;
            let at = *trial as usize;
            assert!(
                stands.get(at) == Some(&Stand::Paused),
                "an action for trial {trial}, which is not paused"
            );
            match action {
                Action::Resume { change, .. } => {
                    stands[at] = Stand::Runs;
                    if let Some(change) = change {
                        assert!(change.donor < TRIALS, "trial {} does not exist", change.donor);
                        if let Err(error) = space().check(&change.assignment) {
                            panic!("trial {at} is given a point outside of the space: {error}");
                        }
                        course.clones.push((done[at], at as TrialId, change.donor));
                    }
                }
                Action::Stop { .. } => {
                    stands[at] = Stand::Over;
                    course.stopped[at] = done[at];
                    scheduler.on_end(at as TrialId, Outcome::Stopped(0.0));
                }
            }
        }
    }
}

/// Checks that schedulers from `make`, which should let a trial run for at least 30 iterations, never stop the best trial nor make another of it, rank not-a-number
/// last, decide alike for alike reports, treat `Min` and `Max` alike, let nothing wait for ever, and survive any report. Schedulers that change
/// configurations are to be made for [`space`](super::space).
///
/// # Panics
/// With the rule that is broken.
pub fn scheduler(make: impl Fn(Mode) -> Box<dyn Scheduler>) {
    for mode in [Mode::Min, Mode::Max] {
        let course = run(&mut *make(mode), mode, |t, i| loss(mode, t, i));
        // Trial 0 has the lowest floor.
        let spared = |course: &Course| {
            assert_eq!(
                course.stopped[0], 0,
                "the best trial was stopped after iteration {}",
                course.stopped[0]
            );
            assert!(course.clones.iter().all(|(_, trial, _)| *trial != 0), "the best trial was made another");
        };
        spared(&course);
        assert_eq!(
            course,
            run(&mut *make(mode), mode, |t, i| loss(mode, t, i)),
            "alike reports, unlike decisions"
        );

        let broken = |t: TrialId, i: u64| if t % 2 == 1 { f64::NAN } else { loss(mode, t, i) };
        spared(&run(&mut *make(mode), mode, broken));

        let mut scheduler = make(mode);
        for (trial, value) in
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::MAX, f64::MIN].into_iter().enumerate()
        {
            for iteration in [1, 1, 7, 3, u64::MAX, u64::MAX - 1] {
                let _ = scheduler.on_report(trial as TrialId, iteration, value);
                scheduler.take_actions();
            }
            scheduler.on_end(trial as TrialId, Outcome::Failed);
            scheduler.on_end(trial as TrialId, Outcome::Failed);
            scheduler.on_idle();
            scheduler.take_actions();
        }
    }
    let (min, max) = (Mode::Min, Mode::Max);
    let mirrored = run(&mut *make(max), max, |t, i| loss(max, t, i));
    assert_eq!(run(&mut *make(min), min, |t, i| loss(min, t, i)), mirrored, "`Min` and `Max` are not alike");
}
