//! Metrics and their text.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::Duration;

use air_core::CoreError;
use air_core::metrics::{MAX_SERIES, Metrics, MetricsError};

fn metrics_error<T: std::fmt::Debug>(result: Result<T, CoreError>) -> MetricsError {
    match result.unwrap_err() {
        CoreError::Metrics(error) => error,
        other => panic!("not a metrics error: {other}"),
    }
}

fn filled() -> Metrics {
    let metrics = Metrics::new();
    let served = |route| {
        metrics.counter("air_serve_requests_total", "Requests answered", &[("route", route)]).unwrap()
    };
    served("/iris").add(3);
    served("/a\"b\\c\nd").inc();
    metrics.gauge("air_serve_queue_requests", "Requests waiting,\nnow", &[]).unwrap().set(2.5);
    let seconds =
        metrics.histogram_with("air_serve_request_seconds", "Time to answer", &[], &[0.1, 1.0]).unwrap();
    seconds.observe(0.05);
    seconds.observe_duration(Duration::from_millis(500));
    metrics
}

#[test]
fn the_text_is_prometheus_0_0_4() {
    let expected = r#"# HELP air_serve_requests_total Requests answered.
# TYPE air_serve_requests_total counter
air_serve_requests_total{route="/a\"b\\c\nd"} 1
air_serve_requests_total{route="/iris"} 3
# HELP air_serve_queue_requests Requests waiting, now.
# TYPE air_serve_queue_requests gauge
air_serve_queue_requests 2.5
# HELP air_serve_request_seconds Time to answer.
# TYPE air_serve_request_seconds histogram
air_serve_request_seconds_sum 0.55
air_serve_request_seconds_count 2
air_serve_request_seconds_bucket{le="0.1"} 1
air_serve_request_seconds_bucket{le="1.0"} 2
air_serve_request_seconds_bucket{le="+Inf"} 2
"#;
    // Series of one name come in no particular order.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let text = filled().render();
    assert_eq!(sorted(&text), sorted(expected), "{text}");
    let position = |line: &str| text.find(line).unwrap();
    assert!(position("# TYPE air_serve_requests_total") < position("air_serve_requests_total{"));
}

#[test]
fn the_other_text_is_openmetrics() {
    let text = filled().render_openmetrics();
    assert!(text.contains("# TYPE air_serve_requests counter\n"), "{text}");
    assert!(text.contains("air_serve_requests_total{route=\"/iris\"} 3\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_handle_is_the_same_wherever_it_was_asked_for() {
    let metrics = Metrics::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let labels = [("b", "2"), ("a", "1")];
                let count = metrics.clone().counter("air_core_messages_total", "Messages", &labels).unwrap();
                (0..1000).for_each(|_| count.inc());
            });
        }
    });
    let other_order = [("a", "1"), ("b", "2")];
    assert_eq!(metrics.counter("air_core_messages_total", "Messages", &other_order).unwrap().get(), 4000);
    let gauge = metrics.gauge("air_core_workers", "Workers", &[]).unwrap();
    gauge.set(2.0);
    gauge.add(-0.5);
    assert_eq!(metrics.gauge("air_core_workers", "Workers", &[]).unwrap().get(), 1.5);
    let rows = metrics.histogram("air_data_batch_rows", "Rows of a batch", &[]).unwrap();
    rows.observe(10.0);
    assert!(metrics.render().contains("air_data_batch_rows_bucket{le=\"16.0\"} 1\n"));
}

#[test]
fn one_name_is_one_thing() {
    let metrics = Metrics::new();
    metrics.gauge("air_core_workers", "Workers", &[]).unwrap();
    metrics.counter("air_core_exits_total", "Exits", &[("cause", "panic")]).unwrap();
    let error = metrics_error(metrics.histogram("air_core_workers", "Workers", &[]));
    assert_eq!(error.to_string(), "`air_core_workers` exists already as a gauge without labels");
    let error = metrics_error(metrics.counter("air_core_exits_total", "Exits", &[]));
    assert_eq!(error.to_string(), "`air_core_exits_total` exists already as a counter with labels cause");
    // Prometheus takes these two for one.
    let error = metrics_error(metrics.gauge("air_core_exits", "Exits", &[]));
    assert_eq!(error.to_string(), "`air_core_exits_total` exists already as a counter with labels cause");
}

#[test]
fn names_and_labels_against_the_convention_are_refused() {
    let metrics = Metrics::new();
    let error = metrics_error(metrics.counter("air_core_waits_ms_total", "x", &[]));
    assert_eq!(
        error.to_string(),
        "`air_core_waits_ms_total` is not a metric's name: its unit must be `seconds`, not `ms`"
    );
    for label in ["", "Route", "9lives", "le", "a b"] {
        let error = metrics_error(metrics.gauge("air_core_workers", "x", &[(label, "1")]));
        assert!(matches!(error, MetricsError::BadLabel { .. }), "{label}");
    }
    assert!(metrics.gauge("air_core_workers", "x", &[("a", "1"), ("a", "2")]).is_err());
    assert_eq!(metrics.render(), "");
}

#[test]
fn labels_from_outside_cannot_fill_the_memory() {
    let metrics = Metrics::new();
    let ask = |i: usize| metrics.counter("air_serve_requests_total", "x", &[("path", &i.to_string())]);
    for i in 0..MAX_SERIES {
        ask(i).unwrap();
    }
    let error = metrics_error(ask(MAX_SERIES));
    assert_eq!(error.to_string(), "`air_serve_requests_total` has 1000 combinations of labels already");
    ask(0).unwrap().inc();
    assert_eq!(metrics.render().lines().count(), MAX_SERIES + 2);
}
