//! What a metric may be called: `air_<library>_<noun>[_<unit>]`, a counter with `_total` at its end.

use super::{Kind, MetricsError};

/// Units that are written in their base unit, so that no two dashboards disagree by a factor.
const BASE_UNITS: [(&str, &[&str]); 3] = [
    (
        "seconds",
        &[
            "ms",
            "millis",
            "milliseconds",
            "us",
            "micros",
            "microseconds",
            "ns",
            "nanos",
            "nanoseconds",
            "minutes",
            "hours",
        ],
    ),
    ("bytes", &["kb", "mb", "gb", "kib", "mib", "gib", "kilobytes", "megabytes", "bits"]),
    ("ratio", &["percent", "percentage", "pct"]),
];

/// Endings that the text format gives to the parts of a histogram.
const RESERVED: [&str; 4] = ["count", "sum", "bucket", "created"];

pub(super) fn check_name(name: &str, kind: Kind) -> Result<(), MetricsError> {
    let wrong = |reason: String| Err(MetricsError::BadName { name: name.into(), reason });
    let parts: Vec<&str> = name.split('_').collect();
    if !parts.iter().all(|part| is_word(part)) {
        return wrong("it must be lower-case words with `_` between".into());
    }
    if parts[0] != "air" {
        return wrong("it must begin with `air_`".into());
    }
    let total = parts.last() == Some(&"total");
    match kind {
        Kind::Counter if !total => return wrong("a counter must end in `_total`".into()),
        Kind::Gauge | Kind::Histogram if total => return wrong("only a counter ends in `_total`".into()),
        _ => {}
    }
    let words = &parts[1..parts.len() - usize::from(total)];
    let [_library, .., last] = words else {
        return wrong("it must be `air_<library>_<noun>[_<unit>]`".into());
    };
    if RESERVED.contains(last) {
        return wrong(format!("the ending `_{last}` is reserved for histograms"));
    }
    for (base, others) in BASE_UNITS {
        if others.contains(last) {
            return wrong(format!("its unit must be `{base}`, not `{last}`"));
        }
    }
    Ok(())
}

pub(super) fn check_label(metric: &str, label: &str) -> Result<(), MetricsError> {
    let words = label.split('_').all(is_word) && !label.starts_with(|c: char| c.is_ascii_digit());
    if words && label != "le" {
        return Ok(());
    }
    Err(MetricsError::BadLabel { name: metric.into(), label: label.into() })
}

/// Buckets that suit the unit a histogram's name ends in.
pub(super) fn default_buckets(name: &str) -> Vec<f64> {
    let (start, factor, count) = match name.rsplit('_').next() {
        // 10 µs to 84 s.
        Some("seconds") => (1e-5, 2.5, 18),
        // 256 B to 4 GiB.
        Some("bytes") => (256.0, 8.0, 9),
        Some("ratio") => return (1..=10).map(|tenth| f64::from(tenth) / 10.0).collect(),
        // Counts of things, to a million.
        _ => (1.0, 4.0, 11),
    };
    std::iter::successors(Some(start), |bound| Some(bound * factor)).take(count).collect()
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_convention_is_held() {
        for (name, kind) in [
            ("air_core_restarts_total", Kind::Counter),
            ("air_data_read_bytes_total", Kind::Counter),
            ("air_serve_queue_requests", Kind::Gauge),
            ("air_serve_request_seconds", Kind::Histogram),
        ] {
            assert!(check_name(name, kind).is_ok(), "{name}");
        }
        for (name, kind, reason) in [
            ("requests", Kind::Gauge, "it must begin with `air_`"),
            ("air_Serve_x", Kind::Gauge, "it must be lower-case words with `_` between"),
            ("air__x_y", Kind::Gauge, "it must be lower-case words with `_` between"),
            ("air_serve", Kind::Gauge, "it must be `air_<library>_<noun>[_<unit>]`"),
            ("air_total", Kind::Counter, "it must be `air_<library>_<noun>[_<unit>]`"),
            ("air_serve_total", Kind::Counter, "it must be `air_<library>_<noun>[_<unit>]`"),
            ("air_serve_requests", Kind::Counter, "a counter must end in `_total`"),
            ("air_serve_requests_total", Kind::Gauge, "only a counter ends in `_total`"),
            ("air_serve_request_ms", Kind::Histogram, "its unit must be `seconds`, not `ms`"),
            ("air_serve_wait_millis_total", Kind::Counter, "its unit must be `seconds`, not `millis`"),
            ("air_data_spill_mb", Kind::Gauge, "its unit must be `bytes`, not `mb`"),
            ("air_serve_request_count", Kind::Gauge, "the ending `_count` is reserved for histograms"),
        ] {
            let expected = MetricsError::BadName { name: name.into(), reason: reason.into() };
            assert_eq!(check_name(name, kind), Err(expected));
        }
    }

    #[test]
    fn buckets_ascend() {
        for name in ["air_x_y_seconds", "air_x_y_bytes", "air_x_y_ratio", "air_x_rows"] {
            assert!(default_buckets(name).windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
