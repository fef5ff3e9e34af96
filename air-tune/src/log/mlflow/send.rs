//! The thread that sends what is in the outbox.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::outbox::{Answer, Call};
use super::{Entry, MlflowConfig, Shared};
use crate::log::csv::append;

/// The first and the longest wait after a request that came to nothing.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

pub(super) struct Sender {
    shared: Arc<Shared>,
    agent: ureq::Agent,
    uri: String,
    book: Option<PathBuf>,
}

/// How long to wait after so many requests in a row that came to nothing.
pub(super) fn wait_after(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT)
}

impl Sender {
    pub fn new(shared: Arc<Shared>, config: &MlflowConfig, book: Option<PathBuf>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(config.timeout))
            .build()
            .into();
        Self { shared, agent, uri: config.uri.trim_end_matches('/').to_owned(), book }
    }

    /// Sends until the experiment is over and everything is sent, or it is told to end.
    pub fn run(self) {
        let mut failures = 0;
        while let Some(call) = self.next_call() {
            match self.send(&call) {
                Ok(answer) => {
                    failures = 0;
                    self.keep(&call, &answer);
                    self.shared.outbox.lock().outbox.settle(&call, answer);
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!("MLflow at {}: {error}; it is asked again", self.uri);
                    }
                    self.pause(error, wait_after(failures));
                }
            }
        }
        self.shared.outbox.lock().done = true;
        self.shared.changed.notify_all();
    }

    /// The next request; waits while there is none. Nothing, when it is time to end.
    fn next_call(&self) -> Option<Call> {
        let mut state = self.shared.outbox.lock();
        loop {
            if state.cut {
                return None;
            }
            match state.outbox.next() {
                Some(call) => return Some(call),
                None if state.over => return None,
                None => self.shared.changed.wait(&mut state),
            }
        }
    }

    /// Waits after a failure, but not for longer than anybody waits for the rest.
    fn pause(&self, error: String, wait: Duration) {
        let mut state = self.shared.outbox.lock();
        state.error = Some(error);
        self.shared.changed.wait_while_for(&mut state, |state| !state.cut, wait);
    }

    /// An error is worth trying again.
    fn send(&self, call: &Call) -> Result<Answer, String> {
        let (method, path, body) = match call {
            Call::FindExperiment { name } => {
                let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
                ("GET", format!("experiments/get-by-name?experiment_name={name}"), Value::Null)
            }
            Call::CreateExperiment { name } => ("POST", "experiments/create".into(), json!({"name": name})),
            Call::CreateRun { body, .. } => ("POST", "runs/create".into(), body.clone()),
            Call::LogBatch { body, .. } => ("POST", "runs/log-batch".into(), body.clone()),
            Call::Reopen { body, .. } | Call::EndRun { body, .. } => {
                ("POST", "runs/update".into(), body.clone())
            }
        };
        let url = format!("{}/api/2.0/mlflow/{path}", self.uri);
        let request = ureq::http::Request::builder().method(method).uri(&url);
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            request.header("content-type", "application/json").body(bytes).map_err(|e| e.to_string())?;
        let mut response = self.agent.run(request).map_err(|error| error.to_string())?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(|e| e.to_string())?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            if !answer.is_object() {
                return Err(format!("{url} answers what is no JSON object"));
            }
            let experiment = &answer["experiment"];
            if experiment["lifecycle_stage"] == "deleted" {
                return Err(format!(
                    "experiment {} is deleted there: restore it, or name another",
                    experiment["name"]
                ));
            }
            let id =
                [&experiment["experiment_id"], &answer["experiment_id"], &answer["run"]["info"]["run_id"]];
            return Ok(Answer::Done(id.into_iter().find_map(Value::as_str).map(str::to_owned)));
        }
        let code = answer["error_code"].as_str().unwrap_or_default();
        if code == "RESOURCE_DOES_NOT_EXIST" && matches!(call, Call::FindExperiment { .. }) {
            return Ok(Answer::Missing);
        }
        let mut said = answer["message"].as_str().unwrap_or(&text).to_owned();
        said.truncate(said.char_indices().nth(300).map_or(said.len(), |(at, _)| at));
        let said = format!("{path} answers {status}: {said}");
        // Nothing can be sent without an experiment, and another answer may come yet.
        let again = status.is_server_error()
            || [408, 425, 429].contains(&status.as_u16())
            || matches!(call, Call::FindExperiment { .. })
            || (matches!(call, Call::CreateExperiment { .. }) && code != "RESOURCE_ALREADY_EXISTS");
        if again {
            return Err(said);
        }
        tracing::warn!("MLflow at {}: {said}", self.uri);
        self.shared.outbox.lock().error = Some(said);
        Ok(Answer::Refused)
    }

    /// Keeps which run is which trial.
    fn keep(&self, call: &Call, answer: &Answer) {
        let (Call::CreateRun { trial, .. }, Answer::Done(Some(run_id)), Some(book)) =
            (call, answer, &self.book)
        else {
            return;
        };
        let mut line =
            serde_json::to_string(&Entry { trial: *trial, run_id: run_id.clone() }).unwrap_or_default();
        line.push('\n');
        if let Err(error) = append(book, line.as_bytes()) {
            tracing::warn!("{}", crate::error::chain(&error));
        }
    }
}
