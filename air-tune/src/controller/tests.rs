#![allow(clippy::unwrap_used)]

mod crash;

use air_core::seed::Seed;

use super::*;
use crate::schedule::{Asha, AshaConfig, Fifo, SchedulerConfig};
use crate::search::{BasicVariants, Mode};
use crate::space::{Space, uniform};

fn rules() -> Rules {
    Rules { metric: "loss".into(), also: Vec::new(), max_failures: 0, fail_fast: false, time_budget: None }
}

fn controller(trials: u64, rules: Rules) -> Controller {
    with(trials, rules, &SchedulerConfig::Fifo)
}

fn with(trials: u64, rules: Rules, scheduler: &SchedulerConfig) -> Controller {
    let space = Space::new().with("x", uniform(0.0, 1.0));
    let searcher = BasicVariants::new(&space, trials, Seed::new(0)).unwrap();
    Controller::new(rules, Box::new(searcher), scheduler.build(&space, Mode::Min, Seed::new(0)).unwrap())
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start(controller: &mut Controller, now: u64) -> TrialId {
    match controller.next(at(now)) {
        Next::Run(launch) => launch.trial,
        other => panic!("nothing to run: {other:?}"),
    }
}

fn loss(value: f64) -> Values {
    Values::new(&[("loss", value)]).unwrap()
}

fn failed() -> Result<(), Cause> {
    Err(Cause::Error { message: "no luck".into() })
}

#[test]
fn a_trial_is_started_reported_and_ended() {
    let mut c = controller(1, rules());
    let trial = start(&mut c, 1);
    assert_eq!(c.next(at(1)), Next::Over);
    assert_eq!(c.report(at(2), trial, 1, loss(0.5)), None);
    c.ended(at(4), trial, Ok(()));
    let kinds: Vec<_> = c.take_records().iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 3);
    let state = &c.trials()[0];
    assert_eq!(
        (state.status, state.value, state.iterations, state.seconds),
        (Status::Complete, Some(0.5), 1, 3.0)
    );
    // What comes after the end is noise.
    c.ended(at(5), trial, failed());
    assert_eq!(c.report(at(5), trial, 2, loss(0.1)), None);
    assert!(c.take_records().is_empty());
    assert_eq!(c.trials()[0].value, Some(0.5));
}

#[test]
fn ends_without_a_usable_metric_are_failures_that_say_so() {
    for (report, cause) in [
        (None, "never reported `loss`"),
        (Some(Values::new(&[("accuracy", 1.0)]).unwrap()), "never reported `loss`: it reported `accuracy`"),
        (Some(loss(f64::NAN)), "its last `loss` is not a number"),
    ] {
        let mut c = controller(1, rules());
        let trial = start(&mut c, 0);
        if let Some(report) = report {
            assert_eq!(c.report(at(0), trial, 1, report), None);
        }
        c.ended(at(1), trial, Ok(()));
        assert_eq!(c.trials()[0].status, Status::Failed);
        assert_eq!(c.trials()[0].cause.as_ref().unwrap().to_string(), cause);
    }
    let mut c = controller(1, rules());
    let trial = start(&mut c, 0);
    c.report(at(0), trial, 1, loss(f64::INFINITY));
    c.ended(at(1), trial, Ok(()));
    assert_eq!(c.trials()[0].status, Status::Complete, "an infinite value is bad, but a value");
}

#[test]
fn failures_are_retried_as_often_as_allowed_and_the_rest_goes_on() {
    let mut c = controller(2, Rules { max_failures: 1, ..rules() });
    let (first, second) = (start(&mut c, 0), start(&mut c, 0));
    assert_eq!(c.next(at(0)), Next::Wait, "a running trial may fail and be run again");
    c.ended(at(1), first, failed());
    assert_eq!(start(&mut c, 1), first);
    c.ended(at(2), first, failed());
    c.report(at(2), second, 1, loss(1.0));
    c.ended(at(3), second, Ok(()));
    assert_eq!(c.next(at(3)), Next::Over);
    assert_eq!((c.trials()[0].status, c.trials()[0].attempts), (Status::Failed, 2));
    assert_eq!(c.trials()[1].status, Status::Complete);
}

