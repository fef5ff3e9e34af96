//! One SQLite database an experiment, in Optuna's schema, and nothing acknowledged is ever lost.
//!
//! `study.db` is in WAL mode with `synchronous=NORMAL`: a commit survives the death of the process at any instant. One
//! thread writes, many records to a commit; anyone may read meanwhile. `study.lock` keeps a second process from running
//! the same experiment.

mod optuna;
mod read;
pub(crate) mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};

use crate::TrialId;
use crate::controller::{Origin, Record, Status};
use crate::error::{Result, TuneError};
use crate::search::Mode;
use crate::space::{Assignment, Domain, Space};
use crate::tuner::{RunConfig, TuneConfig};
use crate::values::to_json;

pub use read::Report;
pub(crate) use read::{Lineage, Snapshot, history};

/// The database's name in an experiment's folder.
pub const STUDY_FILE: &str = "study.db";
const LOCK_FILE: &str = "study.lock";
/// Version of our own tables.
const VERSION: &str = "1";
const OPTUNA_VERSION: i64 = 12;
const OPTUNA_REVISION: &str = "v3.2.0.a";
const PUT_PARAM: &str =
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?1, ?2, ?3, ?4)";

/// What an experiment is, stored with it so that it can be resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub space: Space,
    pub tune: TuneConfig,
    pub run: RunConfig,
    /// The command each trial runs, if it is one.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Whether searcher or scheduler were given as values, which a resumption must give again.
    #[serde(default)]
    pub custom_searcher: bool,
    #[serde(default)]
    pub custom_scheduler: bool,
    #[serde(default)]
    pub custom_stopper: bool,
}

/// What is stored of an event that is neither a start, a report nor an end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Detail {
    /// A trial goes on as a clone.
    Changed(Changed),
    /// A trial named a parameter.
    Suggested { path: String, domain: Domain, value: serde_json::Value },
    /// No new trial will start.
    Exhausted,
}

/// A trial goes on as a clone, as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub iteration: u64,
    pub origin: Origin,
    pub assignment: Assignment,
}

/// The open database of a running experiment, and its lock.
pub(crate) struct Store {
    conn: Connection,
    path: PathBuf,
    space: Space,
    distributions: Vec<String>,
    /// Names of the further objectives.
    also: Vec<String>,
    /// Wall-clock time of the experiment's time zero.
    origin: f64,
    _lock: File,
}

