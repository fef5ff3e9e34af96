//! How a deployment is run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::batch::Policy;
use crate::error::ServeError;

/// Where a model is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// In place while its calls take less than about 50 µs and it is not batched, on replica threads otherwise.
    #[default]
    Auto,
    /// On the caller's own thread. Only for models that never block; not with batching.
    Inline,
    /// On replica threads.
    Thread,
}

/// How a deployment is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeploymentConfig {
    /// Replicas: models built, and calls that can run at a time (default 1).
    pub num_replicas: usize,
    /// Most requests in one call of the model (default 1: no batching).
    pub max_batch_size: usize,
    /// How long the oldest request may wait for company, in seconds (default 0: an idle replica takes what there is).
    pub batch_wait_timeout_s: f64,
    /// Requests that may wait; one more is refused with 503 (default 1000).
    pub max_queued_requests: usize,
    /// How long a caller waits for its answer, in seconds (default 30).
    pub request_timeout_s: f64,
    /// Where the model is called.
    pub execution: Execution,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        DeploymentConfig {
            num_replicas: 1,
            max_batch_size: 1,
            batch_wait_timeout_s: 0.0,
            max_queued_requests: 1000,
            request_timeout_s: 30.0,
            execution: Execution::Auto,
        }
    }
}

impl DeploymentConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        let within = |name: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(ServeError::config(format!("{name} is {value}, it must be 1 to {most}")))
            }
        };
        within("num_replicas", self.num_replicas, 1024)?;
        within("max_batch_size", self.max_batch_size, 1 << 16)?;
        within("max_queued_requests", self.max_queued_requests, 1 << 20)?;
        if !(0.0..=60.0).contains(&self.batch_wait_timeout_s) {
            return Err(ServeError::config(format!(
                "batch_wait_timeout_s is {}, it must be 0 to 60",
                self.batch_wait_timeout_s
            )));
        }
        if !(self.request_timeout_s > 0.0 && self.request_timeout_s <= 86_400.0) {
            return Err(ServeError::config(format!(
                "request_timeout_s is {}, it must be above 0 and at most 86400",
                self.request_timeout_s
            )));
        }
        if self.execution == Execution::Inline && self.batches() {
            return Err(ServeError::config(
                "inline execution cannot batch: leave max_batch_size at 1, or use threads",
            ));
        }
        Ok(())
    }

    /// Whether requests are collected into batches.
    pub(crate) fn batches(&self) -> bool {
        self.max_batch_size > 1
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.request_timeout_s)
    }

    pub(crate) fn policy(&self) -> Policy {
        // A single request needs no company.
        let window =
            if self.batches() { Duration::from_secs_f64(self.batch_wait_timeout_s) } else { Duration::ZERO };
        Policy { max_batch_size: self.max_batch_size, window, capacity: self.max_queued_requests }
    }
}