#[test]
fn fail_fast_stops_the_others() {
    let mut c = controller(3, Rules { fail_fast: true, ..rules() });
    let (first, second) = (start(&mut c, 0), start(&mut c, 0));
    c.ended(at(1), first, failed());
    assert_eq!(c.next(at(1)), Next::Over);
    assert_eq!(c.report(at(1), second, 1, loss(1.0)), Some(StopReason::FailFast));
    c.ended(at(2), second, failed());
    assert_eq!(c.trials()[1].status, Status::Stopped, "it was told to stop; how it did so is no failure");
}

#[test]
fn the_time_budget_ends_everything() {
    let mut c = controller(3, Rules { time_budget: Some(at(10)), ..rules() });
    let (first, second) = (start(&mut c, 0), start(&mut c, 9));
    assert_eq!(c.report(at(9), first, 1, loss(1.0)), None);
    assert_eq!(c.next(at(10)), Next::Over);
    assert_eq!(c.must_stop(at(10), first), Some(StopReason::TimeBudget));
    assert_eq!(c.must_stop(at(10), second), Some(StopReason::TimeBudget));
    c.ended(at(11), first, Ok(()));
    c.ended(at(11), second, Ok(()));
    assert_eq!(c.trials()[0].status, Status::Stopped);
    assert_eq!(c.trials()[1].cause, Some(Cause::OutOfTime { metric: "loss".into() }));
}

#[test]
fn a_stopped_trial_is_told_again_and_its_late_reports_are_dropped() {
    let asha = SchedulerConfig::Asha(AshaConfig { max_t: 4, ..AshaConfig::default() });
    let mut c = with(2, rules(), &asha);
    let (first, second) = (start(&mut c, 0), start(&mut c, 0));
    assert_eq!(c.report(at(0), first, 1, loss(0.1)), None);
    let behind = Some(StopReason::Behind { rung: 1 });
    assert_eq!(c.report(at(0), second, 1, loss(0.9)), behind);
    c.take_records();
    assert_eq!(c.report(at(0), second, 2, loss(0.0)), behind);
    assert!(c.take_records().is_empty());
    c.ended(at(1), second, Ok(()));
    assert_eq!((c.trials()[1].status, c.trials()[1].value), (Status::Stopped, Some(0.9)));
    assert_eq!(c.report(at(1), first, 4, loss(0.05)), Some(StopReason::Finished { iterations: 4 }));
    c.ended(at(1), first, Ok(()));
    assert_eq!(c.trials()[0].status, Status::Complete, "a trial that had its whole budget is complete");
}

/// What the store would replay after a crash that kept the first `kept` records.
fn past(records: &[Record]) -> (Vec<Replay>, u64) {
    let mut last = 0;
    let replay = records.iter().filter_map(|record| {
        let (seq, past) = match record.clone() {
            // A trial's first start is its place in the order, as in the store.
            Record::Started { seq, trial, attempt: 1, assignment, .. } => {
                (seq, Replay::Started { trial, attempts: 1, assignment })
            }
            Record::Started { seq, .. } => {
                last = seq;
                return None;
            }
            Record::Changed { seq, trial, origin, .. } => (seq, Replay::Changed { trial, origin }),
            Record::Suggested { seq, trial, path, domain, value } => {
                (seq, Replay::Suggested { trial, path, domain, value })
            }
            Record::Idle { seq } => (seq, Replay::Idle),
            Record::Exhausted { seq } => (seq, Replay::Exhausted),
            Record::Reported { seq, trial, iteration, value, values, seconds, .. } => {
                (seq, Replay::Reported { trial, iteration, value, values, seconds })
            }
            Record::Ended { seq, trial, end, .. } => (seq, Replay::Ended { trial, end }),
            Record::Requeued { .. } | Record::Paused { .. } => return None,
        };
        last = seq;
        Some(past)
    });
    let replay = replay.collect();
    (replay, last)
}

