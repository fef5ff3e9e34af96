#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::controller::{Controller, End, Replay};
use crate::error::Cause;
use crate::space::{Assignment, choice, log_uniform};
use crate::values::Values;

fn meta() -> Meta {
    Meta {
        space: Space::new().with("lr", log_uniform(1e-4, 1e-1)).with("units", choice([16, 32])),
        tune: TuneConfig::default(),
        run: RunConfig::default(),
        command: Some(vec!["train".into()]),
        custom_searcher: false,
        custom_scheduler: false,
        custom_stopper: false,
    }
}

fn point(lr: f64) -> Assignment {
    let mut point = Assignment::new();
    point.push("lr", json!(lr));
    point.push("units", json!(32));
    point
}

fn started(trial: TrialId) -> Record {
    Record::Started {
        seq: trial * 10 + 1,
        trial,
        attempt: 1,
        assignment: point(0.01),
        at: Duration::from_secs(1),
    }
}

fn reported(trial: TrialId, iteration: u64, value: f64) -> Record {
    let values = Values::new(&[("loss", value), ("accuracy", 0.5)]).unwrap();
    let (seq, at) = (trial * 10 + 1 + iteration, Duration::from_secs(2));
    Record::Reported { seq, trial, iteration, value: Some(value), values, seconds: 1.0, at }
}

fn ended(trial: TrialId, status: Status, value: Option<f64>) -> Record {
    let cause = (status == Status::Failed).then(|| Cause::Signal { signal: 9, stderr: "oh".into() });
    let end = End { status, value, iterations: 1, seconds: 1.5, stop: None, cause };
    let (assignment, last) = (point(0.01), Values::default());
    Record::Ended {
        seq: trial * 10 + 9,
        trial,
        end,
        attempts: 1,
        assignment,
        last,
        at: Duration::from_secs(3),
    }
}

#[test]
fn what_is_applied_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), &meta()).unwrap();
    store
        .apply(&[
            started(0),
            reported(0, 1, f64::NAN),
            reported(0, 2, 0.25),
            ended(0, Status::Complete, Some(0.25)),
            started(1),
            ended(1, Status::Failed, None),
            started(2),
            reported(2, 1, f64::INFINITY),
        ])
        .unwrap();
    // Read while the writer holds it.
    let snapshot = Snapshot::read(dir.path()).unwrap();
    assert_eq!(snapshot.meta, meta());
    let seen: Vec<_> = snapshot.trials.iter().map(|t| (t.trial, t.end.status, t.end.value)).collect();
    assert_eq!(
        seen,
        [(0, Status::Complete, Some(0.25)), (1, Status::Failed, None), (2, Status::Running, None)]
    );
    assert_eq!(snapshot.trials[1].end.cause, Some(Cause::Signal { signal: 9, stderr: "oh".into() }));
    assert_eq!(snapshot.trials[0].assignment, point(0.01));
    assert_eq!(snapshot.trials[2].last.get("loss"), Some(f64::INFINITY));
    let reports = history(dir.path(), 0).unwrap();
    assert!(reports[0].values.get("loss").unwrap().is_nan() && reports[1].iteration == 2);

    let mut past = Vec::new();
    let seq = store
        .replay("loss", |event| {
            past.push(event);
            Ok(())
        })
        .unwrap();
    assert_eq!((seq, past.len()), (22, 8));
    assert!(matches!(past[0], Replay::Started { trial: 0, attempts: 1, .. }));
    assert!(matches!(past[3], Replay::Ended { trial: 0, .. }));
    assert!(matches!(past[7], Replay::Reported { trial: 2, iteration: 1, .. }));
}

#[test]
fn a_repeated_report_replaces_its_numbers_and_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), &meta()).unwrap();
    store.apply(&[started(0), reported(0, 1, 1.0), reported(0, 2, 2.0)]).unwrap();
    let Record::Reported { trial, iteration, value, values, seconds, at, .. } = reported(0, 1, 5.0) else {
        unreachable!()
    };
    store.apply(&[Record::Reported { seq: 99, trial, iteration, value, values, seconds, at }]).unwrap();
    let mut past = Vec::new();
    let seq = store
        .replay("loss", |event| {
            past.push(event);
            Ok(())
        })
        .unwrap();
    assert_eq!(seq, 3);
    assert!(matches!(past[1], Replay::Reported { iteration: 1, value: Some(5.0), .. }));
}

