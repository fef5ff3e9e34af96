//! The death of the process at any record, and what is made of the store.

use super::*;

/// An experiment that goes on from what is in the store.
fn resumed(mut fresh: Controller, records: &[Record]) -> Controller {
    let (replay, seq) = past(records);
    for event in replay {
        fresh.replay(event).unwrap();
    }
    fresh.resume(seq, at(0));
    fresh
}

#[test]
fn after_a_crash_at_any_record_the_experiment_ends_as_it_would_have() {
    let asha = SchedulerConfig::Asha(AshaConfig { max_t: 8, reduction_factor: 2, ..AshaConfig::default() });
    let fresh = || with(12, rules(), &asha);
    let mut whole = fresh();
    run_to_end(&mut whole);
    let records = whole.take_records();
    let outcome = |c: &Controller| -> Vec<_> {
        c.trials().iter().map(|t| (t.assignment.clone(), t.status, t.value, t.iterations, t.stop)).collect()
    };
    assert!(whole.trials().iter().any(|t| t.status == Status::Stopped));
    for kept in 0..=records.len() {
        let mut resumed = resumed(fresh(), &records[..kept]);
        let over =
            past(&records[..kept]).0.iter().filter(|past| matches!(past, Replay::Ended { .. })).count();
        run_to_end(&mut resumed);
        assert_eq!(outcome(&resumed), outcome(&whole), "cut off after {kept} records");
        let started: Vec<_> = resumed.take_records();
        let again =
            started.iter().filter(|r| matches!(r, Record::Started { trial, .. } if (*trial as usize) < over));
        assert_eq!(again.count(), 0, "a finished trial was repeated");
    }
}

#[test]
fn a_store_with_holes_is_refused() {
    let mut c = controller(2, rules());
    assert!(c.replay(Replay::Started { trial: 1, attempts: 1, assignment: Assignment::new() }).is_err());
    let end = TrialState::new(Assignment::new()).end();
    assert!(c.replay(Replay::Ended { trial: 0, end }).is_err());
}

#[test]
fn a_scheduler_that_pauses_survives_a_crash_at_any_record() {
    for scheduler in pausing() {
        let fresh = || with(16, rules(), &scheduler);
        let mut whole = fresh();
        run_side_by_side(&mut whole);
        let records = whole.take_records();
        let outcome = |c: &Controller| -> Vec<_> {
            c.trials()
                .iter()
                .map(|t| (t.assignment.clone(), t.status, t.value, t.iterations, t.stop))
                .collect()
        };
        for kept in 0..=records.len() {
            let mut resumed = resumed(fresh(), &records[..kept]);
            run_side_by_side(&mut resumed);
            assert_eq!(outcome(&resumed), outcome(&whole), "cut off after {kept} records of {scheduler:?}");
        }
    }
}

#[test]
fn stoppers_complete_trials_and_end_the_experiment_also_after_a_crash() {
    use crate::stop::StopperConfig;
    let fresh = || {
        let rules = Rules { also: vec!["size".into()], ..rules() };
        let configs = [
            StopperConfig::MaxIterations { iterations: 4 },
            StopperConfig::ExperimentPlateau { top: 2, deviation: 0.5, patience: 2 },
        ];
        let stoppers = configs.iter().map(|config| config.build(Mode::Min).unwrap()).collect();
        controller(12, rules).stoppers(Stoppers(stoppers))
    };
    let run = |c: &mut Controller| {
        while let Next::Run(launch) = c.next(at(0)) {
            let x = launch.assignment.get("x").and_then(serde_json::Value::as_f64).unwrap();
            for iteration in launch.iteration + 1..=10 {
                let values = Values::new(&[("loss", x), ("size", 1.0)]).unwrap();
                if c.report(at(0), launch.trial, iteration, values).is_some() {
                    break;
                }
            }
            c.ended(at(0), launch.trial, Ok(()));
        }
    };
    let outcome = |c: &Controller| -> Vec<_> {
        c.trials().iter().map(|t| (t.status, t.value, t.iterations, t.stop)).collect()
    };
    let mut whole = fresh();
    run(&mut whole);
    let seen = outcome(&whole);
    assert_eq!(seen.len(), 5, "the fourth ends with the best two alike thrice in a row: {seen:?}");
    let finished = Some(StopReason::Finished { iterations: 4 });
    assert!(
        seen[..4].iter().all(|(status, _, n, stop)| (*status, *n, *stop) == (Status::Complete, 4, finished))
    );
    let plateau = (Status::Stopped, 1, Some(StopReason::ExperimentPlateau));
    assert_eq!((seen[4].0, seen[4].2, seen[4].3), plateau);
    let records = whole.take_records();
    for kept in 0..=records.len() {
        let mut resumed = resumed(fresh(), &records[..kept]);
        run(&mut resumed);
        assert_eq!(outcome(&resumed), seen, "cut off after {kept} records");
    }
}

