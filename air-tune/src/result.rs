//! What an experiment found.

#[cfg(feature = "parquet")]
mod arrow;
mod columns;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use self::columns::{Column, Field, LAST, columns};
use crate::TrialId;
use crate::config::Config;
use crate::controller::{End, Status, TrialState};
use crate::error::{Cause, Result, TuneError};
use crate::log::csv;
use crate::schedule::{Policy, StopReason};
use crate::search::Mode;
use crate::search::pareto::dominates;
use crate::space::{Assignment, Space};
use crate::storage::{Lineage, Report, Snapshot};
use crate::tuner::Objective;
use crate::values::Values;

/// One trial and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrialResult {
    /// Its number, from 0.
    pub trial: TrialId,
    /// Where it stands.
    pub status: Status,
    /// What it was given.
    pub config: Config,
    /// The metric, as last reported.
    #[serde(serialize_with = "number")]
    pub value: Option<f64>,
    /// Its last report.
    pub metrics: Values,
    /// How many iterations it reported.
    pub iterations: u64,
    /// Seconds it ran, over all attempts.
    pub seconds: f64,
    /// How often it was started.
    pub attempts: u32,
    /// Who stopped it early, if anyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cause")]
    pub cause: Option<Cause>,
    /// Its folder, if the experiment has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

#[allow(clippy::ref_option)] // the signature is serde's
fn number<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(crate::values::to_json).serialize(serializer)
}

#[allow(clippy::ref_option)] // the signature is serde's
fn cause<S: serde::Serializer>(cause: &Option<Cause>, serializer: S) -> Result<S::Ok, S::Error> {
    cause.as_ref().map(ToString::to_string).serialize(serializer)
}

/// The folder of a trial within its experiment's.
pub(crate) fn trial_dir(dir: &Path, trial: TrialId) -> PathBuf {
    dir.join(format!("trial_{trial:05}"))
}

impl TrialResult {
    pub(crate) fn new(
        trial: TrialId,
        assignment: &Assignment,
        end: End,
        attempts: u32,
        last: Values,
        dir: Option<&Path>,
    ) -> Self {
        Self {
            trial,
            status: end.status,
            config: assignment.to_config(),
            value: end.value,
            metrics: last,
            iterations: end.iterations,
            seconds: end.seconds,
            attempts,
            stop: end.stop,
            cause: end.cause,
            dir: dir.map(|dir| trial_dir(dir, trial)),
        }
    }

    /// The newest complete checkpoint of the trial, if it saved one.
    ///
    /// # Errors
    /// Whatever the storage answers.
    pub fn checkpoint(&self) -> Result<Option<air_core::checkpoint::Checkpoint>> {
        match &self.dir {
            Some(dir) => crate::keep::latest(dir),
            None => Ok(None),
        }
    }
}

/// All trials of an experiment.
#[derive(Debug, Clone)]
pub struct ResultGrid {
    objectives: Vec<Objective>,
    space: Space,
    dir: Option<PathBuf>,
    trials: Vec<TrialResult>,
}

impl ResultGrid {
    pub(crate) fn new(
        objectives: Vec<Objective>,
        space: Space,
        dir: Option<PathBuf>,
        states: Vec<TrialState>,
    ) -> Self {
        let trials = states
            .into_iter()
            .enumerate()
            .map(|(trial, state)| {
                let end = state.end();
                TrialResult::new(
                    trial as TrialId,
                    &state.assignment,
                    end,
                    state.attempts,
                    state.last,
                    dir.as_deref(),
                )
            })
            .collect();
        Self { objectives, space, dir, trials }
    }

