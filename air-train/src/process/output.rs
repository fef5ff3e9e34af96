//! What a rank prints: lines to pass on, and among them JSON objects with metrics.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// The longest line that is read whole, in bytes; the rest of a longer one is dropped.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// The most metrics taken from one line.
const MAX_METRICS: usize = 1000;

/// A report in a line of output.
#[derive(Debug, PartialEq)]
pub(super) struct Printed {
    pub metrics: BTreeMap<String, f64>,
    /// A file or directory that the rank has finished writing.
    pub checkpoint: Option<PathBuf>,
}

/// The report in a line: a JSON object whose numbers are metrics, and whose `checkpoint`, if any, is a path.
pub(super) fn report(line: &str) -> Option<Printed> {
    if !line.trim_start().starts_with('{') {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let checkpoint = object.get("checkpoint").and_then(|path| path.as_str()).map(PathBuf::from);
    let metrics: BTreeMap<String, f64> = object
        .into_iter()
        .filter_map(|(name, value)| value.as_f64().map(|value| (name, value)))
        .take(MAX_METRICS)
        .collect();
    (!metrics.is_empty() || checkpoint.is_some()).then_some(Printed { metrics, checkpoint })
}

/// Calls `each` with every line of `stream`, without its end, until the stream ends or `each` says false.
pub(super) fn lines(stream: impl Read, mut each: impl FnMut(String) -> bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if stream.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == MAX_LINE_BYTES {
            stream.skip_until(b'\n')?;
        }
        if !each(String::from_utf8_lossy(&line).into_owned()) {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_json_object_with_numbers() {
        let printed = report(r#"{"loss": 0.5, "epoch": 2, "note": "x", "checkpoint": "/tmp/c"}"#).unwrap();
        assert_eq!(printed.metrics, BTreeMap::from([("loss".to_owned(), 0.5), ("epoch".to_owned(), 2.0)]));
        assert_eq!(printed.checkpoint, Some(PathBuf::from("/tmp/c")));
        for line in ["loss 0.5", "{broken", "[1]", "{}", r#"{"text": "x"}"#, ""] {
            assert_eq!(report(line), None, "{line}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_the_last_needs_no_end() {
        let long = "x".repeat(3 << 20);
        let mut seen = Vec::new();
        lines(format!("a\n{long}\nb").as_bytes(), |line| {
            seen.push(line);
            true
        })
        .unwrap();
        assert_eq!(seen.iter().map(String::len).collect::<Vec<_>>(), [1, 1 << 20, 1]);
        assert_eq!((seen[0].as_str(), seen[2].as_str()), ("a", "b"));
    }
}
