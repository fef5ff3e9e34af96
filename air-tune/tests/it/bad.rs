//! Bad input, and bad luck: each is told in words that say what, where and what to do.

use std::path::Path;
use std::process::Command;

use air_tune::space::{
    Domain, Space, choice, grid, int_uniform, log_int_uniform, log_uniform, normal, uniform,
};
use air_tune::{ResultGrid, RunConfig, Status, TuneError, Tuner};

use crate::support::{air_tune, failure, stderr, text};

/// What `fit` says of a space.
fn refusal(space: Space) -> String {
    Tuner::new(space, |_, _| Err("it must not run".into())).fit().unwrap_err().to_string()
}

#[test]
#[allow(clippy::reversed_empty_ranges)]
fn spaces_that_cannot_be_searched_are_refused_before_anything_runs() {
    let empty: [i64; 0] = [];
    let domains: [(Domain, &str); 12] = [
        (choice(empty), "the list of values is empty"),
        (grid(empty), "the list of values is empty"),
        (int_uniform(5..=4), "the range is empty: its lower bound 5 is above its upper bound 4"),
        (uniform(2.0, 1.0), "the lower bound 2 is above the upper bound 1"),
        (uniform(f64::NAN, 1.0), "bounds must be finite, found NaN and 1"),
        (uniform(0.0, f64::INFINITY), "bounds must be finite, found 0 and inf"),
        (uniform(-f64::MAX, f64::MAX), "the range is too wide for a 64-bit float"),
        (log_uniform(0.0, 1.0), "a logarithmic range must start above 0, found 0"),
        (log_uniform(-1.0, 1.0), "a logarithmic range must start above 0, found -1"),
        (log_int_uniform(0..=8), "a logarithmic range must start above 0, found 0"),
        (int_uniform(0..=1 << 54), "integers must lie within ±2^53"),
        (
            normal(0.0, 0.0),
            "a normal distribution needs a finite mean and a finite deviation above 0, found 0 and 0",
        ),
    ];
    for (domain, reason) in domains {
        assert_eq!(refusal(Space::new().with("net.lr", domain)), format!("parameter `net.lr`: {reason}"));
    }
    let twice = Space::new().with("lr", uniform(0.0, 1.0)).with("lr", choice([1]));
    assert_eq!(refusal(twice), "parameter `lr`: the name is given twice");
    let both = Space::new().with("net", choice([1])).with("net.lr", uniform(0.0, 1.0));
    assert_eq!(refusal(both), "parameter `net`: the name is both a value and an object");
}