/// Runs everything on one slot; a trial reports its `x` shrinking, ten times.
fn run_to_end(c: &mut Controller) {
    while let Next::Run(launch) = c.next(at(0)) {
        let x = launch.assignment.get("x").unwrap().as_f64().unwrap();
        for iteration in 1..=10 {
            if c.report(at(0), launch.trial, iteration, loss(x + 1.0 / iteration as f64)).is_some() {
                break;
            }
        }
        c.ended(at(0), launch.trial, Ok(()));
    }
}

#[test]
fn shipped_parts_pass_their_suites() {
    crate::testing::searcher(|space, seed| Box::new(BasicVariants::new(space, 100, seed).unwrap()));
    crate::testing::scheduler(|_| Box::new(Fifo));
    crate::testing::scheduler(|mode| Box::new(Asha::new(AshaConfig::default(), mode).unwrap()));
}

/// Sixteen trials, three at once in turn, under a scheduler that pauses them: loss falls, and by how much depends on `x`.
fn run_side_by_side(c: &mut Controller) {
    let mut running: Vec<Launch> = Vec::new();
    let mut done: BTreeMap<TrialId, u64> = BTreeMap::new();
    loop {
        while running.len() < 3 {
            match c.next(at(0)) {
                Next::Run(launch) => running.push(launch),
                Next::Over if running.is_empty() => return,
                Next::Wait | Next::Over => break,
            }
        }
        // Always the one that has done least, so that who runs beside whom does not depend on when the run was cut off.
        running
            .sort_by_key(|launch| (launch.iteration + done.get(&launch.trial).unwrap_or(&0), launch.trial));
        let launch = running.remove(0);
        let x = launch.assignment.get("x").and_then(serde_json::Value::as_f64).unwrap();
        let iteration = launch.iteration + done.get(&launch.trial).unwrap_or(&0) + 1;
        *done.entry(launch.trial).or_default() += 1;
        if c.report(at(0), launch.trial, iteration, loss(x + 1.0 / iteration as f64)).is_some()
            || iteration >= 12
        {
            done.remove(&launch.trial);
            c.copied(launch.trial, None);
            c.ended(at(0), launch.trial, Ok(()));
        } else {
            running.push(launch);
        }
    }
}

fn pausing() -> [SchedulerConfig; 3] {
    use crate::schedule::{HyperBandConfig, PbtConfig, ResourceConfig};
    let pbt = PbtConfig { interval: 3, synchronous: true, max_t: Some(12), ..PbtConfig::default() };
    let hyperband: SchedulerConfig = HyperBandConfig { max_t: 9, reduction_factor: 3 }.into();
    let more = ResourceConfig { inner: Box::new(hyperband.clone()), ..dealt() };
    [hyperband, pbt.into(), more.into()]
}

fn dealt() -> crate::schedule::ResourceConfig {
    let total = air_core::resource::Resources::new().cpu(12.0);
    crate::schedule::ResourceConfig { total, ..Default::default() }
}

#[test]
fn paused_trials_go_on_when_the_scheduler_says_so() {
    for (scheduler, complete) in pausing().into_iter().zip([4, 16, 4]) {
        let mut c = with(16, rules(), &scheduler);
        run_side_by_side(&mut c);
        let count = |status| c.trials().iter().filter(|state| state.status == status).count();
        assert_eq!(
            (count(Status::Complete), count(Status::Stopped)),
            (complete, 16 - complete),
            "{scheduler:?}"
        );
        assert!(c.pinned.is_empty() && c.paused == 0 && c.running == 0);
    }
}

