//! What a server counts, in Prometheus' names: base units, `air_serve_*`, labels from the route table only, never from a request's path.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Every series of one server.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Labels, Counter>,
    seconds: Histograms,
    queued: Family<Labels, Gauge<i64, AtomicI64>>,
    waited: Histograms,
    executed: Histograms,
    batch: Histograms,
    refused: Family<Labels, Counter>,
    cancelled: Family<Labels, Counter>,
    panicked: Family<Labels, Counter>,
    connections: Gauge<i64, AtomicI64>,
}

fn seconds() -> Histogram {
    // 50 µs to about 26 s.
    Histogram::new(exponential_buckets(50e-6, 3.0, 13))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 12))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let waited = Histograms::new_with_constructor(seconds);
        let executed = Histograms::new_with_constructor(seconds);
        let taken = Histograms::new_with_constructor(seconds);
        let batch = Histograms::new_with_constructor(sizes);
        let (refused, cancelled, panicked) = (Family::default(), Family::default(), Family::default());
        let queued = Family::default();
        let connections = Gauge::default();
        let name = |name: &str| format!("air_serve_{name}");
        registry.register(
            name("requests"),
            "HTTP requests answered, by route and status",
            Family::clone(&requests),
        );
        registry.register(name("request_seconds"), "From the request's head to the answer", taken.clone());
        registry.register(name("queue_items"), "Requests that wait now", Family::clone(&queued));
        registry.register(name("queue_seconds"), "How long requests waited for a replica", waited.clone());
        registry.register(name("execute_seconds"), "How long the model took for a batch", executed.clone());
        registry.register(name("batch_items"), "Requests in a batch", batch.clone());
        registry.register(
            name("refused"),
            "Requests refused because the queue was full",
            Family::clone(&refused),
        );
        registry.register(
            name("cancelled"),
            "Requests taken out of the queue by their callers",
            Family::clone(&cancelled),
        );
        registry.register(name("panics"), "Batches on which the model panicked", Family::clone(&panicked));
        registry.register(name("connections"), "Open connections", connections.clone());
        Metrics {
            registry: Arc::new(registry),
            requests,
            seconds: taken,
            queued,
            waited,
            executed,
            batch,
            refused,
            cancelled,
            panicked,
            connections,
        }
    }

    /// The handles of one deployment.
    pub(crate) fn deployment(&self, name: &str) -> DeploymentMetrics {
        let labels: Labels = vec![("deployment", name.to_owned())];
        DeploymentMetrics {
            queued: self.queued.get_or_create(&labels).clone(),
            waited: self.waited.get_or_create(&labels).clone(),
            executed: self.executed.get_or_create(&labels).clone(),
            batch: self.batch.get_or_create(&labels).clone(),
            refused: self.refused.get_or_create(&labels).clone(),
            cancelled: self.cancelled.get_or_create(&labels).clone(),
            panicked: self.panicked.get_or_create(&labels).clone(),
        }
    }

    /// The handles of one route.
    pub(crate) fn route(&self, route: &str) -> RouteMetrics {
        let labels: Labels = vec![("route", route.to_owned())];
        RouteMetrics {
            metrics: self.clone(),
            route: route.to_owned(),
            seconds: self.seconds.get_or_create(&labels).clone(),
            by_status: Mutex::new(Vec::new()),
            ok: self.status(route, 200),
        }
    }

    fn status(&self, route: &str, status: u16) -> Counter {
        let labels: Labels = vec![("route", route.to_owned()), ("code", status.to_string())];
        self.requests.get_or_create(&labels).clone()
    }

    pub(crate) fn connected(&self, change: i64) {
        self.connections.inc_by(change);
    }

    /// The Prometheus text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The series of one deployment, looked up once.
pub(crate) struct DeploymentMetrics {
    queued: Gauge<i64, AtomicI64>,
    waited: Histogram,
    executed: Histogram,
    batch: Histogram,
    refused: Counter,
    cancelled: Counter,
    panicked: Counter,
}

impl DeploymentMetrics {
    pub(crate) fn queued(&self, items: usize) {
        self.queued.set(items as i64);
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    pub(crate) fn executed(&self, items: usize, time: Duration) {
        self.executed.observe(time.as_secs_f64());
        self.batch.observe(items as f64);
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
}

/// The series of one route, looked up once.
pub(crate) struct RouteMetrics {
    metrics: Metrics,
    route: String,
    seconds: Histogram,
    ok: Counter,
    by_status: Mutex<Vec<(u16, Counter)>>,
}

impl RouteMetrics {
    /// Notes an answer.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        if status == 200 {
            self.ok.inc();
            return;
        }
        let mut known = self.by_status.lock();
        match known.iter().find(|(code, _)| *code == status) {
            Some((_, counter)) => drop(counter.inc()),
            None => {
                let counter = self.metrics.status(&self.route, status);
                counter.inc();
                known.push((status, counter));
            }
        }
    }
}
