//! Trials as runs of Weights & Biases, in the files that its client writes offline: `wandb/offline-run-<time>-<id>/run-<id>.wandb`, which `wandb sync` uploads.
//!
//! Nothing is sent from here. A trial keeps its run, whatever its attempts, and whatever process runs it: its identifier ends in the trial's number, and a file that a crash has torn is cut back to
//! its last whole message before more is appended.

mod record;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use air_core::BoxError;
use air_core::seed::Seed;
use serde_json::Value;

use super::csv::append;
use super::{Callback, Event};
use crate::TrialId;
use crate::config::Config;
use crate::controller::Status;
use crate::error::{Result, TuneError};

/// What an identifier of an experiment is made of, and its length.
const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 8;
/// Longest file of an earlier process that more is appended to, in bytes: it is read whole.
const LONGEST: u64 = 256 << 20;

/// See the module.
pub(super) struct Wandb {
    dir: PathBuf,
    project: String,
    group: String,
    /// What the identifiers of all runs begin with; found or made up with the first event.
    experiment: Option<String>,
    /// Folders of runs that an earlier process began, by identifier; looked for with the first event.
    earlier: HashMap<String, PathBuf>,
    open: HashMap<TrialId, Run>,
}

/// The file of a trial that is not over, and what is to be appended to it.
struct Run {
    path: PathBuf,
    /// Bytes it has, with those that wait.
    length: u64,
    /// Messages.
    count: u64,
    started: f64,
    pending: Vec<u8>,
}