    /// Reads an experiment's folder as it stands: finished, killed, or still running in another process.
    ///
    /// # Errors
    /// [`TuneError::NoStudy`] if there is none; [`TuneError::Version`] or [`TuneError::Damaged`] if it cannot be read.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let Snapshot { meta, trials } = Snapshot::read(dir)?;
        let trials = trials
            .into_iter()
            .map(|t| TrialResult::new(t.trial, &t.assignment, t.end, t.attempts, t.last, Some(dir)))
            .collect();
        Ok(Self { objectives: meta.tune.objectives(), space: meta.space, dir: Some(dir.to_owned()), trials })
    }

    /// The metric the experiment optimised.
    pub fn metric(&self) -> &str {
        self.objectives.first().map_or("", |objective| &objective.metric)
    }

    /// Whether small or large values of the metric are good.
    pub fn mode(&self) -> Mode {
        self.objectives.first().map(|objective| objective.mode).unwrap_or_default()
    }

    /// What was searched, with the parameters that trials named while they ran.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The experiment's folder, if it has one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// A trial's configuration as a point of the space.
    pub(crate) fn assignment(&self, trial: &TrialResult) -> Assignment {
        let mut point = Assignment::new();
        for param in self.space.params() {
            if let Some(value) = trial.config.get(&param.path) {
                point.push(&param.path, value.clone());
            }
        }
        point
    }

    /// All that counts, the metric first.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// A trial's values, one for each objective, if it finished or was stopped with all of them.
    pub fn values(&self, trial: &TrialResult) -> Option<Vec<f64>> {
        if !matches!(trial.status, Status::Complete | Status::Stopped) {
            return None;
        }
        let also = self.objectives.iter().skip(1).map(|objective| trial.metrics.get(&objective.metric));
        std::iter::once(trial.value).chain(also).map(|value| value.filter(|v| !v.is_nan())).collect()
    }

    /// The complete trials that no other beats in everything, by number. With one objective, the best and its equals.
    pub fn pareto_front(&self) -> Vec<&TrialResult> {
        let modes: Vec<Mode> = self.objectives.iter().map(|objective| objective.mode).collect();
        let complete = self.trials.iter().filter(|trial| trial.status == Status::Complete);
        let points: Vec<(&TrialResult, Vec<f64>)> =
            complete.filter_map(|trial| self.values(trial).map(|values| (trial, values))).collect();
        let beaten = |values: &[f64]| points.iter().any(|(_, other)| dominates(other, values, &modes));
        points.iter().filter(|(_, values)| !beaten(values)).map(|(trial, _)| *trial).collect()
    }

    /// The finished or stopped trial with the best last value of the metric; the first of equals. Where several numbers count, see
    /// [`pareto_front`](Self::pareto_front).
    ///
    /// # Errors
    /// [`TuneError::NoResult`] if no trial has a usable value.
    pub fn best(&self) -> Result<&TrialResult> {
        let usable = self.trials.iter().filter(|t| matches!(t.status, Status::Complete | Status::Stopped));
        let mut best: Option<(&TrialResult, f64)> = None;
        for (trial, value) in usable.filter_map(|t| t.value.filter(|v| !v.is_nan()).map(|value| (t, value))) {
            if best.is_none_or(|(_, so_far)| self.mode().better(value, so_far)) {
                best = Some((trial, value));
            }
        }
        best.map(|(trial, _)| trial).ok_or_else(|| TuneError::NoResult {
            metric: self.metric().to_owned(),
            trials: self.trials.len(),
            failed: self.errors().count(),
        })
    }

    /// The trials that failed, with their causes.
    pub fn errors(&self) -> impl Iterator<Item = (&TrialResult, &Cause)> {
        let failed = self.trials.iter().filter(|t| t.status == Status::Failed);
        failed.filter_map(|t| t.cause.as_ref().map(|cause| (t, cause)))
    }

    /// How many trials there are.
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Whether there is no trial.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// The trials, by number.
    pub fn iter(&self) -> std::slice::Iter<'_, TrialResult> {
        self.trials.iter()
    }

    /// Everything a trial reported, by iteration.
    ///
    /// # Errors
    /// [`TuneError::NoFolder`] if the experiment was run without a folder: then only each trial's last report is kept.
    pub fn history(&self, trial: TrialId) -> Result<Vec<Report>> {
        crate::storage::history(self.dir.as_deref().ok_or(TuneError::NoFolder)?, trial)
    }

    /// The configurations a trial of a population went through, over all it was cloned from: what
    /// [`PolicyReplay`](crate::schedule::PolicyReplay) runs again.
    ///
    /// # Errors
    /// [`TuneError::NoFolder`] if the experiment was run without a folder; [`TuneError::NoTrial`] if there is no such trial.
    pub fn policy(&self, trial: TrialId) -> Result<Policy> {
        let dir = self.dir.as_deref().ok_or(TuneError::NoFolder)?;
        let found = self.trials.get(trial as usize);
        let found = found.ok_or(TuneError::NoTrial { trial, trials: self.trials.len() })?;
        Ok(Policy { segments: Lineage::read(dir)?.segments(trial, found.iterations, usize::MAX) })
    }

    /// How many trials are in each state, for those states that occur.
    pub fn counts(&self) -> Vec<(Status, usize)> {
        [Status::Complete, Status::Stopped, Status::Failed, Status::Running, Status::Waiting]
            .into_iter()
            .map(|status| (status, self.trials.iter().filter(|t| t.status == status).count()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The results as a table of text: one line a trial, parameters and metrics as columns.
    pub fn table(&self) -> String {
        let mut columns = columns(self);
        // The causes stand below, where there is room for them.
        columns.truncate(columns.len() - LAST.len());
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(columns.iter().map(|column| &column.name));
        for row in rows(&columns) {
            table.add_row(row.into_iter().map(|text| {
                let align =
                    if text.parse::<f64>().is_ok() { CellAlignment::Right } else { CellAlignment::Left };
                Cell::new(text).set_alignment(align)
            }));
        }
        let mut text = String::new();
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for (trial, cause) in self.errors().take(20) {
            let _ = writeln!(text, "trial {} failed: {}", trial.trial, first_lines(&cause.to_string(), 3));
        }
        text
    }

    /// The results as CSV, with a header.
    pub fn to_csv(&self) -> String {
        let columns = columns(self);
        let mut text = csv::line(columns.iter().map(|column| column.name.as_str()));
        for row in rows(&columns) {
            text.push_str(&csv::line(row.iter().map(String::as_str)));
        }
        text
    }

    /// The results as JSON, one object a line: what [`TrialResult`] serializes to.
    ///
    /// # Errors
    /// [`TuneError::Damaged`] if a result cannot be written as JSON.
    pub fn to_json_lines(&self) -> Result<String> {
        let mut text = String::new();
        for trial in &self.trials {
            let line = serde_json::to_string(trial).map_err(|error| TuneError::Damaged {
                path: self.dir.clone().unwrap_or_default(),
                reason: format!("trial {}: {error}", trial.trial),
            })?;
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Keeps the trials that hold.
    pub(crate) fn retain(&mut self, holds: impl Fn(&TrialResult) -> bool) {
        self.trials.retain(holds);
    }
}

impl std::fmt::Display for ResultGrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.table())
    }
}

impl<'a> IntoIterator for &'a ResultGrid {
    type Item = &'a TrialResult;
    type IntoIter = std::slice::Iter<'a, TrialResult>;
    fn into_iter(self) -> Self::IntoIter {
        self.trials.iter()
    }
}

/// The columns by rows, as text; empty where there is nothing.
fn rows(columns: &[Column]) -> impl Iterator<Item = Vec<String>> {
    let count = columns.first().map_or(0, |column| column.fields.len());
    let text = |field: &Option<Field>| field.as_ref().map_or_else(String::new, ToString::to_string);
    (0..count).map(move |row| columns.iter().map(|column| text(&column.fields[row])).collect())
}

fn first_lines(text: &str, count: usize) -> String {
    text.lines().take(count).collect::<Vec<_>>().join("\n  ")
}
