//! How the items of a stream are written.

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::Value;

use super::reply::problem_json;
use crate::stream::Raw;

/// How the items of a stream are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line of JSON for each item.
    Lines,
    /// Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
    Events,
    /// Items that are strings as they are, others as a line of JSON.
    Text,
    Bytes,
}

impl Format {
    /// What a client asks for. One that asks for nothing we have gets lines.
    pub(crate) fn of(headers: &HeaderMap, raw: bool) -> Self {
        let lists = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut best: Option<(f32, Format)> = None;
        for range in lists.flat_map(|list| list.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality: f32 = quality.and_then(|q| q.parse().ok()).unwrap_or(1.0);
            let format = match (kind.as_str(), raw) {
                ("text/plain", _) => Format::Text,
                ("text/event-stream", false) => Format::Events,
                ("application/x-ndjson" | "application/json" | "application/*" | "*/*", false) => {
                    Format::Lines
                }
                _ => continue,
            };
            if quality > 0.0 && best.is_none_or(|(other, _)| quality > other) {
                best = Some((quality, format));
            }
        }
        best.map_or(if raw { Format::Bytes } else { Format::Lines }, |(_, format)| format)
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Lines => "application/x-ndjson",
            Format::Events => "text/event-stream",
            Format::Text => "text/plain; charset=utf-8",
            Format::Bytes => "application/octet-stream",
        })
    }

    /// Writes what a stream failed with; whether there is a way to.
    pub(crate) fn write_error(self, error: &str, into: &mut Vec<u8>) -> bool {
        let problem = problem_json(error);
        let (before, after): (&[u8], &[u8]) = match self {
            Format::Lines => (b"", b"\n"),
            Format::Events => (b"event: error\ndata: ", b"\n\n"),
            // An error would be taken for a part of the answer.
            Format::Text | Format::Bytes => return false,
        };
        into.extend_from_slice(before);
        into.extend_from_slice(&problem);
        into.extend_from_slice(after);
        true
    }
}

/// Writes an item as JSON.
pub(crate) fn json<T: Serialize>(
    format: Format,
    item: &T,
    into: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    match format {
        Format::Events => {
            into.extend_from_slice(b"data: ");
            serde_json::to_writer(&mut *into, item)?;
            into.extend_from_slice(b"\n\n");
        }
        Format::Text => match serde_json::to_value(item)? {
            Value::String(text) => into.extend_from_slice(text.as_bytes()),
            other => {
                serde_json::to_writer(&mut *into, &other)?;
                into.push(b'\n');
            }
        },
        Format::Lines | Format::Bytes => {
            serde_json::to_writer(&mut *into, item)?;
            into.push(b'\n');
        }
    }
    Ok(())
}

/// Writes bytes as they are.
pub(crate) fn raw(_: Format, item: &Raw, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    into.extend_from_slice(&item.0);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for() {
        for (accept, format) in [
            ("text/event-stream", Format::Events),
            ("application/json, Text/Event-Stream", Format::Lines),
            ("application/json;q=0.5, text/event-stream", Format::Events),
            ("text/event-stream;q=0, */*;q=0.1", Format::Lines),
            ("text/plain; charset=utf-8", Format::Text),
            ("image/png", Format::Lines),
            ("", Format::Lines),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Format::of(&headers, false), format, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new(), false), Format::Lines);
        assert_eq!(Format::of(&HeaderMap::new(), true), Format::Bytes);
        let text = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/plain"))]);
        assert_eq!(Format::of(&text, true), Format::Text);
    }

    #[test]
    fn items_as_they_are_written() {
        let written = |format| {
            let mut into = Vec::new();
            json(format, &"a\n\"b\"", &mut into).unwrap();
            json(format, &[1, 2], &mut into).unwrap();
            format.write_error("it broke", &mut into);
            String::from_utf8(into).unwrap()
        };
        assert_eq!(written(Format::Lines), "\"a\\n\\\"b\\\"\"\n[1,2]\n{\"error\":\"it broke\"}\n");
        assert_eq!(
            written(Format::Events),
            "data: \"a\\n\\\"b\\\"\"\n\ndata: [1,2]\n\nevent: error\ndata: {\"error\":\"it broke\"}\n\n"
        );
        assert_eq!(written(Format::Text), "a\n\"b\"[1,2]\n");
    }
}