#[test]
fn parameters_named_while_running_survive_a_crash_at_any_record() {
    use crate::space::{choice, int_uniform};
    let fresh = || {
        let searcher = BasicVariants::new(&Space::new(), 30, Seed::new(0)).unwrap();
        Controller::new(rules(), Box::new(searcher), Box::new(Fifo)).by_run(Mode::Min, Seed::new(7))
    };
    let run = |c: &mut Controller| {
        while let Next::Run(launch) = c.next(at(0)) {
            let mut ask = |path, domain| c.suggest(launch.trial, path, &domain).unwrap();
            let x = ask("net.x", uniform(0.0, 1.0)).as_f64().unwrap();
            let deep = ask("deep", choice(["no", "yes"])) == "yes";
            let layers = if deep { ask("net.layers", int_uniform(1..=9)).as_f64().unwrap() } else { 5.0 };
            assert_eq!(ask("net.x", uniform(0.0, 1.0)).as_f64(), Some(x), "asked twice, it is the same");
            c.report(at(0), launch.trial, 1, loss(x + layers));
            c.ended(at(0), launch.trial, Ok(()));
        }
    };
    let outcome = |c: &Controller| -> Vec<_> {
        c.trials().iter().map(|t| (t.assignment.clone(), t.status, t.value)).collect()
    };
    let mut whole = fresh();
    run(&mut whole);
    let records = whole.take_records();
    let mean =
        |from: usize| whole.trials()[from..from + 10].iter().filter_map(|t| t.value).sum::<f64>() / 10.0;
    assert!(mean(20) < 0.8 * mean(0), "it has learned: {} after {}", mean(20), mean(0));
    for kept in 0..=records.len() {
        let mut resumed = resumed(fresh(), &records[..kept]);
        run(&mut resumed);
        assert_eq!(outcome(&resumed), outcome(&whole), "cut off after {kept} records");
    }
}

/// What trials are given of the machine is what it would have been without the interruption.
#[test]
fn resources_are_dealt_as_if_nothing_had_happened() {
    let scheduler = SchedulerConfig::from(dealt());
    let fresh = || {
        let mut c = with(5, rules(), &scheduler);
        c.scheduler.at_once(3);
        c
    };
    // Reports each running trial in turn until all have twelve; gives who started with what, after which iteration.
    let run = |c: &mut Controller| {
        let (mut running, mut starts) = (Vec::<(TrialId, u64)>::new(), BTreeMap::new());
        loop {
            while running.len() < 3
                && let Next::Run(launch) = c.next(at(0))
            {
                let done = launch.iteration;
                starts.insert((launch.trial, done), launch.resources.map(|resources| resources.cpu));
                running.push((launch.trial, done));
            }
            if running.is_empty() {
                return starts;
            }
            running.sort_by_key(|(trial, done)| (*done, *trial));
            let (trial, done) = running.remove(0);
            let stop = c.report(at(0), trial, done + 1, loss(1.0));
            if stop.is_some() || done + 1 >= 12 + trial {
                c.ended(at(0), trial, Ok(()));
            } else {
                running.push((trial, done + 1));
            }
        }
    };
    let mut whole = fresh();
    let starts = run(&mut whole);
    let has: Vec<_> = starts.iter().map(|((trial, at), cpus)| (*trial, *at, cpus.unwrap())).collect();
    assert!(has.iter().take(1).all(|start| *start == (0, 0, 4.0)), "{has:?}");
    assert_eq!(has.last().map(|(trial, _, cpus)| (*trial, *cpus)), Some((4, 12.0)), "{has:?}");
    let records = whole.take_records();
    assert_eq!(records.iter().filter(|record| matches!(record, Record::Exhausted { .. })).count(), 1);
    for kept in 0..=records.len() {
        let mut resumed = resumed(fresh(), &records[..kept]);
        run(&mut resumed);
        assert!(resumed.trials().iter().all(|state| state.status == Status::Complete), "after {kept}");
        assert_eq!((resumed.paused, resumed.running), (0, 0));
    }
}
