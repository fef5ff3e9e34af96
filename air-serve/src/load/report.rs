//! What came of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::answer::Answer;
use super::config::LoadConfig;
use super::connection::Failure;
use super::histogram::Histogram;

/// What came of a load; its JSON is what `air-serve load --json` prints.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// Where to.
    pub url: String,
    /// Requests a second that were due.
    pub rate: f64,
    /// Connections.
    pub connections: usize,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Requests that were due.
    pub scheduled: u64,
    /// Requests answered with whatever status.
    pub answered: u64,
    /// Requests answered with 2xx, and as expected.
    pub ok: u64,
    /// `ok` a second.
    pub ok_per_s: f64,
    /// How long 2xx answers took from when their requests were *due*.
    pub latency_ms: Percentiles,
    /// How long 2xx answers took from when their requests were *sent*: what is left out of it is the wait for a connection.
    pub service_ms: Percentiles,
    /// The answers of each status.
    pub statuses: BTreeMap<u16, StatusReport>,
    /// Requests without a good answer, by what went wrong: `connect`, `closed`, `malformed`, `timeout`, `not_sent` (no connection was
    /// free in time), `wrong_answer` (2xx with another body than expected; also among the answered).
    pub errors: BTreeMap<&'static str, u64>,
}

/// The answers of one status.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// How many.
    pub count: u64,
    /// From when the requests were due.
    pub latency_ms: Percentiles,
    /// From when they were sent.
    pub service_ms: Percentiles,
}

/// Durations in milliseconds; all zero where there were none. Known to 1/128 of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// Half are no longer.
    pub p50: f64,
    /// 90 % are no longer.
    pub p90: f64,
    /// 99 % are no longer.
    pub p99: f64,
    /// 99.9 % are no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram) -> Self {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let at = |share| ms(histogram.quantile(share));
        Percentiles {
            mean: ms(histogram.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.longest()),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { mean, p50, p90, p99, p999, max } = self;
        write!(
            f,
            "mean {mean:.3}  p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3} ms"
        )
    }
}

/// Collects outcomes while the load runs.
pub(super) struct Tally {
    statuses: Vec<Status>,
    errors: BTreeMap<&'static str, u64>,
}

struct Status {
    code: u16,
    latency: Histogram,
    service: Histogram,
}

impl Tally {
    pub fn new() -> Self {
        let kinds = ["connect", "closed", "malformed", "timeout", "not_sent", "wrong_answer"];
        Tally { statuses: Vec::new(), errors: kinds.into_iter().map(|kind| (kind, 0)).collect() }
    }

    pub fn answered(&mut self, answer: Answer, latency: Duration, service: Duration) {
        let found = self.statuses.iter().position(|known| known.code == answer.status);
        let index = found.unwrap_or_else(|| {
            let (latency, service) = (Histogram::new(), Histogram::new());
            self.statuses.push(Status { code: answer.status, latency, service });
            self.statuses.len() - 1
        });
        self.statuses[index].latency.record(latency);
        self.statuses[index].service.record(service);
        if is_ok(answer.status) && !answer.as_expected {
            self.error("wrong_answer");
        }
    }

    pub fn failed(&mut self, failure: Failure) {
        self.error(match failure {
            Failure::Connect => "connect",
            Failure::Closed => "closed",
            Failure::Malformed => "malformed",
        });
    }

    pub fn timed_out(&mut self) {
        self.error("timeout");
    }

    pub fn not_sent(&mut self) {
        self.error("not_sent");
    }

    fn error(&mut self, kind: &'static str) {
        *self.errors.entry(kind).or_default() += 1;
    }

    pub fn report(self, config: &LoadConfig, scheduled: u64, took: Duration) -> LoadReport {
        let (mut latency, mut service) = (Histogram::new(), Histogram::new());
        for status in self.statuses.iter().filter(|status| is_ok(status.code)) {
            latency.merge(&status.latency);
            service.merge(&status.service);
        }
        let ok = latency.total() - self.errors.get("wrong_answer").copied().unwrap_or_default();
        let statuses: BTreeMap<_, _> = self
            .statuses
            .iter()
            .map(|status| {
                let report = StatusReport {
                    count: status.latency.total(),
                    latency_ms: Percentiles::of(&status.latency),
                    service_ms: Percentiles::of(&status.service),
                };
                (status.code, report)
            })
            .collect();
        LoadReport {
            url: config.url.clone(),
            rate: config.rate,
            connections: config.connections,
            seconds: took.as_secs_f64(),
            scheduled,
            answered: statuses.values().map(|status| status.count).sum(),
            ok,
            ok_per_s: ok as f64 / took.as_secs_f64().max(1e-9),
            latency_ms: Percentiles::of(&latency),
            service_ms: Percentiles::of(&service),
            statuses,
            errors: self.errors,
        }
    }
}

fn is_ok(status: u16) -> bool {
    (200..300).contains(&status)
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} requests due at {} a second over {} connections",
            self.url, self.scheduled, self.rate, self.connections
        )?;
        writeln!(f, "ok        {} in {:.2} s, {:.1} a second", self.ok, self.seconds, self.ok_per_s)?;
        writeln!(f, "latency   {}  (2xx, from when each was due)", self.latency_ms)?;
        writeln!(f, "service   {}  (2xx, from when each was sent)", self.service_ms)?;
        for (status, report) in self.statuses.iter().filter(|(status, _)| !is_ok(**status)) {
            writeln!(f, "{status}       {} answers, {}", report.count, report.latency_ms)?;
        }
        let errors: Vec<_> = self.errors.iter().filter(|(_, count)| **count > 0).collect();
        match errors.as_slice() {
            [] => write!(f, "errors    none"),
            errors => {
                let errors: Vec<_> = errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
                write!(f, "errors    {}", errors.join(", "))
            }
        }
    }
}
