//! An experiment that was interrupted goes on as if it had not been.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use air_tune::search::{BasicVariants, Outcome, SearchConfig, Searcher};
use air_tune::space::{Assignment, Space, uniform};
use air_tune::{
    Config, FailureConfig, ResultGrid, RunConfig, Status, Trial, TrialId, TuneConfig, TuneError, Tuner,
};

fn space() -> Space {
    Space::new().with("x", uniform(0.0, 1.0))
}

fn config() -> TuneConfig {
    TuneConfig {
        num_samples: 12,
        max_concurrent_trials: Some(2),
        search: SearchConfig::Variants,
        seed: 3,
        ..TuneConfig::default()
    }
}

fn run_config(dir: &Path) -> RunConfig {
    let failure = FailureConfig { fail_fast: true, ..FailureConfig::default() };
    RunConfig { dir: Some(dir.to_owned()), failure, ..RunConfig::default() }
}

/// Reports `x`; the switch makes trial 5 fail, which ends the experiment early.
fn trainable(
    switch: Arc<AtomicBool>,
    ran: Arc<Mutex<Vec<TrialId>>>,
) -> impl Fn(&mut Trial, Config) -> Result<(), air_core::BoxError> {
    move |trial, config| {
        ran.lock().unwrap().push(trial.id());
        if trial.id() == 5 && switch.load(Ordering::SeqCst) {
            return Err("power failure".into());
        }
        let _ = trial.report(&[("loss", config.f64("x")?)])?;
        Ok(())
    }
}

fn values(grid: &ResultGrid) -> Vec<(Config, Option<f64>)> {
    grid.iter().map(|trial| (trial.config.clone(), trial.value)).collect()
}

#[test]
fn the_rest_is_what_it_would_have_been_and_nothing_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (off, on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let whole =
        Tuner::new(space(), trainable(off.clone(), Arc::default())).tune_config(config()).fit().unwrap();

    let cut = Tuner::new(space(), trainable(on, Arc::default()))
        .tune_config(config())
        .run_config(run_config(dir.path()))
        .fit()
        .unwrap();
    assert!(cut.len() < 12);
    assert_eq!(ResultGrid::load(dir.path()).unwrap().len(), cut.len());

    let again = Arc::new(Mutex::new(Vec::new()));
    let resumed = Tuner::resume(dir.path(), trainable(off, Arc::clone(&again))).unwrap().fit().unwrap();
    assert_eq!(resumed.len(), 12);
    assert_eq!(values(&resumed)[..5], values(&whole)[..5]);
    assert_eq!(values(&resumed)[cut.len()..], values(&whole)[cut.len()..]);
    assert_eq!(resumed.iter().nth(5).unwrap().status, Status::Failed, "a failed trial has ended, too");
    let mut again = again.lock().unwrap().clone();
    again.sort_unstable();
    assert_eq!(again, (cut.len() as u64..12).collect::<Vec<_>>());

    let nothing = Arc::new(Mutex::new(Vec::new()));
    let done =
        Tuner::resume(dir.path(), trainable(Arc::default(), Arc::clone(&nothing))).unwrap().fit().unwrap();
    assert_eq!(values(&done), values(&resumed));
    assert!(nothing.lock().unwrap().is_empty());
}

/// Killed between two writes, a file may lack lines of a trial that has ended, or hold those of an earlier attempt too.
#[test]
fn files_of_ended_trials_are_made_whole_again() {
    let dir = tempfile::tempdir().unwrap();
    let tuner = Tuner::new(space(), trainable(Arc::default(), Arc::default()));
    tuner.tune_config(config()).run_config(run_config(dir.path())).fit().unwrap();
    let file = |trial: usize| dir.path().join(format!("trial_{trial:05}/progress.csv"));
    let texts: Vec<_> = (0..12).map(|trial| std::fs::read_to_string(file(trial)).unwrap()).collect();
    let header = texts[1].lines().next().unwrap();
    std::fs::write(file(0), "").unwrap();
    std::fs::write(file(1), format!("{header}\n1,0.1,9\n{}", texts[1])).unwrap();
    std::fs::remove_file(file(2)).unwrap();
    Tuner::resume(dir.path(), trainable(Arc::default(), Arc::default())).unwrap().fit().unwrap();
    for (trial, text) in texts.iter().enumerate() {
        assert_eq!(std::fs::read_to_string(file(trial)).unwrap(), *text, "trial {trial}");
    }
}

#[test]
fn one_folder_holds_one_experiment_run_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let quick = || Tuner::new(space(), trainable(Arc::default(), Arc::default()));
    quick().run_config(run_config(dir.path())).fit().unwrap();
    assert!(matches!(quick().run_config(run_config(dir.path())).fit(), Err(TuneError::StudyExists { .. })));
    let held = Tuner::resume(dir.path(), trainable(Arc::default(), Arc::default())).unwrap();
    let second = Tuner::resume(dir.path(), trainable(Arc::default(), Arc::default()));
    assert!(matches!(second, Err(TuneError::Locked { .. })));
    assert_eq!(ResultGrid::load(dir.path()).unwrap().len(), 1, "reading needs no lock");
    drop(held);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(ResultGrid::load(empty.path()), Err(TuneError::NoStudy { .. })));
}

/// A searcher of one's own: counts what it is told.
struct Counting(BasicVariants, Arc<Mutex<(u64, u64)>>);

impl Searcher for Counting {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        self.0.ask(trial)
    }
    fn tell(&mut self, _: TrialId, _: Outcome) {
        self.1.lock().unwrap().0 += 1;
    }
    fn replay(&mut self, _: TrialId, _: &Assignment) {
        self.1.lock().unwrap().1 += 1;
    }
}

#[test]
fn a_searcher_of_ones_own_is_replayed_and_must_be_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let counts = Arc::new(Mutex::new((0, 0)));
    let searcher = || {
        Counting(BasicVariants::new(&space(), 12, air_core::seed::Seed::new(0)).unwrap(), Arc::clone(&counts))
    };
    let on = Arc::new(AtomicBool::new(true));
    let cut = Tuner::new(space(), trainable(on, Arc::default()))
        .tune_config(config())
        .run_config(run_config(dir.path()))
        .searcher(searcher())
        .fit()
        .unwrap();
    assert_eq!(*counts.lock().unwrap(), (cut.len() as u64, 0));
    let resume = || Tuner::resume(dir.path(), trainable(Arc::default(), Arc::default())).unwrap();
    assert!(resume().fit().unwrap_err().to_string().contains("give it again"));
    *counts.lock().unwrap() = (0, 0);
    assert_eq!(resume().searcher(searcher()).fit().unwrap().len(), 12);
    assert_eq!(*counts.lock().unwrap(), (12, cut.len() as u64));
}
