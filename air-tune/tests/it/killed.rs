//! Experiments of every searcher and scheduler are killed at random instants and resumed: no trial that was acknowledged is lost or run again, and the rest is what it
//! would have been.
//!
//! The test starts itself again as the process that is killed, with the folder in the environment. `AIR_TUNE_KILLS=200` asks for as many kills in all;
//! `bench/tune/soak.py` does.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use air_core::BoxError;
use air_core::seed::Seed;
use air_tune::log::{Callback, Event};
use air_tune::schedule::{AshaConfig, HyperBandConfig, MedianConfig, PbtConfig, SchedulerConfig};
use air_tune::search::{
    BohbConfig, CmaConfig, DifferentialConfig, GpConfig, Mode, Nsga2Config, SearchConfig, TpeConfig,
};
use air_tune::space::{Space, choice, uniform};
use air_tune::{Config, Objective, ResultGrid, RunConfig, Trial, TuneConfig, Tuner};
use rand::RngExt;

use crate::support::text;

const TRIALS: u64 = 24;
const ITERATIONS: u64 = 9;
const HYPERBAND: HyperBandConfig = HyperBandConfig { max_t: ITERATIONS, reduction_factor: 3 };
const FOLDER: &str = "AIR_TUNE_KILLED_FOLDER";
const CASE: &str = "AIR_TUNE_KILLED_CASE";
const KILLS: &str = "AIR_TUNE_KILLS";
/// The instants of the kills.
const SEED: u64 = 20;

/// Who proposes, who stops, and how many run at once. What learns goes on exactly where things happen in the same order, so it has one slot.
fn cases() -> Vec<TuneConfig> {
    let asha = AshaConfig { max_t: ITERATIONS, reduction_factor: 3, ..AshaConfig::default() };
    let median = MedianConfig { max_t: Some(ITERATIONS), ..MedianConfig::default() };
    let pbt = PbtConfig { interval: 3, synchronous: true, max_t: Some(ITERATIONS), ..PbtConfig::default() };
    let fifo = || SchedulerConfig::Fifo;
    let with = |search: SearchConfig, scheduler: SchedulerConfig, slots| TuneConfig {
        num_samples: TRIALS,
        max_concurrent_trials: Some(slots),
        search,
        scheduler,
        seed: 9,
        ..TuneConfig::default()
    };
    let nsga2 = Nsga2Config { population: 8, ..Nsga2Config::default() };
    let also = vec![Objective { metric: "size".into(), mode: Mode::Max }];
    vec![
        with(SearchConfig::Variants, fifo(), 2),
        with(SearchConfig::Quasi, fifo(), 2),
        with(TpeConfig::default().into(), fifo(), 1),
        with(CmaConfig::default().into(), fifo(), 1),
        with(GpConfig { startup_trials: 5, ..GpConfig::default() }.into(), fifo(), 1),
        with(DifferentialConfig { population: Some(6), ..DifferentialConfig::default() }.into(), fifo(), 1),
        TuneConfig { also, ..with(nsga2.into(), fifo(), 1) },
        with(TpeConfig::default().into(), asha.clone().into(), 1),
        with(BohbConfig::of(&HYPERBAND).into(), HYPERBAND.into(), 1),
        with(GpConfig { startup_trials: 5, ..GpConfig::default() }.into(), median.into(), 1),
        with(CmaConfig::default().into(), asha.into(), 1),
        with(SearchConfig::Variants, HYPERBAND.into(), 1),
        with(SearchConfig::Variants, pbt.into(), 2),
    ]
}

fn space() -> Space {
    let deep = Space::new().with("y", uniform(0.0, 1.0));
    Space::new().with("x", uniform(0.0, 1.0)).with("k", choice(["a", "b"])).when("k", ["b"], deep)
}

/// Goes down from where its checkpoint left it. Each run of it leaves a line.
fn train(trial: &mut Trial, config: &Config, folder: &Path) -> Result<(), BoxError> {
    note(folder, "runs", trial.id())?;
    let mut loss = match trial.checkpoint() {
        Some(saved) => f64::from_le_bytes(saved.read("loss")?[..].try_into()?),
        None => 10.0,
    };
    let x = config.f64("x")? + config.f64("y").unwrap_or(0.3);
    while trial.iteration() < ITERATIONS {
        loss = 0.7 * loss + (x - 0.4).powi(2);
        let signal = trial.report(&[("loss", loss), ("size", x)])?;
        trial.save(&[("loss", &loss.to_le_bytes())])?;
        if signal.is_stop() {
            break;
        }
    }
    Ok(())
}

/// A line that a kill does not take back.
fn note(folder: &Path, name: &str, trial: u64) -> std::io::Result<()> {
    let round = std::fs::read_to_string(folder.join("round"))?;
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
    file.write_all(format!("{round} {trial}\n").as_bytes())
}

fn noted(folder: &Path, name: &str) -> Vec<(u64, u64)> {
    let Ok(lines) = std::fs::read_to_string(folder.join(name)) else { return Vec::new() };
    let pair = |line: &str| {
        let (round, trial) = line.split_once(' ').unwrap();
        (round.parse().unwrap(), trial.parse().unwrap())
    };
    lines.lines().map(pair).collect()
}