#[test]
fn a_second_process_and_a_second_experiment_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path(), &meta()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(TuneError::Locked { .. })));
    assert!(matches!(Store::create(dir.path(), &meta()), Err(TuneError::Locked { .. })));
    drop(store);
    assert!(matches!(Store::create(dir.path(), &meta()), Err(TuneError::StudyExists { .. })));
    assert_eq!(Store::open(dir.path()).unwrap().1, meta());
}

#[test]
fn what_is_no_study_of_ours_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path()), Err(TuneError::NoStudy { .. })));
    let path = dir.path().join(STUDY_FILE);

    std::fs::write(
        &path,
        "this is no database, and long enough for SQLite to notice that at once. ".repeat(20),
    )
    .unwrap();
    assert!(matches!(Snapshot::read(dir.path()), Err(TuneError::Storage { .. })));
    std::fs::remove_file(&path).unwrap();

    Connection::open(&path).unwrap().execute_batch("CREATE TABLE studies (x)").unwrap();
    assert!(Snapshot::read(dir.path()).err().unwrap().to_string().contains("not made by air-tune"));
    std::fs::remove_file(&path).unwrap();

    drop(Store::create(dir.path(), &meta()).unwrap());
    let conn = Connection::open(&path).unwrap();
    for (sql, message) in [
        (
            "UPDATE alembic_version SET version_num = 'v9.0.0.a'",
            "has Optuna revision v9.0.0.a, this version reads v3.2.0.a",
        ),
        ("UPDATE version_info SET schema_version = 13", "has Optuna schema 13, this version reads 12"),
        ("UPDATE air_meta SET value = '2' WHERE key = 'version'", "has version 2, this version reads 1"),
    ] {
        conn.execute_batch(sql).unwrap();
        let error = Snapshot::read(dir.path()).err().unwrap().to_string();
        assert!(error.ends_with(message), "{error}");
    }
    conn.execute_batch("UPDATE air_meta SET value = '1' WHERE key = 'version'; UPDATE version_info SET schema_version = 12;
         UPDATE alembic_version SET version_num = 'v3.2.0.a'; UPDATE air_meta SET value = '{}' WHERE key = 'experiment'").unwrap();
    assert!(Snapshot::read(dir.path()).err().unwrap().to_string().contains("description of the experiment"));
}

#[test]
fn a_process_killed_while_creating_leaves_a_folder_that_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(STUDY_FILE), "").unwrap();
    drop(Store::create(dir.path(), &meta()).unwrap());
    assert!(Snapshot::read(dir.path()).unwrap().trials.is_empty());
}

#[test]
fn a_seq_out_of_order_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), &meta()).unwrap();
    store.apply(&[started(1)]).unwrap();
    let scheduler = crate::schedule::SchedulerConfig::Fifo
        .build(&meta().space, Mode::Min, air_core::seed::Seed::new(0))
        .unwrap();
    let searcher = crate::search::BasicVariants::new(&meta().space, 1, air_core::seed::Seed::new(0)).unwrap();
    let rules = crate::controller::Rules {
        metric: "loss".into(),
        also: Vec::new(),
        max_failures: 0,
        fail_fast: false,
        time_budget: None,
    };
    let mut controller = Controller::new(rules, Box::new(searcher), scheduler);
    let error = store.replay("loss", |past| controller.replay(past)).unwrap_err();
    assert!(matches!(error, TuneError::Damaged { .. }), "{error}");
}

#[test]
fn that_no_new_trial_will_start_keeps_its_place_and_is_no_trials() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), &meta()).unwrap();
    let records = [started(0), Record::Exhausted { seq: 2 }, Record::Idle { seq: 3 }];
    store.apply(&records).unwrap();
    let mut past = Vec::new();
    let mut keep = |event| {
        past.push(event);
        Ok(())
    };
    store.replay("loss", &mut keep).unwrap();
    assert!(matches!(past[..], [Replay::Started { .. }, Replay::Exhausted, Replay::Idle]), "{past:?}");
    assert_eq!(Snapshot::read(dir.path()).unwrap().trials[0].assignment, point(0.01));
}
