//! Traces: a span for each request, sent to an OpenTelemetry collector by OTLP over HTTP.
//!
//! A caller's [trace context](https://www.w3.org/TR/trace-context/) (`traceparent`) is carried on: its span is the parent of ours, and whether it
//! is sampled is the caller's decision. Requests without one are sampled by their share. What has no trace costs nothing.
//!
//! Under a request's span lie those of its waiting (`queue`) and its execution (`execute`) by each deployment that it comes to; what a model calls lies under
//! its execution. A request of a batch has a span of its own, with the size of the batch: so that each trace is whole. One span for the batch, with
//! links, would be in one of the traces at most, and in none where that one is not sampled.

#[cfg_attr(not(feature = "otel"), path = "no_spans.rs")]
mod spans;

use axum::http::Uri;
use serde::{Deserialize, Serialize};

use crate::error::ServeError;

pub(crate) use spans::{Span, Trace, Traced, Traces};

/// Where traces go (default: nowhere). Needs the feature `otel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TracesConfig {
    /// The collector, as in `http://127.0.0.1:4318`; `/v1/traces` is added where it has no path (default: none).
    pub endpoint: Option<String>,
    /// What this server is called in traces (default air-serve).
    pub service_name: String,
    /// Share of the requests that are traced, 0 to 1, where the caller has not decided (default 1).
    pub sample: f64,
    /// How long the collector may take to answer, in seconds (default 5). Spans that cannot be sent are dropped, and that is logged.
    pub timeout_s: f64,
}

impl Default for TracesConfig {
    fn default() -> Self {
        TracesConfig { endpoint: None, service_name: "air-serve".to_owned(), sample: 1.0, timeout_s: 5.0 }
    }
}

impl TracesConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        self.url()?;
        if self.endpoint.is_some() && cfg!(not(feature = "otel")) {
            return Err(ServeError::config(
                "traces.endpoint needs a program built with the feature `otel` of air-serve",
            ));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(ServeError::config(format!("traces.sample is {}, it must be 0 to 1", self.sample)));
        }
        if !(self.timeout_s > 0.0 && self.timeout_s <= 60.0) {
            return Err(ServeError::config(format!(
                "traces.timeout_s is {}, it must be above 0 and at most 60",
                self.timeout_s
            )));
        }
        Ok(())
    }

    /// Where spans are posted to.
    fn url(&self) -> Result<Option<String>, ServeError> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let wrong = |what: &str| {
            let error =
                format!("traces.endpoint: {endpoint:?} {what}, expected one as in http://127.0.0.1:4318");
            Err(ServeError::config(error))
        };
        let Ok(uri) = endpoint.parse::<Uri>() else { return wrong("is not a URL") };
        match uri.scheme_str() {
            Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => {}
            Some("https") => {
                return wrong("is for TLS, which a collector on this machine or in this network adds");
            }
            _ => return wrong("is not an http URL"),
        }
        Ok(Some(match uri.path() {
            "/" | "" => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            _ => endpoint.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_is_a_collector_or_a_whole_url() {
        let url = |endpoint: &str| {
            TracesConfig { endpoint: Some(endpoint.to_owned()), ..TracesConfig::default() }
                .url()
                .map_err(|error| error.to_string())
        };
        assert_eq!(url("http://collector:4318").unwrap().unwrap(), "http://collector:4318/v1/traces");
        assert_eq!(url("http://collector:4318/").unwrap().unwrap(), "http://collector:4318/v1/traces");
        assert_eq!(url("http://collector/otlp/traces").unwrap().unwrap(), "http://collector/otlp/traces");
        assert!(url("https://collector").unwrap_err().contains("TLS"));
        assert!(url("collector:4318").unwrap_err().contains("not an http URL"));
        assert!(url("http://a b").unwrap_err().contains("not a URL"));
    }
    #[test]
    #[cfg(not(feature = "otel"))]
    fn without_the_feature_an_endpoint_is_refused() {
        let config =
            TracesConfig { endpoint: Some("http://collector".to_owned()), ..TracesConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("feature `otel`"));
    }
}
