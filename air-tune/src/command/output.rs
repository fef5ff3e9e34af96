//! What a command prints: reports among other lines, each with a limit.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};

use crate::values::from_json;

/// Longest line that can be a report.
const MAX_LINE: usize = 1 << 20;
/// How much of the end of standard error is kept with a failure.
const TAIL: usize = 4096;

/// Calls `each` with every line, without its end; what is longer than a megabyte is cut.
pub(super) fn lines(input: impl Read, mut each: impl FnMut(Vec<u8>) -> bool) -> std::io::Result<()> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() == MAX_LINE {
            skip_line(&mut input)?;
        }
        if !each(line) {
            return Ok(());
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok(());
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// The numbers of a line that is a JSON object. Python's bare `NaN` and `Infinity` are understood.
pub(super) fn numbers(line: &[u8]) -> Option<Vec<(String, f64)>> {
    let line = line.trim_ascii();
    if line.first() != Some(&b'{') {
        return None;
    }
    let object: Map<String, Value> = serde_json::from_slice(line)
        .or_else(|_| serde_json::from_str(&quote_bare_words(std::str::from_utf8(line).unwrap_or_default())))
        .ok()?;
    Some(
        object
            .into_iter()
            .filter_map(|(name, value)| from_json(&value).map(|number| (name, number)))
            .collect(),
    )
}

/// Puts quotes around `NaN`, `Infinity` and `-Infinity` that stand outside of strings.
fn quote_bare_words(text: &str) -> String {
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len() + 8), text, false);
    while let Some(c) = rest.chars().next() {
        let word =
            ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        let taken = match (word, c) {
            (Some(word), _) => {
                out.extend(["\"", word, "\""]);
                word.len()
            }
            (None, '\\') if quoted => {
                let pair = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                out.push_str(&rest[..pair]);
                pair
            }
            (None, c) => {
                quoted ^= c == '"';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// The end of a stream.
#[derive(Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }

    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reports_are_found_among_other_lines() {
        let named = |pairs: &[(&str, f64)]| {
            Some(pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>())
        };
        assert_eq!(
            numbers(br#" {"loss": 0.5, "name": "x", "ok": true, "n": 3} "#),
            named(&[("loss", 0.5), ("n", 3.0)])
        );
        assert_eq!(numbers(b"epoch 1: loss 0.5"), None);
        assert_eq!(numbers(b"{not json}"), None);
        assert_eq!(numbers(b"[1, 2]"), None);
        assert_eq!(numbers(b"{\"a\": \xff}"), None);
        let python = numbers(br#"{"loss": NaN, "a \" NaN": -Infinity, "b": Infinity}"#).unwrap();
        assert!(
            python[0].0 == "a \" NaN"
                || python.iter().any(|(n, v)| n == "a \" NaN" && *v == f64::NEG_INFINITY)
        );
        assert!(python.iter().any(|(n, v)| n == "loss" && v.is_nan()));
    }

    #[test]
    fn long_lines_and_long_streams_are_cut() {
        let input = [vec![b'x'; MAX_LINE + 10], b"\n{}\nlast".to_vec()].concat();
        let mut seen = Vec::new();
        lines(&input[..], |line| {
            seen.push(line);
            true
        })
        .unwrap();
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 2, 4]);
        let mut tail = Tail::default();
        tail.push(&[b'a'; 3 * TAIL]);
        tail.push(b"end");
        assert!(tail.text().len() == TAIL && tail.text().ends_with("aend"));
    }
}
