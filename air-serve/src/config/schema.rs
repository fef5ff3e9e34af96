//! The file. Ray's keys mean what they mean there; those that mean nothing in one process without Python are taken, and told of.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::sieve::{Sieved, sieve};
use crate::deploy::DeploymentConfig;
use crate::ensemble::Step;
use crate::error::ServeError;
use crate::http::HttpConfig;

/// What is to be served, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Ray's; there is no proxy.
    pub proxy_location: Option<String>,
    /// Where and within what limits to listen.
    pub http_options: HttpOptions,
    /// Ray's.
    pub grpc_options: Option<Value>,
    /// What is logged.
    pub logging_config: LoggingConfig,
    /// The applications.
    pub applications: Vec<ApplicationConfig>,
}

/// How the server listens: [`HttpConfig`], and Ray's names for some of it.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The settings.
    pub http: HttpConfig,
    /// How long a request may take, in seconds, where its deployment says nothing else.
    pub request_timeout_s: Option<f64>,
    ignored: Vec<String>,
}

impl<'de> Deserialize<'de> for HttpOptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let beside = &[
            "request_timeout_s",
            "keep_alive_timeout_s",
            "root_path",
            "location",
            "num_cpus",
            "middlewares",
        ];
        let Sieved { own: mut http, beside: mut taken, .. } = sieve::<HttpConfig, _>(from, beside)?;
        let mut seconds = |key: &str| match taken.remove(key) {
            None => Ok(None),
            Some(value) => {
                let bad = || D::Error::custom(format!("`{key}` is {value}, it must be a number of seconds"));
                value.as_f64().map(Some).ok_or_else(bad)
            }
        };
        let request_timeout_s = seconds("request_timeout_s")?;
        if let Some(idle) = seconds("keep_alive_timeout_s")? {
            http.header_timeout_s = idle;
        }
        Ok(HttpOptions { http, request_timeout_s, ignored: meaningful(taken) })
    }
}

/// What is logged.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoggingConfig {
    /// `TEXT` (default) or `JSON`.
    pub encoding: Encoding,
    /// Ray's; the environment variable `AIR_LOG` chooses what is logged.
    pub log_level: Option<Value>,
    /// Ray's; the log goes to stderr.
    pub logs_dir: Option<String>,
    /// Whether every request gets a line (default: as `http_options.access_log` says).
    pub enable_access_log: Option<bool>,
    /// Ray's.
    pub additional_log_standard_attrs: Vec<String>,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Encoding {
    /// For people.
    #[default]
    #[serde(alias = "text")]
    Text,
    /// One object a line.
    #[serde(alias = "json")]
    Json,
}

/// An application: what is served at a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApplicationConfig {
    /// Its name (default `default`).
    #[serde(default = "default_name")]
    pub name: String,
    /// Its path (default `/`).
    #[serde(default = "default_prefix")]
    pub route_prefix: String,
    /// What it is: `onnx://` and the path of a file, `llm://` and that of a directory, or a name that the program has registered.
    #[serde(default)]
    pub import_path: String,
    /// A graph of other deployments instead.
    #[serde(default)]
    pub ensemble: Option<Step>,
    /// Another application that gets a share of its requests too.
    #[serde(default)]
    pub mirror: Option<MirrorConfig>,
    /// What it is built with.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// Settings of its deployments, over those it comes with.
    #[serde(default)]
    pub deployments: Vec<DeploymentOverride>,
    /// Ray's: Python's environment.
    #[serde(default)]
    pub runtime_env: Option<Value>,
    /// Ray's.
    #[serde(default)]
    pub external_scaler_enabled: Option<bool>,
    /// Ray's.
    #[serde(default)]
    pub autoscaling_policy: Option<Value>,
    /// Ray's.
    #[serde(default)]
    pub logging_config: Option<Value>,
}

/// Shadow traffic: a deployment that gets copies of an application's JSON requests, and whose answers nobody sees.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MirrorConfig {
    /// The deployment's name, of another application of the file.
    pub to: String,
    /// The share of the requests that is copied, above 0 and at most 1 (default 1).
    #[serde(default = "default_share")]
    pub share: f64,
}

fn default_share() -> f64 {
    1.0
}

fn default_name() -> String {
    "default".into()
}

fn default_prefix() -> String {
    "/".into()
}

/// Settings of a deployment, over those it comes with.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeploymentOverride {
    /// Which.
    pub name: String,
    config: DeploymentConfig,
    given: Vec<String>,
    ignored: Vec<String>,
}

impl DeploymentOverride {
    /// Whether that setting is given.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.given.iter().any(|given| given == key)
    }

    fn is_async(&self) -> bool {
        self.config.execution == crate::deploy::Execution::Async
    }

    /// Those settings with the given ones in their place.
    pub(super) fn over(&self, base: &DeploymentConfig) -> Result<DeploymentConfig, ServeError> {
        let map = |config: &DeploymentConfig| {
            serde_json::from_value::<Map<String, Value>>(serde_json::to_value(config)?)
        };
        let lay = || {
            let (mut base, mut over) = (map(base)?, map(&self.config)?);
            base.extend(self.given.iter().filter_map(|key| over.remove_entry(key)));
            serde_json::from_value(Value::Object(base))
        };
        self.config.validate().and_then(|()| {
            lay().map_err(|error: serde_json::Error| {
                ServeError::config(format!("deployment `{}`: {error}", self.name))
            })
        })
    }
}