impl Run {
    fn put(&mut self, message: impl FnOnce(u64) -> Vec<u8>) {
        self.count += 1;
        let bytes = record::framed(self.length, &message(self.count));
        self.length += bytes.len() as u64;
        self.pending.extend(bytes);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Seconds since 1970 as `YYYYMMDD_hhmmss`, in UTC.
fn stamp(seconds: u64) -> String {
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the leap day is the last.
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + late;
    format!("{year:04}{month:02}{day:02}_{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// A number as the files have it.
fn text(value: f64) -> String {
    match crate::values::to_json(value) {
        Value::String(text) => text,
        number => number.to_string(),
    }
}

fn items(config: &Config) -> Vec<(String, String)> {
    match config.to_value() {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
        _ => Vec::new(),
    }
}

fn borrowed(items: &[(String, String)]) -> Vec<(&str, String)> {
    items.iter().map(|(key, json)| (key.as_str(), json.clone())).collect()
}

impl Wandb {
    pub fn new(dir: &Path, project: &str, group: &str) -> Self {
        Self {
            dir: dir.join("wandb"),
            project: project.to_owned(),
            group: group.to_owned(),
            experiment: None,
            earlier: HashMap::new(),
            open: HashMap::new(),
        }
    }

    /// The folders of runs, by what their identifiers are.
    fn found(&self) -> Result<HashMap<String, PathBuf>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
            other => other.map_err(TuneError::io(&self.dir))?,
        };
        let mut found = HashMap::new();
        for entry in entries {
            let path = entry.map_err(TuneError::io(&self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // offline-run-YYYYMMDD_hhmmss-experiment-trial
            let parts: Vec<&str> = name.splitn(4, '-').collect();
            if let ["offline", "run", _, id] = parts[..] {
                found.insert(id.to_owned(), path.clone());
            }
        }
        Ok(found)
    }

    /// The run of a trial: begun by an earlier process, or new.
    fn begin(&mut self, trial: TrialId, config: &Config) -> Result<()> {
        if self.open.contains_key(&trial) {
            return Ok(());
        }
        let started = now();
        let experiment = if let Some(experiment) = &self.experiment {
            experiment.clone()
        } else {
            self.earlier = self.found()?;
            let earlier = self.earlier.keys().next().and_then(|id| id.rsplit_once('-'));
            let experiment = earlier.map_or_else(|| fresh(started), |(experiment, _)| experiment.to_owned());
            self.experiment.insert(experiment).clone()
        };
        let id = format!("{experiment}-{trial:05}");
        let place = match self.earlier.remove(&id) {
            Some(place) => place,
            None => self.dir.join(format!("offline-run-{}-{id}", stamp(started as u64))),
        };
        let path = place.join(format!("run-{id}.wandb"));
        let mut run = if let Some((count, length)) = reopen(&path)? {
            Run { path, length, count, started, pending: Vec::new() }
        } else {
            for folder in ["files", "logs"] {
                let folder = place.join(folder);
                fs::create_dir_all(&folder).map_err(TuneError::io(&folder))?;
            }
            let length = record::HEADER.len() as u64;
            Run { path, length, count: 0, started, pending: record::HEADER.to_vec() }
        };
        if run.count == 0 {
            let (name, items) = (format!("trial_{trial:05}"), items(config));
            let what =
                record::Run { id: &id, project: &self.project, group: &self.group, name: &name, started };
            run.put(record::header);
            run.put(|num| record::run(num, &what, &borrowed(&items)));
        }
        self.open.insert(trial, run);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for run in self.open.values_mut().filter(|run| !run.pending.is_empty()) {
            append(&run.path, &std::mem::take(&mut run.pending))?;
        }
        Ok(())
    }
}

/// An identifier that no other experiment has.
fn fresh(now: f64) -> String {
    let seed = Seed::new(now.to_bits()).child("process", u64::from(std::process::id()));
    let mut left = seed.value();
    (0..LENGTH)
        .map(|_| {
            let letter = LETTERS[(left % 36) as usize];
            left /= 36;
            char::from(letter)
        })
        .collect()
}

/// Cuts a file of an earlier process back to its last whole message; how many it has, and its length. Nothing, if there is none that can be gone on with.
fn reopen(path: &Path) -> Result<Option<(u64, u64)>> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(TuneError::io(path))?,
    };
    let cut = || -> std::io::Result<Option<(u64, u64)>> {
        let length = file.metadata()?.len();
        if length > LONGEST {
            return Err(std::io::Error::other(format!("has over {LONGEST} bytes: it is not gone on with")));
        }
        let found = record::whole(&fs::read(path)?);
        file.set_len(found.map_or(0, |(_, end)| end))?;
        Ok(found)
    };
    cut().map_err(TuneError::io(path))
}

impl Callback for Wandb {
    fn name(&self) -> &'static str {
        "the Weights & Biases log"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        let now = now();
        let mut over = Vec::new();
        for event in events {
            match event {
                Event::Started { trial, config, .. } => self.begin(*trial, config)?,
                Event::Changed { trial, config, .. } => {
                    self.begin(*trial, config)?;
                    let items = items(config);
                    if let Some(run) = self.open.get_mut(trial) {
                        run.put(|num| record::config(num, &borrowed(&items)));
                    }
                }
                Event::Reported { trial, iteration, values, seconds, .. } => {
                    let Some(run) = self.open.get_mut(trial) else { continue };
                    let mut items: Vec<(&str, String)> =
                        values.iter().map(|(name, value)| (name, text(value))).collect();
                    items.push(("_step", iteration.to_string()));
                    items.push(("_runtime", text(*seconds)));
                    items.push(("_timestamp", text(now)));
                    run.put(|num| record::history(num, *iteration, &items));
                }
                Event::Ended(result) => {
                    let Some(run) = self.open.get_mut(&result.trial) else { continue };
                    let mut items: Vec<(&str, String)> =
                        result.metrics.iter().map(|(name, value)| (name, text(value))).collect();
                    items.push(("air_status", Value::from(result.status.as_str()).to_string()));
                    items.push(("_runtime", text(now - run.started)));
                    let (code, seconds) = (u64::from(result.status == Status::Failed), result.seconds);
                    run.put(|num| record::summary(num, &items));
                    run.put(|num| record::exit(num, code, seconds));
                    over.push(result.trial);
                }
                Event::Requeued { .. } | Event::Paused { .. } => {}
            }
        }
        self.flush()?;
        for trial in &over {
            self.open.remove(trial);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::values::Values;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101_000000"),
            (951_827_696, "20000229_123456"),
            (1_709_164_799, "20240228_235959"),
            (1_735_689_599, "20241231_235959"),
            (4_107_542_400, "21000301_000000"),
        ] {
            assert_eq!(stamp(seconds), expected);
        }
    }

    fn started(trial: TrialId) -> Event {
        let config = serde_json::from_value(json!({"lr": 0.1, "net": {"kind": "wide"}})).unwrap();
        Event::Started { trial, attempt: 1, config }
    }

    fn reported(iteration: u64, value: f64) -> Event {
        let values = Values::new(&[("loss", value)]).unwrap();
        Event::Reported { trial: 7, iteration, value: Some(value), values, seconds: 0.0 }
    }

    #[test]
    fn a_run_torn_by_a_crash_is_gone_on_with_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Wandb::new(dir.path(), "mnist", "study");
        log.on_events(&[started(7), reported(1, 0.5)]).unwrap();
        let runs: Vec<(String, PathBuf)> = log.found().unwrap().into_iter().collect();
        let [(id, place)] = &runs[..] else { panic!("{runs:?}") };
        assert!(id.len() == LENGTH + 6 && id.ends_with("-00007"), "{id}");
        let path = place.join(format!("run-{id}.wandb"));
        let before = fs::read(&path).unwrap();
        assert_eq!(record::whole(&before), Some((3, before.len() as u64)));
        assert!(place.join("files").is_dir());
        // Half of a message that was on its way.
        fs::write(&path, [&before[..], &[1, 2, 3, 4, 200, 0, 1, 9]].concat()).unwrap();
        let mut log = Wandb::new(dir.path(), "mnist", "study");
        log.on_events(&[started(7), reported(2, f64::NAN)]).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(record::whole(&after), Some((4, after.len() as u64)), "no second header, no second run");
        assert!(after.starts_with(&before) && after.windows(3).any(|bytes| bytes == b"NaN"));
        log.on_events(&[started(8)]).unwrap();
        let mut names: Vec<String> = log.found().unwrap().into_keys().collect();
        names.sort();
        assert_eq!(names, [id.clone(), id.replace("-00007", "-00008")]);
        // A file that was begun and holds nothing yet.
        fs::write(&path, b":W").unwrap();
        Wandb::new(dir.path(), "mnist", "study").on_events(&[started(7)]).unwrap();
        let anew = fs::read(&path).unwrap();
        assert_eq!(record::whole(&anew), Some((2, anew.len() as u64)));
    }
}
