//! Trials as runs of an MLflow server, over its REST API (2.0).
//!
//! Nothing here holds up a trial, nor the thread that stores: what happened goes into an [`Outbox`], and a thread of its own sends that, many numbers to a request. While the server does not answer
//! it is asked again, less and less often; what the outbox then has no room for, and what is left when the experiment ends, is counted and named in a warning. Which run is which trial is kept
//! in `mlflow.jsonl`, so that a resumed experiment goes on with its runs.

mod outbox;
mod send;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use air_core::BoxError;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::{Callback, Event};
use crate::TrialId;
use crate::error::{Result, TuneError};
use outbox::{Outbox, Unsent};

/// Where an experiment's trials are shown as runs, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowConfig {
    /// Address of the server: `http://HOST:PORT`.
    pub uri: String,
    /// Name of the experiment on the server, which is made if there is none; the study's name, if this is empty.
    pub experiment: String,
    /// Most numbers that wait to be sent.
    pub queue: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long the end of the experiment waits for what is left.
    pub patience: Duration,
}

impl Default for MlflowConfig {
    fn default() -> Self {
        Self {
            uri: "http://127.0.0.1:5000".into(),
            experiment: String::new(),
            queue: 100_000,
            timeout: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        }
    }
}

impl MlflowConfig {
    /// A server's address; everything else as it is by default.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(TuneError::config(field, reason));
        let host = self.uri.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        if host.is_none_or(|host| host.is_empty() || host.contains(char::is_whitespace)) {
            return bad("mlflow.uri", format!("`{}` is no address: expected http://HOST:PORT", self.uri));
        }
        if self.queue == 0 {
            return bad("mlflow.queue", "must be at least 1".into());
        }
        if self.timeout.is_zero() {
            return bad("mlflow.timeout", "must be more than nothing".into());
        }
        Ok(())
    }
}

/// Shows an experiment's trials as runs of an MLflow server. [`LogConfig::mlflow`](super::LogConfig::mlflow) makes one; as a callback of one's own it serves
/// experiments without a folder.
pub struct Mlflow {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<()>>,
    config: MlflowConfig,
}

/// What callback and sender share.
struct Shared {
    outbox: Mutex<State>,
    changed: Condvar,
}

struct State {
    outbox: Outbox,
    /// The experiment is over; the sender ends when everything is sent.
    over: bool,
    /// The sender is to end now.
    cut: bool,
    /// The sender has ended.
    done: bool,
    /// What last went wrong.
    error: Option<String>,
}

impl Mlflow {
    /// Starts the thread that sends. `name` is the experiment's where the configuration has none; `dir` is where it is kept which run is which trial.
    ///
    /// # Errors
    /// As [`MlflowConfig::validate`]; [`TuneError::Io`] if what an earlier process kept cannot be read, or no thread can be started.
    pub fn start(config: MlflowConfig, name: &str, dir: Option<&Path>) -> Result<Self> {
        config.validate()?;
        let name = if config.experiment.is_empty() { name } else { &config.experiment };
        let book = dir.map(|dir| dir.join("mlflow.jsonl"));
        let known = book.as_deref().map(read_book).transpose()?.unwrap_or_default();
        let outbox = Outbox::new(name, config.queue, known);
        let state = State { outbox, over: false, cut: false, done: false, error: None };
        let shared = Arc::new(Shared { outbox: Mutex::new(state), changed: Condvar::new() });
        let sender = send::Sender::new(Arc::clone(&shared), &config, book);
        let sender = std::thread::Builder::new()
            .name("air-tune-mlflow".into())
            .spawn(move || sender.run())
            .map_err(TuneError::io("thread air-tune-mlflow"))?;
        Ok(Self { shared, sender: Some(sender), config })
    }

    /// Waits until everything is sent, or no more patience is left; says what the server lacks then.
    fn conclude(&mut self) -> Option<String> {
        let sender = self.sender.take()?;
        let mut state = self.shared.outbox.lock();
        state.over = true;
        self.shared.changed.notify_all();
        let waited =
            self.shared.changed.wait_while_for(&mut state, |state| !state.done, self.config.patience);
        state.cut = true;
        let (unsent, error) = (state.outbox.unsent(), state.error.clone());
        drop(state);
        self.shared.changed.notify_all();
        // A request that is under way ends by itself, within its time limit; nobody waits for it.
        if !waited.timed_out() {
            let _ = sender.join();
        }
        (unsent != Unsent::default()).then(|| {
            format!(
                "MLflow at {} lacks {} metrics, {} parameters and the begin or the end of {} runs: {}",
                self.config.uri,
                unsent.metrics,
                unsent.params,
                unsent.runs,
                error.as_deref().unwrap_or("there was no time or no room for them")
            )
        })
    }
}

impl Callback for Mlflow {
    fn name(&self) -> &'static str {
        "the MLflow log"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut state = self.shared.outbox.lock();
        for event in events {
            state.outbox.take(event, now);
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(lacks) = self.conclude() {
            tracing::warn!("{lacks}");
        }
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        self.shared.outbox.lock().cut = true;
        self.shared.changed.notify_all();
    }
}

/// Which run is which trial.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    trial: TrialId,
    run_id: String,
}

/// What an earlier process kept; a line torn by a crash counts for nothing.
fn read_book(path: &Path) -> Result<BTreeMap<TrialId, String>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(TuneError::io(path))?,
    };
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    Ok(entries.map(|entry| (entry.trial, entry.run_id)).collect())
}

#[cfg(test)]
mod tests;
