//! What a server counts: `air_serve_*` in base units, labelled from the route table only, never by a request's own path.

use std::time::Duration;

use air_core::CoreError;
use air_core::metrics::{Counter, Gauge, Histogram, Metrics as Registry};
use parking_lot::Mutex;

use crate::deploy::ReplicaState;

/// Upper bounds of batch sizes.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The series of one server.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: Registry) -> Result<Self, CoreError> {
        let connections = registry.gauge("air_serve_connections", "Open connections", &[])?;
        Ok(Metrics { registry, connections })
    }

    /// The handles of one deployment.
    pub(crate) fn deployment(&self, name: &str) -> Result<DeploymentMetrics, CoreError> {
        let labels = &[("deployment", name)];
        let counter = |name: &str, help: &str| self.registry.counter(name, help, labels);
        let seconds = |name: &str, help: &str| self.registry.histogram(name, help, labels);
        let gauge = |state: ReplicaState| {
            let labels = &[("deployment", name), ("state", state.as_str())];
            self.registry.gauge("air_serve_replicas", "Replicas there are", labels)
        };
        Ok(DeploymentMetrics {
            queued: self.registry.gauge("air_serve_queue_items", "Requests that wait now", labels)?,
            waited: seconds("air_serve_queue_seconds", "How long requests waited for a replica")?,
            executed: seconds("air_serve_execute_seconds", "How long the model took for a batch")?,
            stepped: seconds("air_serve_step_seconds", "How long the model took for a step of all that ran")?,
            in_step: self.registry.histogram_with(
                "air_serve_step_items",
                "Requests that ran in a step",
                labels,
                &SIZES,
            )?,
            first_item: seconds(
                "air_serve_first_item_seconds",
                "From a request to the first item of its stream",
            )?,
            streamed: seconds("air_serve_stream_seconds", "From a request to the end of its stream")?,
            items: counter("air_serve_stream_items_total", "Items of streams that have ended")?,
            batch: self.registry.histogram_with(
                "air_serve_batch_items",
                "Requests in a batch",
                labels,
                &SIZES,
            )?,
            refused: counter("air_serve_refused_total", "Requests refused because the queue was full")?,
            cancelled: counter(
                "air_serve_cancelled_total",
                "Requests taken out of the queue by their callers",
            )?,
            panicked: counter("air_serve_panics_total", "Batches on which the model panicked")?,
            retried: counter(
                "air_serve_retries_total",
                "Requests tried again because their replica was lost",
            )?,
            restarted: counter("air_serve_replica_restarts_total", "Replicas started again after a failure")?,
            replicas: ReplicaState::ALL.map(gauge).into_iter().collect::<Result<_, _>>()?,
            target: self.registry.gauge("air_serve_replicas_target", "Replicas there should be", labels)?,
            name: name.to_owned(),
            registry: self.registry.clone(),
        })
    }

    /// The handles of what copies a deployment's requests for another.
    pub(crate) fn mirror(&self, from: &str, to: &str) -> Result<MirrorMetrics, CoreError> {
        let count = |outcome: &str| {
            let labels = &[("deployment", from), ("to", to), ("outcome", outcome)];
            let help = "Requests mirrored, by what became of the copy";
            self.registry.counter("air_serve_mirrored_total", help, labels)
        };
        let (labels, help) =
            (&[("deployment", from), ("to", to)], "How long answers to mirrored requests took");
        Ok(MirrorMetrics {
            ok: count("ok")?,
            failed: count("failed")?,
            dropped: count("dropped")?,
            seconds: self.registry.histogram("air_serve_mirror_seconds", help, labels)?,
        })
    }

    /// The handles of a language model that reuses what it has read.
    #[cfg(feature = "llm")]
    pub(crate) fn prefixes(&self, deployment: &str) -> Result<PrefixMetrics, CoreError> {
        let labels = &[("deployment", deployment)];
        let counter = |name: &str, help: &str| self.registry.counter(name, help, labels);
        Ok(PrefixMetrics {
            hits: counter("air_serve_llm_prefix_hits_total", "Texts whose beginning had been read before")?,
            tokens: counter("air_serve_llm_prefix_tokens_total", "Tokens not read because they had been")?,
        })
    }

    /// The handles of one route.
    pub(crate) fn route(&self, route: &str) -> Result<RouteMetrics, CoreError> {
        let help = "From a request's head to its answer";
        Ok(RouteMetrics {
            seconds: self.registry.histogram("air_serve_request_seconds", help, &[("route", route)])?,
            ok: self.status(route, 200)?,
            by_status: Mutex::new(Vec::new()),
            metrics: self.clone(),
            route: route.to_owned(),
        })
    }

    fn status(&self, route: &str, status: u16) -> Result<Counter, CoreError> {
        let labels = &[("route", route), ("code", &status.to_string())];
        self.registry.counter("air_serve_requests_total", "HTTP requests answered", labels)
    }

    pub(crate) fn connected(&self, change: f64) {
        self.connections.add(change);
    }

    /// The Prometheus text.
    pub(crate) fn render(&self) -> String {
        self.registry.render()
    }
}