#[test]
fn what_a_clone_starts_from_is_pinned_until_it_is_copied() {
    use crate::schedule::PbtConfig;
    let pbt = PbtConfig { interval: 1, ..PbtConfig::default() };
    let mut c = with(2, rules(), &pbt.into());
    let (good, bad) = (start(&mut c, 0), start(&mut c, 0));
    c.report(at(0), good, 1, loss(0.0));
    c.saved(good, "trial_00000/checkpoints/checkpoint_000004".into(), 1);
    assert_eq!(c.report(at(0), bad, 1, loss(9.0)), Some(StopReason::Paused));
    assert!(
        c.is_pinned("trial_00000/checkpoints/checkpoint_000004") && c.is_pinned("trial_00000/checkpoints")
    );
    assert!(!c.is_pinned("trial_00000/checkpoints/checkpoint_00000"));
    c.ended(at(1), bad, failed());
    // A clone that has not copied its own checkpoint yet is copied from where it is to.
    let origin = c.trials()[bad as usize].clone.origin.clone().unwrap();
    assert_eq!(origin.source, (good, 0));
    let Next::Run(launch) = c.next(at(1)) else { panic!("the clone does not start") };
    assert_eq!((launch.trial, launch.generation, launch.iteration), (bad, 1, 1));
    let origin = launch.origin.unwrap();
    assert_eq!((origin.donor, origin.donor_iterations), (good, 1));
    assert_ne!(launch.assignment, c.trials()[good as usize].assignment, "the configuration is perturbed");
    c.copied(bad, None);
    assert!(!c.is_pinned("trial_00000"));
    c.report(at(2), bad, 2, loss(-1.0));
    c.ended(at(2), bad, Ok(()));
    assert_eq!(c.trials()[1].status, Status::Complete);
}

#[test]
fn a_trial_that_leaves_an_objective_out_has_failed() {
    let mut c = controller(1, Rules { also: vec!["size".into()], ..rules() });
    let trial = start(&mut c, 0);
    c.report(at(0), trial, 1, loss(1.0));
    c.ended(at(0), trial, Ok(()));
    assert_eq!(c.trials()[0].cause.as_ref().unwrap().to_string(), "never reported `size`");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let mut c = controller(1, rules());
    let trial = start(&mut c, 0);
    let mut refused = |path: &str, domain| c.suggest(trial, path, &domain).unwrap_err().to_string();
    assert!(refused("a b", uniform(0.0, 1.0)).contains("cannot stand in a name"));
    assert!(refused("y", uniform(1.0, 0.0)).contains("above the upper bound"));
    assert!(refused("x", uniform(7.0, 8.0)).contains("already, which lies outside"), "x is the space's");
    assert!(refused("x.y", uniform(0.0, 1.0)).contains("both a value and an object"));
    assert!(c.suggest(99, "y", &uniform(0.0, 1.0)).is_err());
}

/// By a simulated clock: slots are never left without a trial while there is one.
#[test]
fn ten_thousand_trials_of_a_second_on_sixty_four_slots_take_what_they_must() {
    let mut c = controller(10_000, rules());
    let mut running: VecDeque<(u64, TrialId)> = (0..64).map(|_| (0, start(&mut c, 0))).collect();
    let (mut now, mut ended) = (0, 0);
    // All take the same time, so they end in the order they started.
    while let Some((began, trial)) = running.pop_front() {
        now = began + 1;
        assert_eq!(c.report(at(now), trial, 1, loss(1.0)), None);
        c.ended(at(now), trial, Ok(()));
        ended += 1;
        match c.next(at(now)) {
            Next::Run(launch) => running.push_back((now, launch.trial)),
            Next::Over => {}
            Next::Wait => panic!("a slot waits after {ended} trials"),
        }
        c.take_records();
    }
    // 156.25 seconds, were trials divisible.
    assert_eq!((ended, now), (10_000, 10_000_u64.div_ceil(64)));
}
