//! Comma-separated values: one file a trial with its reports.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use air_core::BoxError;

use super::{Callback, Event};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::result::{ResultGrid, trial_dir};
use crate::storage::Report;
use crate::values::Values;

/// Fields joined by commas, quoted where they must be, with the line's end.
pub(crate) fn line<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push('\n');
    out
}

/// `trial_00000/progress.csv`: one line a report.
pub(super) struct ProgressCsv {
    dir: PathBuf,
    open: HashMap<TrialId, Sheet>,
}

/// The file of a running trial, and what is to be appended to it.
#[derive(Default)]
struct Sheet {
    columns: Vec<String>,
    pending: String,
}

impl ProgressCsv {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: HashMap::new() }
    }

    fn path(&self, trial: TrialId) -> PathBuf {
        trial_dir(&self.dir, trial).join("progress.csv")
    }

    fn flush(&mut self, trial: TrialId) -> Result<(), TuneError> {
        let path = self.path(trial);
        let Some(sheet) = self.open.get_mut(&trial).filter(|sheet| !sheet.pending.is_empty()) else {
            return Ok(());
        };
        append(&path, sheet.pending.as_bytes())?;
        sheet.pending.clear();
        Ok(())
    }

    /// Writes the file anew from the store; returns its columns.
    fn rewrite(&self, trial: TrialId) -> Result<Vec<String>> {
        let reports = crate::storage::history(&self.dir, trial)?;
        let columns = columns(&reports);
        let rows = reports.iter().map(|r| row(&columns, r.iteration, r.seconds, &r.values));
        let text: String = std::iter::once(header(&columns)).chain(rows).collect();
        let path = self.path(trial);
        make_parent(&path)?;
        fs::write(&path, text).map_err(TuneError::io(&path))?;
        Ok(columns)
    }
}

/// Appends to a file, making it and its folder if need be.
pub(super) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = || File::options().create(true).append(true).open(path);
    let file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make_parent(path)?;
            open()
        }
        other => other,
    };
    file.and_then(|mut file| file.write_all(bytes)).map_err(TuneError::io(path))
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(TuneError::io(parent))
}

fn header(columns: &[String]) -> String {
    line(["iteration", "seconds"].into_iter().chain(columns.iter().map(String::as_str)))
}

fn row(columns: &[String], iteration: u64, seconds: f64, values: &Values) -> String {
    let mut fields = vec![iteration.to_string(), format!("{seconds:.6}")];
    fields.extend(columns.iter().map(|name| values.get(name).map_or_else(String::new, |v| v.to_string())));
    line(fields.iter().map(String::as_str))
}

fn columns(reports: &[Report]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in reports.iter().flat_map(|report| report.values.iter()) {
        if !columns.iter().any(|known| known == name) {
            columns.push(name.to_owned());
        }
    }
    columns
}

impl Callback for ProgressCsv {
    fn name(&self) -> &'static str {
        "progress.csv"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        // Files written anew hold all of this call's reports already: they are in the store.
        let mut rewritten = HashSet::new();
        for event in events {
            match event {
                Event::Reported { trial, .. } if rewritten.contains(trial) => {}
                Event::Reported { trial, iteration, values, seconds, .. } => {
                    let sheet = self.open.entry(*trial).or_default();
                    if sheet.columns.is_empty() {
                        sheet.columns = values.iter().map(|(name, _)| name.to_owned()).collect();
                        sheet.pending = header(&sheet.columns);
                    }
                    if values.iter().all(|(name, _)| sheet.columns.iter().any(|known| known == name)) {
                        sheet.pending.push_str(&row(&sheet.columns, *iteration, *seconds, values));
                    } else {
                        // A column more: the lines so far need it too.
                        let columns = self.rewrite(*trial)?;
                        self.open.insert(*trial, Sheet { columns, pending: String::new() });
                        rewritten.insert(*trial);
                    }
                }
                Event::Ended(result) => {
                    self.flush(result.trial)?;
                    self.open.remove(&result.trial);
                    if result.attempts > 1 {
                        self.rewrite(result.trial)?;
                    }
                }
                Event::Started { .. }
                | Event::Requeued { .. }
                | Event::Paused { .. }
                | Event::Changed { .. } => {}
            }
        }
        let open: Vec<TrialId> = self.open.keys().copied().collect();
        for trial in open {
            self.flush(trial)?;
        }
        Ok(())
    }
}

/// Writes `results.csv` in one step: it is either the old one or the new one.
pub(crate) fn write_results(dir: &Path, grid: &ResultGrid) -> Result<()> {
    let path = dir.join("results.csv");
    let partial = dir.join("results.csv.partial");
    fs::write(&partial, grid.to_csv()).map_err(TuneError::io(&partial))?;
    fs::rename(&partial, &path).map_err(TuneError::io(&path))
}

/// After a crash: writes the reports of finished trials again where the file has not the lines the store has: fewer, or those of an
/// earlier attempt too.
pub(crate) fn repair(dir: &Path) -> Result<()> {
    let log = ProgressCsv::new(dir);
    for trial in &ResultGrid::load(dir)? {
        if !trial.status.is_over() || trial.iterations == 0 {
            continue;
        }
        let lines = fs::read_to_string(log.path(trial.trial)).map_or(0, |text| text.lines().count());
        let whole = u64::try_from(lines).is_ok_and(|lines| lines == trial.iterations + 1);
        if !whole {
            log.rewrite(trial.trial).map(drop)?;
        }
    }
    Ok(())
}