/// Notes which trials it was told the end of.
struct Acknowledged(PathBuf);

impl Callback for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        for event in events {
            if let Event::Ended(result) = event {
                note(&self.0, "acknowledged", result.trial)?;
            }
        }
        Ok(())
    }
}

/// Begins or resumes the experiment in a folder, and runs it to its end.
fn go_on(folder: &Path, case: &TuneConfig) -> ResultGrid {
    let dir = folder.join("study");
    let here = folder.to_owned();
    let trainable = move |trial: &mut Trial, config: Config| train(trial, &config, &here);
    let tuner = match Tuner::resume(&dir, trainable.clone()) {
        Ok(tuner) => tuner,
        // There is none yet, or the kill came before it was whole: where there is one this fails.
        Err(_) => Tuner::new(space(), trainable)
            .tune_config(case.clone())
            .run_config(RunConfig { dir: Some(dir), ..RunConfig::default() }),
    };
    tuner.callback(Acknowledged(folder.to_owned())).quiet().fit().unwrap()
}

/// What the other test starts and kills. By itself: the first experiment from its beginning to its end.
#[test]
fn an_experiment_that_nobody_kills_ends() {
    let own = tempfile::tempdir().unwrap();
    let folder = std::env::var_os(FOLDER).map_or_else(|| own.path().to_owned(), PathBuf::from);
    let case: usize = std::env::var(CASE).map_or(0, |case| case.parse().unwrap());
    if !folder.join("round").exists() {
        std::fs::write(folder.join("round"), "0").unwrap();
    }
    let grid = go_on(&folder, &cases()[case]);
    assert_eq!(grid.len() as u64, TRIALS);
    assert!(grid.iter().all(|trial| trial.status.is_over()), "{:?}", grid.counts());
}

/// Starts the experiment in a process of its own; kills it after a while, if it still runs. Returns how it ended.
fn round(folder: &Path, case: usize, number: u64, limit: Option<Duration>) -> ExitStatus {
    std::fs::write(folder.join("round"), number.to_string()).unwrap();
    let output = File::create(folder.join("output")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::an_experiment_that_nobody_kills_ends", "--nocapture"])
        .env(FOLDER, folder)
        .env(CASE, case.to_string())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    if let Some(limit) = limit {
        let (over, wait) = std::sync::mpsc::channel::<()>();
        // The instant of a kill is what is random here; nothing waits for anything.
        let _ = wait.recv_timeout(limit);
        drop(over);
        child.kill().unwrap();
    }
    child.wait().unwrap()
}

fn outcomes(folder: &Path) -> BTreeMap<u64, String> {
    let grid = ResultGrid::load(folder.join("study")).unwrap();
    let told = |trial: &air_tune::TrialResult| {
        format!("{:?} {:?} {} {}", trial.config, trial.value, trial.iterations, trial.status)
    };
    grid.iter().map(|trial| (trial.trial, told(trial))).collect()
}

#[test]
fn whatever_is_killed_goes_on_as_if_nothing_had_been() {
    let wanted: u64 = std::env::var(KILLS).map_or(26, |kills| kills.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(SEED).rng();
    let mut kills = 0;
    let cases = cases().len();
    // How long each takes when nobody kills it says when to.
    let mut whole = Vec::new();
    for case in 0..cases {
        let folder = root.path().join(format!("whole-{case}"));
        std::fs::create_dir(&folder).unwrap();
        let began = std::time::Instant::now();
        assert!(round(&folder, case, 0, None).success(), "{}", output(&folder));
        whole.push((began.elapsed(), outcomes(&folder)));
    }
    for run in 0.. {
        let case = run % cases;
        if kills >= wanted && run >= cases {
            break;
        }
        assert!(run < 10_000, "only {kills} kills came in time");
        let (takes, expected) = &whole[case];
        let folder = root.path().join(format!("killed-{run}"));
        std::fs::create_dir(&folder).unwrap();
        let mut last = 0;
        for number in 0.. {
            let share: f64 = rng.random_range(0.05..0.8);
            let limit = (number < 3).then(|| takes.mul_f64(share));
            let status = round(&folder, case, number, limit);
            last = number;
            if status.success() {
                break;
            }
            assert!(status.code().is_none(), "it failed by itself: {}", output(&folder));
            kills += 1;
        }
        judge(&folder, expected, &format!("case {case}, run {run}, {last} kills"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!("{kills} kills");
}

fn output(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("output")).unwrap_or_default()
}

/// Nothing lost, nothing repeated, and the same trials as in the run that was not killed.
fn judge(folder: &Path, expected: &BTreeMap<u64, String>, what: &str) {
    let found = outcomes(folder);
    assert_eq!(found.len() as u64, TRIALS, "{what}");
    for (trial, outcome) in &found {
        assert_eq!(outcome, &expected[trial], "{what}: trial {trial} in {}", text(folder));
    }
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    for (round, trial) in noted(folder, "acknowledged") {
        assert!(told.insert(trial, round).is_none(), "{what}: trial {trial} was acknowledged twice");
    }
    for (round, trial) in noted(folder, "runs") {
        let when = told.get(&trial).copied().unwrap_or(u64::MAX);
        assert!(
            round <= when,
            "{what}: trial {trial} was acknowledged in round {when} and ran again in round {round}"
        );
    }
}
