//! Spans as Chrome trace events, the format that Perfetto and `chrome://tracing` open.
//!
//! A complete event (`"ph": "X"`) for each span, times in microseconds; a lane is a thread with a name.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Span;

pub(super) fn render(spans: &[Span], on: bool, dropped: u64) -> String {
    let lanes: BTreeMap<&str, usize> = {
        let mut names: Vec<&str> = spans.iter().map(|span| &*span.lane).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().zip(1..).collect()
    };
    let name = |what: &str, thread: usize, name: &str| json!({"name": what, "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}});
    let mut events: Vec<Value> = vec![name("process_name", 0, "air")];
    events.extend(lanes.iter().map(|(lane, thread)| name("thread_name", *thread, lane)));
    events.extend(spans.iter().map(|span| {
        json!({
            "name": short(&span.name),
            "cat": span.kind,
            "ph": "X",
            "ts": micros(span.start),
            "dur": micros(span.duration),
            "pid": 1,
            "tid": lanes.get(&*span.lane),
            "args": {"name": span.name},
        })
    }));
    let about = json!({"tracing": if on { "on" } else { "off" }, "dropped_spans": dropped});
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}).to_string()
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// A type's name without the modules it lies in, its parameters included: `Option<Batch>` of `core::option::Option<my::Batch>`.
fn short(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    for part in name.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
        short.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn span(name: &'static str, lane: &str, start: u64, micros: u64) -> Span {
        let (start, duration) = (Duration::from_micros(start), Duration::from_micros(micros));
        Span { name: name.into(), lane: lane.into(), kind: "message", start, duration }
    }

    #[test]
    fn names_lose_their_modules() {
        assert_eq!(short("my::deep::Batch"), "Batch");
        assert_eq!(short("core::option::Option<alloc::vec::Vec<my::Batch>>"), "Option<Vec<Batch>>");
        assert_eq!(short("(a::B, c::D)"), "(B, D)");
        assert_eq!(short("load"), "load");
    }

    #[test]
    fn every_event_has_what_the_viewers_need() {
        let spans =
            [span("my::Add", "w/1", 10, 5), span("my::Get", "w/0", 12, 1), span("my::Add", "w/1", 20, 2)];
        let trace: Value = serde_json::from_str(&render(&spans, true, 3)).unwrap();
        assert_eq!(trace["otherData"], json!({"tracing": "on", "dropped_spans": 3}));
        let events = trace["traceEvents"].as_array().unwrap();
        // The process, two lanes, three spans.
        assert_eq!(events.len(), 6);
        for event in events {
            assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
            match event["ph"].as_str().unwrap() {
                "M" => assert!(event["args"]["name"].is_string()),
                "X" => {
                    assert!(event["ts"].is_number() && event["dur"].is_number() && event["cat"].is_string());
                }
                other => panic!("{other}"),
            }
        }
        let lane = |event: &Value| {
            let named = events.iter().find(|e| e["name"] == "thread_name" && e["tid"] == event["tid"]);
            named.unwrap()["args"]["name"].as_str().unwrap().to_owned()
        };
        let x: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(
            (x[0]["name"].as_str(), x[0]["ts"].as_f64(), x[0]["dur"].as_f64()),
            (Some("Add"), Some(10.0), Some(5.0))
        );
        assert_eq!([lane(x[0]), lane(x[1]), lane(x[2])], ["w/1", "w/0", "w/1"]);
    }
}
