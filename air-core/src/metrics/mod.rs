//! [`Metrics`]: counters, gauges and histograms, and their text for Prometheus.
//!
//! ```
//! # fn main() -> Result<(), air_core::CoreError> {
//! use air_core::metrics::Metrics;
//!
//! let metrics = Metrics::new();
//! // Once, at the start: look the handle up and keep it.
//! let served = metrics.counter("air_serve_requests_total", "Requests answered", &[("route", "/iris")])?;
//! // In the hot path: one atomic addition.
//! served.inc();
//! assert!(metrics.render().contains("air_serve_requests_total{route=\"/iris\"} 1\n"));
//! # Ok(())
//! # }
//! ```
//!
//! A registry is a value, not a global: two runtimes in one process have two. Names follow one convention,
//! `air_<library>_<noun>[_<unit>]`, a counter with `_total` at its end and every unit a base unit (seconds, bytes,
//! ratio); other names are refused. A name has at most [`MAX_SERIES`] combinations of labels, because label values
//! tend to come from outside.

mod handle;
mod name;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{counter, gauge, histogram};
use prometheus_client::registry::Registry;

pub use handle::{Counter, Gauge, Histogram};

use crate::Result;
use name::{check_label, check_name, default_buckets};

/// The content type of [`Metrics::render`].
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of [`Metrics::render_openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The most combinations of label values of one name.
pub const MAX_SERIES: usize = 1000;

/// A metric that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The name is against the convention.
    #[error("`{name}` is not a metric's name: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name of a label is against the convention.
    #[error("`{label}` cannot label `{name}`: labels are lower-case words with `_` between, and not `le`")]
    BadLabel {
        /// The metric.
        name: String,
        /// The label.
        label: String,
    },
    /// The metric exists already, and is something else.
    #[error("`{name}` exists already as a {existing}")]
    Conflict {
        /// The metric.
        name: String,
        /// What it is.
        existing: String,
    },
    /// The metric has as many combinations of labels as it may have.
    #[error("`{name}` has {limit} combinations of labels already")]
    TooManySeries {
        /// The metric.
        name: String,
        /// How many it may have.
        limit: usize,
    },
}

type Labels = Vec<(String, String)>;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone)]
struct Buckets(Arc<[f64]>);

impl MetricConstructor<histogram::Histogram> for Buckets {
    fn new_metric(&self) -> histogram::Histogram {
        histogram::Histogram::new(self.0.iter().copied())
    }
}

#[derive(Debug)]
enum Series {
    Counter(Family<Labels, counter::Counter>),
    Gauge(Family<Labels, gauge::Gauge<f64, AtomicU64>>),
    Histogram(Family<Labels, histogram::Histogram, Buckets>),
}

/// One name with all its series.
#[derive(Debug)]
struct Metric {
    series: Series,
    label_names: Vec<String>,
    /// The combinations of labels asked for.
    seen: BTreeSet<Labels>,
}

/// A registry of metrics. Cheap to clone; clones are one registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    registry: Registry,
    by_name: BTreeMap<String, Metric>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of that name with those labels; the same one every time. `help` is a phrase without a full stop.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<Counter> {
        let make = || Series::Counter(Family::default());
        self.resolve(name, help, labels, Kind::Counter, make, |series, labels| match series {
            Series::Counter(family) => Some(Counter(family.get_or_create_owned(labels))),
            _ => None,
        })
    }

    /// The gauge of that name with those labels.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<Gauge> {
        let make = || Series::Gauge(Family::default());
        self.resolve(name, help, labels, Kind::Gauge, make, |series, labels| match series {
            Series::Gauge(family) => Some(Gauge(family.get_or_create_owned(labels))),
            _ => None,
        })
    }

    /// The histogram of that name with those labels, with buckets that suit its unit.
    pub fn histogram(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<Histogram> {
        self.histogram_with(name, help, labels, &default_buckets(name))
    }

    /// The histogram of that name with those labels. The upper bounds of the buckets are those of whoever asked first.
    pub fn histogram_with(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        buckets: &[f64],
    ) -> Result<Histogram> {
        let make = || Series::Histogram(Family::new_with_constructor(Buckets(buckets.into())));
        self.resolve(name, help, labels, Kind::Histogram, make, |series, labels| match series {
            Series::Histogram(family) => Some(Histogram(family.get_or_create_owned(labels))),
            _ => None,
        })
    }

    /// All metrics in Prometheus' text format 0.0.4; its content type is [`TEXT`].
    pub fn render(&self) -> String {
        let inner = self.inner.lock();
        let openmetrics = inner.encode();
        let mut text = String::with_capacity(openmetrics.len());
        for line in openmetrics.lines() {
            let Some(comment) = line.strip_prefix("# ") else {
                // A series without labels is written as people write it.
                match line.split_once("{} ").filter(|(name, _)| !name.contains('{')) {
                    Some((name, value)) => text.extend([name, " ", value, "\n"]),
                    None => text.extend([line, "\n"]),
                }
                continue;
            };
            // The older format calls a counter by its whole name, and knows neither units nor an end.
            let mut words = comment.splitn(3, ' ');
            if let (Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
                (words.next(), words.next(), words.next())
            {
                let total = if inner.by_name.contains_key(&format!("{name}_total")) { "_total" } else { "" };
                text.extend(["# ", word, " ", name, total, " ", rest, "\n"]);
            }
        }
        text
    }

    /// All metrics in the OpenMetrics text format 1.0; its content type is [`OPENMETRICS`].
    pub fn render_openmetrics(&self) -> String {
        self.inner.lock().encode()
    }

    fn resolve<H>(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        kind: Kind,
        make: impl FnOnce() -> Series,
        pick: impl FnOnce(&Series, &Labels) -> Option<H>,
    ) -> Result<H> {
        // In one order, so that the order in which a caller lists them does not matter.
        let mut labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        labels.sort();
        let label_names: Vec<String> = labels.iter().map(|(label, _)| label.clone()).collect();

        let mut inner = self.inner.lock();
        let Inner { registry, by_name } = &mut *inner;
        if !by_name.contains_key(name) {
            check_name(name, kind)?;
            // In OpenMetrics the two would be one family.
            let sibling = name.strip_suffix("_total").map_or_else(|| format!("{name}_total"), str::to_owned);
            if let Some(metric) = by_name.get(&sibling) {
                return Err(MetricsError::Conflict { name: sibling, existing: metric.describe() }.into());
            }
            for (at, label) in label_names.iter().enumerate() {
                check_label(name, label)?;
                if label_names[..at].contains(label) {
                    return Err(MetricsError::BadLabel { name: name.into(), label: label.clone() }.into());
                }
            }
            let series = make();
            series.register(registry, name, help);
            by_name.insert(
                name.to_owned(),
                Metric { series, label_names: label_names.clone(), seen: BTreeSet::new() },
            );
        }
        let Some(metric) = by_name.get_mut(name) else { unreachable!("it was inserted above") };
        let conflict =
            |metric: &Metric| MetricsError::Conflict { name: name.into(), existing: metric.describe() };
        if metric.label_names != label_names {
            return Err(conflict(metric).into());
        }
        if metric.seen.len() >= MAX_SERIES && !metric.seen.contains(&labels) {
            return Err(MetricsError::TooManySeries { name: name.into(), limit: MAX_SERIES }.into());
        }
        let handle = pick(&metric.series, &labels).ok_or_else(|| conflict(metric))?;
        metric.seen.insert(labels);
        Ok(handle)
    }
}

impl Inner {
    fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, and no metric of ours refuses to be written.
        if let Err(error) = text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "cannot render the metrics");
        }
        text
    }
}

impl Series {
    fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        // A line break would end the line of the text format.
        let help = help.replace(char::is_control, " ");
        match self {
            // The library adds the ending itself.
            Self::Counter(family) => registry.register(name.trim_end_matches("_total"), help, family.clone()),
            Self::Gauge(family) => registry.register(name, help, family.clone()),
            Self::Histogram(family) => registry.register(name, help, family.clone()),
        }
    }
}

impl Metric {
    fn describe(&self) -> String {
        let kind = match &self.series {
            Series::Counter(_) => "counter",
            Series::Gauge(_) => "gauge",
            Series::Histogram(_) => "histogram",
        };
        match self.label_names.as_slice() {
            [] => format!("{kind} without labels"),
            labels => format!("{kind} with labels {}", labels.join(", ")),
        }
    }
}
