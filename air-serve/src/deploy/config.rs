//! How a deployment is run.

use std::time::Duration;

use air_core::resource::Resources;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::autoscale::AutoscalingConfig;
use super::batch::Policy;
use super::fleet::Limits;
use crate::error::ServeError;

/// Most replicas of a deployment; each is a thread.
pub(crate) const MOST_REPLICAS: usize = 1024;

/// A call that takes longer than this many seconds, and longer than a request may, does not return.
const HUNG_S: f64 = 30.0;

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
    /// Side by side on each replica's thread; only for [async models](crate::AsyncModel), which with `auto` are called so anyway.
    Async,
}

/// How a deployment is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeploymentConfig {
    /// Replicas: models built, and calls that can run at a time (default 1). 0, or `"auto"` in a file, is as many as the load needs, which
    /// [`autoscaling_config`](Self::autoscaling_config) says more precisely.
    #[serde(deserialize_with = "number_or_auto")]
    pub num_replicas: usize,
    /// Lets the number of replicas follow the load (default: it stays as it is).
    pub autoscaling_config: Option<AutoscalingConfig>,
    /// Most requests in one call of the model (default 1: no batching; 32 for one that [generates](crate::Deployment::generate), which works
    /// on so many at a time).
    pub max_batch_size: usize,
    /// How long the oldest request may wait for company, in seconds (default 0: an idle replica takes what there is).
    pub batch_wait_timeout_s: f64,
    /// Requests that may wait; one more is refused with 503 (default 1000).
    pub max_queued_requests: usize,
    /// Requests that a replica of an [async model](crate::AsyncModel) answers side by side (default 100).
    pub max_ongoing_requests: usize,
    /// Priorities that requests may have, from 1, which goes first (default 0: all are equal, whatever they ask for).
    pub priority_levels: u8,
    /// The priority of a request that asks for none (default: the one in the middle).
    pub default_priority_level: Option<u8>,
    /// How long a request goes before those of the priority above that come after it, in seconds (default 5). So a request of priority n is
    /// overtaken only by those that come within n - 1 times as long.
    pub priority_aging_s: f64,
    /// Processors that each replica holds for its life, in shares too (default 0: it asks for none). A replica that finds too few free waits for
    /// them; what it then really uses is not limited.
    pub num_cpus: f64,
    /// GPUs that each replica holds for its life: a share of one, or whole ones (default 0). Its factory finds them by
    /// [`replica_devices`](crate::replica_devices).
    pub num_gpus: f64,
    /// How long a caller waits for its answer, in seconds (default 30).
    pub request_timeout_s: f64,
    /// Where the model is called.
    pub execution: Execution,
    /// Settings of the model itself, handed to its [`reconfigure`](crate::Model::reconfigure) when it is built and whenever they change.
    pub user_config: Option<Value>,
    /// How long a call of the model may take before the replica is given up and replaced, in seconds (default 30, or `request_timeout_s` if that
    /// is longer).
    pub health_check_timeout_s: Option<f64>,
    /// How long a replica may take to build its model, in seconds (default 600).
    pub startup_timeout_s: f64,
    /// How long a replica may take to finish what it has when it is to end, in seconds (default 20).
    pub graceful_shutdown_timeout_s: f64,
    /// Items of a stream that may wait for its reader; while so many do, its sequence is left out of steps (default 16).
    pub stream_buffer_items: usize,
    /// How long a stream that has begun may stand still, whether for its model or for its reader, in seconds (default 60). Until its first item
    /// it may take `request_timeout_s`, as any answer.
    pub stream_idle_timeout_s: f64,
    /// Failures of a new version's replicas that an update puts up with; one more and it is rolled back (default 2).
    pub max_constructor_retry_count: usize,
    /// Replicas there may be beyond the number wanted during an update, in per cent of it; at least one replica (default 25).
    pub max_surge_percent: f64,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        DeploymentConfig {
            num_replicas: 1,
            max_batch_size: 1,
            batch_wait_timeout_s: 0.0,
            max_queued_requests: 1000,
            max_ongoing_requests: 100,
            priority_levels: 0,
            default_priority_level: None,
            priority_aging_s: 5.0,
            num_cpus: 0.0,
            num_gpus: 0.0,
            request_timeout_s: 30.0,
            execution: Execution::Auto,
            autoscaling_config: None,
            user_config: None,
            health_check_timeout_s: None,
            startup_timeout_s: 600.0,
            graceful_shutdown_timeout_s: 20.0,
            stream_buffer_items: 16,
            stream_idle_timeout_s: 60.0,
            max_constructor_retry_count: 2,
            max_surge_percent: 25.0,
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
        if self.num_replicas > MOST_REPLICAS {
            let (replicas, most) = (self.num_replicas, MOST_REPLICAS);
            return Err(ServeError::config(format!(
                "num_replicas is {replicas}, it must be 1 to {most}, or 0 (\"auto\") to follow the load"
            )));
        }
        if self.num_replicas > 1 && self.autoscaling_config.is_some() {
            return Err(ServeError::config(format!(
                "num_replicas is {} and autoscaling_config is given: leave one of them out",
                self.num_replicas
            )));
        }
        self.autoscaling_config.as_ref().map_or(Ok(()), AutoscalingConfig::validate)?;
        within("max_batch_size", self.max_batch_size, 1 << 16)?;
        within("max_queued_requests", self.max_queued_requests, 1 << 20)?;
        within("stream_buffer_items", self.stream_buffer_items, 1 << 16)?;
        within("max_ongoing_requests", self.max_ongoing_requests, 1 << 16)?;
        if let Some(resources) = self.resources() {
            resources
                .validate()
                .map_err(|error| ServeError::config(format!("num_cpus, num_gpus: {error}")))?;
        }
        if let Some(level) = self.default_priority_level
            && !(1..=self.priority_levels).contains(&level)
        {
            return Err(ServeError::config(format!(
                "default_priority_level is {level}, it must be 1 to priority_levels, which is {}",
                self.priority_levels
            )));
        }
        if !(0.0..=3600.0).contains(&self.priority_aging_s) {
            return Err(ServeError::config(format!(
                "priority_aging_s is {}, it must be 0 to 3600",
                self.priority_aging_s
            )));
        }
        if !(0.0..=60.0).contains(&self.batch_wait_timeout_s) {
            return Err(ServeError::config(format!(
                "batch_wait_timeout_s is {}, it must be 0 to 60",
                self.batch_wait_timeout_s
            )));
        }
        for (name, seconds) in [
            ("request_timeout_s", self.request_timeout_s),
            ("health_check_timeout_s", self.health_check_timeout()),
            ("startup_timeout_s", self.startup_timeout_s),
            ("graceful_shutdown_timeout_s", self.graceful_shutdown_timeout_s),
            ("stream_idle_timeout_s", self.stream_idle_timeout_s),
        ] {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                return Err(ServeError::config(format!(
                    "{name} is {seconds}, it must be above 0 and at most 86400"
                )));
            }
        }
        if !(0.0..=100.0).contains(&self.max_surge_percent) {
            return Err(ServeError::config(format!(
                "max_surge_percent is {}, it must be 0 to 100",
                self.max_surge_percent
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

    pub(crate) fn stream_idle_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.stream_idle_timeout_s)
    }

    /// What each replica holds of the machine, if anything.
    pub(crate) fn resources(&self) -> Option<Resources> {
        let asks = self.num_cpus != 0.0 || self.num_gpus != 0.0;
        asks.then(|| Resources::new().cpu(self.num_cpus).gpu(self.num_gpus))
    }

    /// How much later than it does a request of this priority counts as having come.
    pub(crate) fn delay_of(&self, priority: u8) -> Duration {
        if self.priority_levels == 0 {
            return Duration::ZERO;
        }
        let middle = self.priority_levels / 2 + 1;
        let asked = if priority == 0 { self.default_priority_level.unwrap_or(middle) } else { priority };
        let behind = asked.min(self.priority_levels) - 1;
        Duration::from_secs_f64(self.priority_aging_s * f64::from(behind))
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.request_timeout_s)
    }

    /// How the number of replicas follows the load, if it does.
    pub(crate) fn autoscaling(&self) -> Option<AutoscalingConfig> {
        let auto = || (self.num_replicas == 0).then(AutoscalingConfig::default);
        self.autoscaling_config.clone().or_else(auto)
    }

    /// Replicas there may be beyond the number wanted during an update.
    pub(crate) fn surge(&self, replicas: usize) -> usize {
        ((replicas as f64 * self.max_surge_percent / 100.0).ceil() as usize).max(1)
    }

    fn health_check_timeout(&self) -> f64 {
        self.health_check_timeout_s.unwrap_or(self.request_timeout_s.max(HUNG_S))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            startup: Duration::from_secs_f64(self.startup_timeout_s),
            call: Duration::from_secs_f64(self.health_check_timeout()),
            grace: Duration::from_secs_f64(self.graceful_shutdown_timeout_s),
        }
    }

    /// Whether a change to `other` needs no fresh replicas.
    pub(crate) fn changes_in_place(&self, other: &Self) -> bool {
        let fixed = |config: &Self| DeploymentConfig {
            num_replicas: 1,
            autoscaling_config: None,
            user_config: None,
            ..config.clone()
        };
        // Only a fresh model knows what it is without any.
        let removed = self.user_config.is_some() && other.user_config.is_none();
        !removed && fixed(self) == fixed(other)
    }

    pub(crate) fn policy(&self) -> Policy {
        // A single request needs no company.
        let window =
            if self.batches() { Duration::from_secs_f64(self.batch_wait_timeout_s) } else { Duration::ZERO };
        Policy { max_batch_size: self.max_batch_size, window, capacity: self.max_queued_requests }
    }
}