impl Store {
    /// Creates the experiment in `dir`.
    pub fn create(dir: &Path, meta: &Meta) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(TuneError::io(dir))?;
        let lock = lock(dir)?;
        let path = dir.join(STUDY_FILE);
        let half_made = path.exists() && !is_initialised(&path)?;
        if path.exists() && !half_made {
            return Err(TuneError::StudyExists { path: dir.to_owned() });
        }
        let conn = Connection::open(&path).map_err(at(&path))?;
        let store = Self::with(conn, path, lock, meta)?;
        store.initialise(meta).map_err(at(&store.path))?;
        Ok(store)
    }

    /// Opens the experiment in `dir` to go on with it.
    pub fn open(dir: &Path) -> Result<(Self, Meta)> {
        let path = dir.join(STUDY_FILE);
        if !path.exists() {
            return Err(TuneError::NoStudy { path: dir.to_owned() });
        }
        let lock = lock(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&path, flags).map_err(at(&path))?;
        let meta = read::meta(&conn, &path)?;
        // Made by a version before there was any.
        let events =
            "CREATE TABLE IF NOT EXISTS air_events (seq INTEGER PRIMARY KEY, trial_id INTEGER, detail TEXT)";
        conn.execute(events, []).map_err(at(&path))?;
        let store = Self::with(conn, path, lock, &meta)?;
        Ok((store, meta))
    }

    fn with(conn: Connection, path: PathBuf, lock: File, meta: &Meta) -> Result<Self> {
        let space = &meta.space;
        let setup = || {
            conn.busy_timeout(Duration::from_secs(30))?;
            conn.pragma_update(None, "journal_mode", "wal")?;
            conn.pragma_update(None, "synchronous", "normal")?;
            conn.set_prepared_statement_cache_capacity(32);
            Ok(())
        };
        setup().map_err(at(&path))?;
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let distributions = space.params().iter().map(|param| optuna::distribution(&param.domain)).collect();
        let also = meta.tune.also.iter().map(|objective| objective.metric.clone()).collect();
        Ok(Self { conn, path, space: space.clone(), distributions, also, origin, _lock: lock })
    }

    fn initialise(&self, meta: &Meta) -> rusqlite::Result<()> {
        let direction = |mode| match mode {
            Mode::Min => "MINIMIZE",
            Mode::Max => "MAXIMIZE",
        };
        let objectives = meta.tune.objectives();
        let names: Vec<&str> = objectives.iter().map(|objective| objective.metric.as_str()).collect();
        let text =
            serde_json::to_string(meta).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        let tx = self.conn.unchecked_transaction()?;
        tx.execute_batch(include_str!("schema.sql"))?;
        tx.execute("INSERT INTO studies VALUES (1, ?1)", [&meta.run.name])?;
        for (at, objective) in objectives.iter().enumerate() {
            tx.execute(
                "INSERT INTO study_directions (direction, study_id, objective) VALUES (?1, 1, ?2)",
                params![direction(objective.mode), at],
            )?;
        }
        tx.execute(
            "INSERT INTO study_system_attributes VALUES (1, 1, 'study:metric_names', ?1)",
            [serde_json::json!(names).to_string()],
        )?;
        tx.execute("INSERT INTO air_meta VALUES ('version', ?1), ('experiment', ?2)", [VERSION, &text])?;
        tx.commit()
    }

    /// Writes the records in one commit. When this returns they survive the death of the process.
    pub fn apply(&mut self, records: &[Record]) -> Result<()> {
        self.try_apply(records).map_err(at(&self.path))
    }

    fn try_apply(&mut self, records: &[Record]) -> rusqlite::Result<()> {
        let tx = self.conn.unchecked_transaction()?;
        for record in records {
            self.put(record)?;
        }
        tx.commit()
    }

    fn put(&self, record: &Record) -> rusqlite::Result<()> {
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| self.conn.prepare_cached(sql)?.execute(values);
        match record {
            Record::Started { seq, trial, attempt: 1, assignment, at } => {
                let id = row(*trial);
                run(
                    "INSERT INTO trials VALUES (?1, ?2, 1, 'RUNNING', \
                     strftime('%Y-%m-%d %H:%M:%f', ?3, 'unixepoch') || '000', NULL)",
                    params![id, trial, self.wall(*at)],
                )?;
                self.put_params(id, assignment)?;
                run(
                    "INSERT INTO air_trials VALUES (?1, ?2, NULL, 1, ?3, 'running', NULL, 0, 0, NULL, NULL)",
                    params![id, seq, json(assignment)],
                )?;
            }
            Record::Started { trial, attempt, .. } => {
                let id = row(*trial);
                run("UPDATE trials SET state = 'RUNNING' WHERE trial_id = ?1", params![id])?;
                run(
                    "UPDATE air_trials SET attempts = ?2, status = 'running' WHERE trial_id = ?1",
                    params![id, attempt],
                )?;
            }
            Record::Reported { seq, trial, iteration, value, values, seconds, .. } => {
                let id = row(*trial);
                if let Some(value) = value {
                    let (value, kind) = optuna::stored(*value);
                    run(
                        "INSERT INTO trial_intermediate_values \
                         (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?1, ?2, ?3, ?4) \
                         ON CONFLICT (trial_id, step) DO UPDATE SET \
                         intermediate_value = excluded.intermediate_value, intermediate_value_type = excluded.intermediate_value_type",
                        params![id, iteration, value, kind],
                    )?;
                }
                // A trial that runs again repeats itself; the first arrival keeps its place in the order.
                run(
                    "INSERT INTO air_reports VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (trial_id, iteration) DO UPDATE SET \
                     seconds = excluded.seconds, metrics = excluded.metrics",
                    params![seq, id, iteration, seconds, json(values)],
                )?;
            }
            Record::Requeued { trial, cause } => {
                let id = row(*trial);
                run("UPDATE trials SET state = 'WAITING' WHERE trial_id = ?1", params![id])?;
                run(
                    "UPDATE air_trials SET status = 'waiting', cause = ?2 WHERE trial_id = ?1",
                    params![id, json(cause)],
                )?;
            }
            Record::Paused { trial } => {
                let id = row(*trial);
                run("UPDATE trials SET state = 'WAITING' WHERE trial_id = ?1", params![id])?;
                run("UPDATE air_trials SET status = 'waiting' WHERE trial_id = ?1", params![id])?;
            }
            Record::Changed { seq, trial, iteration, origin, assignment } => {
                let id = row(*trial);
                let (origin, assignment) = (origin.clone(), assignment);
                let changed = Changed { iteration: *iteration, origin, assignment: assignment.clone() };
                let detail = Detail::Changed(changed);
                run("INSERT INTO air_events VALUES (?1, ?2, ?3)", params![seq, id, json(&detail)])?;
                run("DELETE FROM trial_params WHERE trial_id = ?1", params![id])?;
                self.put_params(id, assignment)?;
            }
            Record::Suggested { seq, trial, path, domain, value } => {
                let id = row(*trial);
                let detail =
                    Detail::Suggested { path: path.clone(), domain: domain.clone(), value: value.clone() };
                run("INSERT INTO air_events VALUES (?1, ?2, ?3)", params![seq, id, json(&detail)])?;
                let (distribution, internal) =
                    (optuna::distribution(domain), optuna::internal(domain, value));
                run(PUT_PARAM, params![id, path, internal, distribution])?;
            }
            Record::Idle { seq } => {
                run("INSERT INTO air_events VALUES (?1, NULL, NULL)", params![seq])?;
            }
            Record::Exhausted { seq } => {
                run("INSERT INTO air_events VALUES (?1, NULL, ?2)", params![seq, json(&Detail::Exhausted)])?;
            }
            Record::Ended { seq, trial, end, at, last, .. } => {
                let id = row(*trial);
                let state = match end.status {
                    Status::Complete => "COMPLETE",
                    Status::Stopped => "PRUNED",
                    _ => "FAIL",
                };
                run(
                    "UPDATE trials SET state = ?2, \
                     datetime_complete = strftime('%Y-%m-%d %H:%M:%f', ?3, 'unixepoch') || '000' WHERE trial_id = ?1",
                    params![id, state, self.wall(*at)],
                )?;
                if let Some(value) = end.value.filter(|value| !value.is_nan() && end.status != Status::Failed)
                {
                    let also = self.also.iter().map(|name| last.get(name));
                    // Optuna takes all values of a trial, or none.
                    let values: Option<Vec<f64>> = std::iter::once(Some(value)).chain(also).collect();
                    for (at, value) in values.unwrap_or_default().into_iter().enumerate() {
                        let (value, kind) = optuna::stored(value);
                        run(
                            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?1, ?2, ?3, ?4)",
                            params![id, at, value, kind],
                        )?;
                    }
                }
                if let Some(cause) = &end.cause {
                    run(
                        "INSERT INTO trial_user_attributes (trial_id, \"key\", value_json) VALUES (?1, 'cause', ?2)",
                        params![id, serde_json::Value::String(cause.to_string()).to_string()],
                    )?;
                }
                run(
                    "UPDATE air_trials SET ended_seq = ?2, status = ?3, value = ?4, iterations = ?5, seconds = ?6, stop = ?7, \
                     cause = ?8 WHERE trial_id = ?1",
                    params![
                        id,
                        seq,
                        end.status.as_str(),
                        end.value.map(|value| to_json(value).to_string()),
                        end.iterations,
                        end.seconds,
                        end.stop.as_ref().map(json),
                        end.cause.as_ref().map(json),
                    ],
                )?;
            }
        }
        Ok(())
    }

    fn put_params(&self, id: u64, assignment: &Assignment) -> rusqlite::Result<()> {
        let mut insert = self.conn.prepare_cached(PUT_PARAM)?;
        for (param, distribution) in self.space.params().iter().zip(&self.distributions) {
            if let Some(value) = assignment.get(&param.path) {
                let internal = optuna::internal(&param.domain, value);
                insert.execute(params![id, param.path, internal, distribution])?;
            }
        }
        Ok(())
    }

    fn wall(&self, at: Duration) -> f64 {
        self.origin + at.as_secs_f64()
    }
}

/// Optuna counts rows from 1.
fn row(trial: TrialId) -> u64 {
    trial + 1
}

fn at(path: &Path) -> impl FnOnce(rusqlite::Error) -> TuneError {
    let path = path.to_owned();
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => TuneError::Full { path, source },
        _ => TuneError::Storage { path, source },
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_FILE);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(TuneError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TuneError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(TuneError::Io { path, source }),
    }
}

/// Whether the file holds any table: a process killed while creating it leaves none.
fn is_initialised(path: &Path) -> Result<bool> {
    let conn = Connection::open(path).map_err(at(path))?;
    conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_master)", [], |row| row.get(0)).map_err(at(path))
}

/// A value as JSON text; what this crate stores always has one.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