/// The series of one deployment, looked up once.
pub(crate) struct DeploymentMetrics {
    queued: Gauge,
    waited: Histogram,
    executed: Histogram,
    stepped: Histogram,
    in_step: Histogram,
    first_item: Histogram,
    streamed: Histogram,
    items: Counter,
    batch: Histogram,
    refused: Counter,
    cancelled: Counter,
    panicked: Counter,
    retried: Counter,
    restarted: Counter,
    /// By state, in the order of `ReplicaState::ALL`.
    replicas: Vec<Gauge>,
    target: Gauge,
    name: String,
    registry: Registry,
}

/// The series of what copies a deployment's requests.
pub(crate) struct MirrorMetrics {
    pub ok: Counter,
    pub failed: Counter,
    pub dropped: Counter,
    pub seconds: Histogram,
}

/// The series of a language model.
#[cfg(feature = "llm")]
pub(crate) struct PrefixMetrics {
    pub hits: Counter,
    pub tokens: Counter,
}

/// The series of a multiplexed deployment.
pub(crate) struct LoadMetrics {
    pub hits: Counter,
    pub loads: Counter,
    pub failures: Counter,
    pub evictions: Counter,
}

impl DeploymentMetrics {
    /// The series of the models that it loads, which only some have.
    pub(crate) fn loads(&self) -> Option<LoadMetrics> {
        let labels = &[("deployment", self.name.as_str())];
        let counter = |name: &str, help: &str| self.registry.counter(name, help, labels).ok();
        Some(LoadMetrics {
            hits: counter("air_serve_multiplexed_hits_total", "Requests whose replica held their model")?,
            loads: counter("air_serve_multiplexed_loads_total", "Models loaded")?,
            failures: counter(
                "air_serve_multiplexed_load_failures_total",
                "Models that could not be loaded",
            )?,
            evictions: counter("air_serve_multiplexed_evictions_total", "Models that made room for others")?,
        })
    }

    /// Versions of one deployment share the gauge.
    pub(crate) fn queued(&self, change: f64) {
        self.queued.add(change);
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waited.observe_duration(time);
    }

    pub(crate) fn executed(&self, items: usize, time: Duration) {
        self.executed.observe_duration(time);
        self.batch.observe(items as f64);
    }

    pub(crate) fn stepped(&self, running: usize, time: Duration) {
        self.stepped.observe_duration(time);
        self.in_step.observe(running as f64);
    }

    pub(crate) fn first_item(&self, time: Duration) {
        self.first_item.observe_duration(time);
    }

    /// A stream has ended.
    pub(crate) fn streamed(&self, items: u64, time: Duration) {
        self.streamed.observe_duration(time);
        self.items.add(items);
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn cancelled(&self) {
        self.cancelled.inc();
    }

    pub(crate) fn panicked(&self) {
        self.panicked.inc();
    }

    pub(crate) fn retried(&self, requests: usize) {
        self.retried.add(requests as u64);
    }

    pub(crate) fn restarted(&self) {
        self.restarted.inc();
    }

    pub(crate) fn replicas(&self, by_state: [usize; 4], target: usize) {
        for (gauge, count) in self.replicas.iter().zip(by_state) {
            gauge.set(count as f64);
        }
        self.target.set(target as f64);
    }
}

/// The series of one route, looked up once.
pub(crate) struct RouteMetrics {
    seconds: Histogram,
    ok: Counter,
    by_status: Mutex<Vec<(u16, Counter)>>,
    metrics: Metrics,
    route: String,
}

impl RouteMetrics {
    /// Notes an answer.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        self.seconds.observe_duration(took);
        if status == 200 {
            self.ok.inc();
            return;
        }
        let mut known = self.by_status.lock();
        if let Some((_, counter)) = known.iter().find(|(code, _)| *code == status) {
            counter.inc();
        } else if let Ok(counter) = self.metrics.status(&self.route, status) {
            // More statuses than a metric may have series are not worth failing a request for.
            counter.inc();
            known.push((status, counter));
        }
    }
}
