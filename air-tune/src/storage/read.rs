//! Reading a study back: to resume it, or to look at it while another process runs it.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::{Changed, Detail, Meta, OPTUNA_REVISION, OPTUNA_VERSION, STUDY_FILE, Store, VERSION, at, row};
use crate::TrialId;
use crate::controller::{End, Replay, Status};
use crate::error::{Result, TuneError};
use crate::schedule::Segment;
use crate::space::{Assignment, Space};
use crate::values::{Values, from_json};

/// One report of a trial, as stored.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// How many iterations the trial had done, counted from 1.
    pub iteration: u64,
    /// Seconds the trial had run.
    pub seconds: f64,
    /// What it reported.
    pub values: Values,
}

/// A trial as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredTrial {
    pub trial: TrialId,
    pub attempts: u32,
    pub assignment: Assignment,
    pub end: End,
    pub last: Values,
}

/// A study as it stands, read without disturbing who runs it.
pub(crate) struct Snapshot {
    pub meta: Meta,
    pub trials: Vec<StoredTrial>,
}

impl Snapshot {
    pub fn read(dir: &Path) -> Result<Self> {
        let (conn, path) = open(dir)?;
        let mut meta = meta(&conn, &path)?;
        // Parameters that trials named while they ran count as the space's.
        let trials = trials(&conn, &path, &mut meta.space)?;
        Ok(Self { meta, trials })
    }
}

/// All reports of one trial, by iteration.
pub(crate) fn history(dir: &Path, trial: TrialId) -> Result<Vec<Report>> {
    let (conn, path) = open(dir)?;
    let read = || -> rusqlite::Result<Vec<Report>> {
        let sql =
            "SELECT iteration, seconds, metrics FROM air_reports WHERE trial_id = ?1 ORDER BY iteration";
        conn.prepare(sql)?
            .query_map([row(trial)], |row| {
                Ok(Report { iteration: row.get(0)?, seconds: row.get(1)?, values: json(row, 2)? })
            })?
            .collect()
    };
    read().map_err(at(&path))
}