/// A number of replicas; `"auto"` is 0.
fn number_or_auto<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "num_replicas must be a whole number or \"auto\"")]
    enum Replicas {
        Number(usize),
        Auto(Auto),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Auto {
        Auto,
    }
    Ok(match Replicas::deserialize(from)? {
        Replicas::Number(replicas) => replicas,
        Replicas::Auto(Auto::Auto) => 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from_toml(text: &str) -> Result<DeploymentConfig, String> {
        let config: DeploymentConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn rays_keys_are_read() {
        let config = from_toml("num_replicas = \"auto\"").unwrap();
        assert_eq!(config.autoscaling(), Some(AutoscalingConfig::default()));
        let config = from_toml("[autoscaling_config]\nmin_replicas = 0\nmax_replicas = 3").unwrap();
        let scaling = config.autoscaling().unwrap();
        assert_eq!((scaling.min_replicas, scaling.max_replicas), (0, 3));
        assert_eq!(from_toml("num_replicas = 3").unwrap().autoscaling(), None);
        let config = from_toml("user_config = { threshold = 0.5 }").unwrap();
        assert_eq!(config.user_config, Some(serde_json::json!({"threshold": 0.5})));
    }

    #[test]
    fn what_makes_no_sense_is_told_so() {
        for (text, says) in [
            ("num_replicas = \"many\"", "whole number or \"auto\""),
            ("num_replicas = 2000", "1 to 1024"),
            ("num_replicas = 2\n[autoscaling_config]", "leave one of them out"),
            ("[autoscaling_config]\nmin_replicas = 7\nmax_replicas = 3", "from 7 to 3"),
            ("[autoscaling_config]\nreplicas = 7", "unknown field"),
            ("startup_timeout_s = 0", "startup_timeout_s is 0"),
            ("max_surge_percent = 101", "max_surge_percent"),
            ("priority_levels = 2\ndefault_priority_level = 3", "must be 1 to priority_levels, which is 2"),
            ("default_priority_level = 1", "must be 1 to priority_levels, which is 0"),
            ("priority_aging_s = -1", "priority_aging_s is -1"),
            ("num_gpus = 1.5", "num_cpus, num_gpus: "),
            ("num_cpus = -1", "num_cpus, num_gpus: "),
            ("max_ongoing_requests = 0", "max_ongoing_requests is 0"),
        ] {
            let error = from_toml(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_priority_counts_as_coming_later_where_there_are_levels() {
        let config = from_toml("priority_levels = 3\npriority_aging_s = 2").unwrap();
        let delays =
            |config: &DeploymentConfig| [0, 1, 2, 3, 9].map(|level| config.delay_of(level).as_secs());
        assert_eq!(delays(&config), [2, 0, 2, 4, 4], "none is the middle, too low is the last");
        let config = from_toml("priority_levels = 3\ndefault_priority_level = 3").unwrap();
        assert_eq!(delays(&config), [10, 0, 5, 10, 10]);
        assert_eq!(delays(&DeploymentConfig::default()), [0; 5]);
    }

    #[test]
    fn only_what_the_replicas_do_not_hold_changes_in_place() {
        let before = DeploymentConfig { user_config: Some(Value::from(1)), ..DeploymentConfig::default() };
        let change = |change: fn(&mut DeploymentConfig)| {
            let mut after = before.clone();
            change(&mut after);
            before.changes_in_place(&after)
        };
        assert!(change(|config| config.num_replicas = 7));
        assert!(change(|config| config.user_config = Some(Value::from(2))));
        assert!(change(|config| config.autoscaling_config = Some(AutoscalingConfig::default())));
        assert!(!change(|config| config.max_batch_size = 2));
        assert!(!change(|config| config.user_config = None));
    }
}