/// How a trial ended that reported these.
fn end(reports: &'static [&'static [(&'static str, f64)]]) -> (Status, Option<String>) {
    let grid = Tuner::new(Space::new().with("x", 1), move |trial, _| {
        for values in reports {
            let _ = trial.report(values)?;
        }
        Ok(())
    })
    .fit()
    .unwrap();
    let trial = grid.iter().next().unwrap();
    (trial.status, trial.cause.as_ref().map(ToString::to_string))
}

#[test]
fn metrics_that_are_missing_or_no_number_are_causes_of_failure_and_infinite_ones_are_values() {
    let failed = |cause: &str| (Status::Failed, Some(cause.to_owned()));
    assert_eq!(end(&[]), failed("never reported `loss`"));
    assert_eq!(
        end(&[&[("accuracy", 1.0), ("time", 2.0)]]),
        failed("never reported `loss`: it reported `accuracy`, `time`")
    );
    assert_eq!(end(&[&[("loss", 1.0)], &[("loss", f64::NAN)]]), failed("its last `loss` is not a number"));
    assert_eq!(end(&[&[("loss", f64::NAN)], &[("loss", 1.0)]]), (Status::Complete, None));
    assert_eq!(end(&[&[("loss", f64::NEG_INFINITY)]]), (Status::Complete, None));
    assert_eq!(end(&[&[("", 1.0)]]), failed("`metrics`: a name must have 1 to 256 bytes, found 0"));
    assert_eq!(end(&[&[("loss", 1.0), ("loss", 2.0)]]), failed("`metrics`: `loss` is given twice"));
    let none = Tuner::new(Space::new().with("x", 1), |_, _| Ok(())).fit().unwrap();
    assert_eq!(
        none.best().unwrap_err().to_string(),
        "no trial reported a usable `loss` (1 trials, 1 failed)"
    );
}

#[test]
fn an_experiment_that_another_process_runs_is_not_run_twice_and_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_owned();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&seen);
    let run_config = || RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    Tuner::new(Space::new().with("x", 1), move |trial, _| {
        // What others are told meanwhile.
        let again = Tuner::resume(&place, |_, _| Ok(())).map(drop).unwrap_err();
        told.lock().unwrap().push(again.to_string());
        told.lock().unwrap().push(failure(&["resume", text(&place)]).1);
        assert_eq!(ResultGrid::load(&place)?.counts().len(), 1);
        trial.report(&[("loss", 1.0)]).map(drop)?;
        Ok(())
    })
    .run_config(run_config())
    .fit()
    .unwrap();
    let held = format!("`{}` is held by another process", dir.path().display());
    assert_eq!(*seen.lock().unwrap(), [held.clone(), format!("error: {held}")]);
    let exists = Tuner::new(Space::new().with("x", 1), |_, _| Ok(())).run_config(run_config()).fit();
    let message = format!(
        "`{}` already holds an experiment: resume it, or choose another folder or name",
        dir.path().display()
    );
    assert_eq!(exists.unwrap_err().to_string(), message);
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunConfig { dir: Some(dir.path().to_owned()), ..RunConfig::default() };
    let fit =
        Tuner::new(Space::new().with("x", 1), |trial, _| Ok(trial.report(&[("loss", 1.0)]).map(drop)?));
    fit.run_config(run).fit().unwrap();
    let path = dir.path().join("study.db");
    let set = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute(sql, []).unwrap();
    for (sql, back, what) in [
        (
            "UPDATE air_meta SET value = '99' WHERE key = 'version'",
            "UPDATE air_meta SET value = '1' WHERE key = 'version'",
            "version 99, this version reads 1",
        ),
        (
            "UPDATE version_info SET schema_version = 13",
            "UPDATE version_info SET schema_version = 12",
            "Optuna schema 13, this version reads 12",
        ),
    ] {
        set(sql);
        let message = format!("`{}` has {what}", path.display());
        let resumed = Tuner::resume(dir.path(), |_, _| Ok(())).map(drop);
        assert!(matches!(&resumed, Err(TuneError::Version { .. })));
        assert_eq!(resumed.unwrap_err().to_string(), message);
        assert_eq!(ResultGrid::load(dir.path()).unwrap_err().to_string(), message);
        assert_eq!(failure(&["best", text(dir.path())]), (1, format!("error: {message}")));
        set(back);
    }
    assert_eq!(ResultGrid::load(dir.path()).unwrap().len(), 1, "nothing was changed");
}

/// Runs one trial of twenty thousand reports, for which there is no room after `before`; gives the exit code and all it said.
fn without_room(program: &[&str], before: &str, dir: &Path) -> (Option<i32>, String) {
    let run = format!(
        "{before} exec '{}' run --out '{}' --param a=1 --trials 1 -- seq -f '{{\"loss\": %g}}' 1 20000",
        env!("CARGO_BIN_EXE_air-tune"),
        text(dir)
    );
    let output = Command::new(program[0]).args(&program[1..]).args(["bash", "-c", &run]).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn a_write_that_fails_ends_the_experiment_and_it_can_be_resumed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("limited");
    // Files of at most 400 KiB; a write past that is an error, not a signal.
    let (code, said) = without_room(&["env"], "trap '' XFSZ; ulimit -f 400;", &dir);
    let error = format!("error: study database `{}`", dir.join("study.db").display());
    assert!(code == Some(1) && said.lines().any(|line| line.starts_with(&error)), "{code:?} {said}");
    let resumed = air_tune(&["resume", text(&dir)]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let grid = ResultGrid::load(&dir).unwrap();
    assert_eq!((grid.best().unwrap().iterations, grid.history(0).unwrap().len()), (20_000, 20_000));
}

/// On a disk of its own, where the system lets a test have one.
#[test]
fn a_full_disk_is_told_with_what_to_do() {
    if !Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: `unshare -rm` does not work here");
    }
    let small = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=600k none '{}' &&", text(small.path()));
    let dir = small.path().join("x");
    let (code, said) = without_room(&["unshare", "-rm"], &mount, &dir);
    let full = format!(
        "error: study database `{}`: the disk is full; free some space, then resume the experiment",
        dir.join("study.db").display()
    );
    assert!(code == Some(1) && said.lines().any(|line| line.starts_with(&full)), "{code:?} {said}");
}
