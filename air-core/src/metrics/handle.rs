//! The handles that code keeps: one atomic operation an update, and no look-up.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::{counter, gauge, histogram};

/// Counts what happened; never goes down. Cheap to clone; clones are one counter.
#[derive(Debug, Clone)]
pub struct Counter(pub(super) counter::Counter);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Shows what is now. Cheap to clone; clones are one gauge.
#[derive(Debug, Clone)]
pub struct Gauge(pub(super) gauge::Gauge<f64, AtomicU64>);

impl Gauge {
    /// It is this.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// It is this much more, or less.
    pub fn add(&self, change: f64) {
        self.0.inc_by(change);
    }

    /// What it is.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// Counts values by size. Cheap to clone; clones are one histogram.
#[derive(Debug, Clone)]
pub struct Histogram(pub(super) histogram::Histogram);

impl Histogram {
    /// One value, in the unit of the histogram's name.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }

    /// One duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}