/// Keys of Ray's deployments that [`DeploymentConfig`] does not have.
const RAYS: &[&str] = &[
    "name",
    "graceful_shutdown_wait_loop_s",
    "health_check_period_s",
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "max_replicas_per_node",
    "logging_config",
    "request_router_config",
    "rolling_update_percentage",
    "backpressure_config",
    "gang_scheduling_config",
];

/// Takes what Ray's `ray_actor_options` say of processors and GPUs; returns the keys that mean nothing here.
fn resources<E: serde::de::Error>(
    config: &mut DeploymentConfig,
    given: &mut Vec<String>,
    options: Option<Value>,
) -> Result<Vec<String>, E> {
    let mut options = match options {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(options)) => options,
        Some(_) => return Err(E::custom("`ray_actor_options` must be keys and values")),
    };
    for (key, amount) in [("num_cpus", &mut config.num_cpus), ("num_gpus", &mut config.num_gpus)] {
        let Some(value) = options.remove(key).filter(|value| !value.is_null()) else { continue };
        let wrong = || E::custom(format!("`ray_actor_options.{key}` is {value}, it must be a number"));
        *amount = value.as_f64().ok_or_else(wrong)?;
        given.push(key.to_owned());
    }
    Ok(meaningful(options).into_iter().map(|key| format!("ray_actor_options.{key}")).collect())
}

impl<'de> Deserialize<'de> for DeploymentOverride {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Sieved { mut own, mut given, mut beside } = sieve::<DeploymentConfig, _>(from, RAYS)?;
        let unused = resources(&mut own, &mut given, beside.remove("ray_actor_options"))?;
        match beside.remove("name") {
            Some(Value::String(name)) => {
                let mut ignored = meaningful(beside);
                ignored.extend(unused);
                Ok(DeploymentOverride { name, config: own, given, ignored })
            }
            Some(_) => Err(D::Error::custom("`name` must be a string")),
            None => Err(D::Error::missing_field("name")),
        }
    }
}

impl ServeConfig {
    /// What the file says in vain, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |what: String| notes.push(format!("{what} has no effect here"));
        if self
            .proxy_location
            .as_deref()
            .is_some_and(|place| !["EveryNode", "HeadOnly", "Disabled"].contains(&place))
        {
            note("proxy_location".into());
        }
        self.http_options.ignored.iter().for_each(|key| note(format!("http_options.{key}")));
        if self.logging_config.logs_dir.is_some() {
            note("logging_config.logs_dir (the log goes to stderr)".into());
        }
        for app in &self.applications {
            let at = |key: &str| format!("application `{}`: {key}", app.name);
            let rays = [
                ("runtime_env (there is no Python)", &app.runtime_env),
                ("autoscaling_policy", &app.autoscaling_policy),
                ("logging_config", &app.logging_config),
            ];
            for (key, _) in
                rays.iter().filter(|(_, value)| value.as_ref().is_some_and(|value| !is_empty(value)))
            {
                note(at(key));
            }
            for deployment in &app.deployments {
                if deployment.gives("max_ongoing_requests") && !deployment.is_async() {
                    note(at(&format!("deployment `{}`: max_ongoing_requests{MOST}", deployment.name)));
                }
                for key in &deployment.ignored {
                    note(at(&format!("deployment `{}`: {key}{}", deployment.name, instead(key))));
                }
            }
        }
        notes
    }
}

/// A configuration without the keys that say nothing, as it would be in a file; what models and builders are given stays as it is.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(items) => {
            let theirs = |key: &str| key == "args" || key == "user_config";
            let said = items.into_iter().filter(|(_, value)| !value.is_null());
            said.map(|(key, value)| if theirs(&key) { (key, value) } else { (key, without_nulls(value)) })
                .collect()
        }
        value => value,
    }
}

/// What `max_ongoing_requests` is for.
const MOST: &str = " (a replica takes as many as max_batch_size at a time, unless its execution is async)";

/// What to use in place of a key of Ray's.
fn instead(key: &str) -> &'static str {
    match key {
        "health_check_period_s" => " (a replica is watched all the time)",
        "rolling_update_percentage" => " (max_surge_percent says how fast an update goes)",
        _ => "",
    }
}

/// The keys of those that say something: Ray's own tools write many with nothing in them.
fn meaningful(keys: Map<String, Value>) -> Vec<String> {
    keys.into_iter().filter(|(_, value)| !is_empty(value)).map(|(key, _)| key).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_of_ours_is_taken_for_one_that_has_no_effect() {
        let ours = serde_json::to_value(DeploymentConfig::default()).unwrap();
        let taken: Vec<_> = RAYS.iter().filter(|key| ours.get(key).is_some()).collect();
        assert!(taken.is_empty(), "{taken:?}");
    }

    #[test]
    fn a_deployment_keeps_what_the_file_does_not_say() {
        let over = r#"{"name": "d", "max_batch_size": 8, "health_check_period_s": 3.0}"#;
        let over: DeploymentOverride = serde_json::from_str(over).unwrap();
        let base = DeploymentConfig { max_batch_size: 2, num_replicas: 3, ..DeploymentConfig::default() };
        let merged = over.over(&base).unwrap();
        assert_eq!(merged, DeploymentConfig { max_batch_size: 8, ..base });
        assert_eq!(over.ignored, ["health_check_period_s"]);
    }
}