fn open(dir: &Path) -> Result<(Connection, std::path::PathBuf)> {
    let path = dir.join(STUDY_FILE);
    if !path.exists() {
        return Err(TuneError::NoStudy { path: dir.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).map_err(at(&path))?;
    conn.busy_timeout(std::time::Duration::from_secs(30)).map_err(at(&path))?;
    Ok((conn, path))
}

/// Checks the versions and reads what the experiment is.
pub(super) fn meta(conn: &Connection, path: &Path) -> Result<Meta> {
    let damaged = |reason: String| TuneError::Damaged { path: path.to_owned(), reason };
    let exists = |table: &str| -> Result<bool> {
        conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)", [table], |r| r.get(0))
            .map_err(at(path))
    };
    if !exists("air_meta")? {
        return Err(damaged("it was not made by air-tune (no table air_meta)".into()));
    }
    let get = |key: &str| -> Result<Option<String>> {
        conn.query_row("SELECT value FROM air_meta WHERE \"key\" = ?1", [key], |r| r.get(0))
            .optional()
            .map_err(at(path))
    };
    let check = |what, found: String, supported: &str| {
        if found == supported {
            return Ok(());
        }
        Err(TuneError::Version { path: path.to_owned(), what, found, supported: supported.to_owned() })
    };
    check("version", get("version")?.unwrap_or_default(), VERSION)?;
    let schema: i64 =
        conn.query_row("SELECT schema_version FROM version_info", [], |r| r.get(0)).map_err(at(path))?;
    check("Optuna schema", schema.to_string(), &OPTUNA_VERSION.to_string())?;
    let revision: String =
        conn.query_row("SELECT version_num FROM alembic_version", [], |r| r.get(0)).map_err(at(path))?;
    check("Optuna revision", revision, OPTUNA_REVISION)?;
    let text = get("experiment")?.ok_or_else(|| damaged("no description of the experiment".into()))?;
    serde_json::from_str(&text).map_err(|error| damaged(format!("description of the experiment: {error}")))
}

const TRIAL: &str = "SELECT t.trial_id, t.attempts, t.assignment, t.status, t.value, t.iterations, t.seconds, t.stop, t.cause, \
                     t.started_seq, t.ended_seq FROM air_trials t";

fn trials(conn: &Connection, path: &Path, space: &mut Space) -> Result<Vec<StoredTrial>> {
    let mut later: HashMap<TrialId, Vec<Detail>> = HashMap::new();
    for (trial, detail) in events(conn, path)? {
        later.entry(trial).or_default().push(detail);
    }
    let mut read = || -> rusqlite::Result<Vec<StoredTrial>> {
        let mut last = conn.prepare(
            "SELECT metrics, iteration, seconds FROM air_reports WHERE trial_id = ?1 ORDER BY iteration DESC LIMIT 1",
        )?;
        conn.prepare(&format!("{TRIAL} ORDER BY t.trial_id"))?
            .query_map([], stored)?
            .map(|trial| {
                let mut trial = trial?;
                for detail in later.remove(&trial.trial).into_iter().flatten() {
                    match detail {
                        Detail::Changed(changed) => trial.assignment = changed.assignment,
                        Detail::Suggested { path, domain, value } => {
                            space.push(&path, &domain);
                            trial.assignment.push(path, value);
                        }
                        Detail::Exhausted => {}
                    }
                }
                let found = last
                    .query_row([row(trial.trial)], |r| {
                        Ok((json::<Values>(r, 0)?, r.get::<_, u64>(1)?, r.get::<_, f64>(2)?))
                    })
                    .optional()?;
                if let Some((values, iteration, seconds)) = found {
                    trial.last = values;
                    if !trial.end.status.is_over() {
                        trial.end.iterations = iteration;
                        trial.end.seconds = seconds;
                    }
                }
                Ok(trial)
            })
            .collect()
    };
    read().map_err(at(path))
}

/// What happened to trials besides starts, reports and ends, in order.
fn events(conn: &Connection, path: &Path) -> Result<Vec<(TrialId, Detail)>> {
    let read = || -> rusqlite::Result<Vec<(TrialId, Detail)>> {
        // A store made by a version before there were any has no such table.
        let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'air_events')";
        if !conn.query_row(exists, [], |r| r.get::<_, bool>(0))? {
            return Ok(Vec::new());
        }
        conn.prepare("SELECT trial_id, detail FROM air_events WHERE trial_id IS NOT NULL ORDER BY seq")?
            .query_map([], |r| Ok((r.get::<_, u64>(0)?.saturating_sub(1), json(r, 1)?)))?
            .collect()
    };
    read().map_err(at(path))
}

/// What trials were given at first, and what they went on as, in the order it happened.
pub(crate) struct Lineage {
    pub first: Vec<Assignment>,
    pub changes: Vec<(TrialId, Changed)>,
}

impl Lineage {
    pub fn read(dir: &Path) -> Result<Self> {
        let (conn, path) = open(dir)?;
        meta(&conn, &path)?;
        let first = || -> rusqlite::Result<Vec<Assignment>> {
            conn.prepare("SELECT assignment FROM air_trials ORDER BY trial_id")?
                .query_map([], |r| json(r, 0))?
                .collect()
        };
        let changes = events(&conn, &path)?.into_iter().filter_map(|(trial, detail)| match detail {
            Detail::Changed(changed) => Some((trial, changed)),
            Detail::Suggested { .. } | Detail::Exhausted => None,
        });
        Ok(Self { first: first().map_err(at(&path))?, changes: changes.collect() })
    }

