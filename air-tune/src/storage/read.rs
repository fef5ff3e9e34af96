//! Reading a study back: to resume it, or to look at it while another process runs it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::{Meta, OPTUNA_REVISION, OPTUNA_VERSION, STUDY_FILE, Store, VERSION, at, row};
use crate::TrialId;
use crate::controller::{End, Replay, Status};
use crate::error::{Result, TuneError};
use crate::space::Assignment;
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
        let meta = meta(&conn, &path)?;
        let trials = trials(&conn, &path)?;
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

fn trials(conn: &Connection, path: &Path) -> Result<Vec<StoredTrial>> {
    let read = || -> rusqlite::Result<Vec<StoredTrial>> {
        let mut last = conn.prepare(
            "SELECT metrics, iteration, seconds FROM air_reports WHERE trial_id = ?1 ORDER BY iteration DESC LIMIT 1",
        )?;
        conn.prepare(&format!("{TRIAL} ORDER BY t.trial_id"))?
            .query_map([], stored)?
            .map(|trial| {
                let mut trial = trial?;
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
                let id: u64 = event.get(2)?;
                let trial = id.saturating_sub(1);
                Ok(match event.get::<_, u8>(1)? {
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