    /// What a trial that has `iterations` behind it was given, and for how long, over all it was cloned from; `upto` changes count.
    pub fn segments(&self, trial: TrialId, iterations: u64, upto: usize) -> Vec<Segment> {
        let changes = &self.changes[..upto.min(self.changes.len())];
        let last = changes.iter().enumerate().rev().find(|(_, (changed, _))| *changed == trial);
        let (mut segments, start, assignment) = match last {
            Some((at, (_, changed))) => (
                self.segments(changed.origin.donor, changed.origin.donor_iterations, at),
                changed.iteration,
                Some(&changed.assignment),
            ),
            None => (Vec::new(), 0, self.first.get(trial as usize)),
        };
        if let Some(assignment) = assignment.filter(|_| iterations > start) {
            segments.push(Segment { iterations: iterations - start, assignment: assignment.clone() });
        }
        segments
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredTrial> {
    let status: String = row.get(3)?;
    let status = match status.as_str() {
        "complete" => Status::Complete,
        "stopped" => Status::Stopped,
        "failed" => Status::Failed,
        "running" => Status::Running,
        _ => Status::Waiting,
    };
    let value: Option<serde_json::Value> = optional(row, 4)?;
    Ok(StoredTrial {
        trial: row.get::<_, u64>(0)?.saturating_sub(1),
        attempts: row.get(1)?,
        assignment: json(row, 2)?,
        end: End {
            status,
            value: value.as_ref().and_then(from_json),
            iterations: row.get(5)?,
            seconds: row.get(6)?,
            stop: optional(row, 7)?,
            cause: optional(row, 8)?,
        },
        last: Values::default(),
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn optional<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => json(row, column).map(Some),
    }
}

impl Store {
    /// Lives through the past in the order it happened; returns the last `seq`.
    pub fn replay(&self, metric: &str, mut each: impl FnMut(Replay) -> Result<(), String>) -> Result<u64> {
        let failed = |reason: String| TuneError::Damaged { path: self.path.clone(), reason };
        let sql = "SELECT started_seq AS seq, 0 AS kind, trial_id, NULL, NULL, NULL FROM air_trials \
                   UNION ALL SELECT seq, 1, trial_id, iteration, seconds, metrics FROM air_reports \
                   UNION ALL SELECT seq, 3, trial_id, NULL, NULL, detail FROM air_events \
                   UNION ALL SELECT ended_seq, 2, trial_id, NULL, NULL, NULL FROM air_trials WHERE ended_seq IS NOT NULL \
                   ORDER BY seq";
        let mut trial_row =
            self.conn.prepare(&format!("{TRIAL} WHERE t.trial_id = ?1")).map_err(at(&self.path))?;
        let mut past = self.conn.prepare(sql).map_err(at(&self.path))?;
        let mut rows = past.query([]).map_err(at(&self.path))?;
        let mut seq = 0;
        while let Some(event) = rows.next().map_err(at(&self.path))? {
            let mut read = || -> rusqlite::Result<Replay> {
                seq = event.get(0)?;
                let id: u64 = event.get::<_, Option<u64>>(2)?.unwrap_or_default();
                let trial = id.saturating_sub(1);
                Ok(match event.get::<_, u8>(1)? {
                    3 => match optional::<Detail>(event, 5)? {
                        Some(Detail::Changed(changed)) => Replay::Changed { trial, origin: changed.origin },
                        Some(Detail::Suggested { path, domain, value }) => {
                            Replay::Suggested { trial, path, domain, value }
                        }
                        Some(Detail::Exhausted) => Replay::Exhausted,
                        None => Replay::Idle,
                    },
                    1 => {
                        let values: Values = json(event, 5)?;
                        let (iteration, seconds) = (event.get(3)?, event.get(4)?);
                        Replay::Reported { trial, iteration, value: values.get(metric), values, seconds }
                    }
                    0 => {
                        let stored = trial_row.query_row([id], stored)?;
                        Replay::Started { trial, attempts: stored.attempts, assignment: stored.assignment }
                    }
                    _ => Replay::Ended { trial, end: trial_row.query_row([id], stored)?.end },
                })
            };
            let event = read().map_err(at(&self.path))?;
            each(event).map_err(failed)?;
        }
        Ok(seq)
    }
}
