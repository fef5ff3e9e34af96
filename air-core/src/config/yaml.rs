//! YAML, read into the same tables as TOML, with the line of each key.
//!
//! A configuration needs little of YAML: mappings, sequences and scalars (of the core schema of YAML 1.2) in one document. Aliases are
//! refused, for a few of them can stand for more values than there is memory.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use toml::{Table, Value};

/// Nothing is nested deeper.
const MAX_DEPTH: usize = 32;

/// What is wrong, and in which line.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) message: String,
}

impl From<ScanError> for Mistake {
    fn from(error: ScanError) -> Self {
        Mistake { line: error.marker().line(), message: error.info().into() }
    }
}

/// Reads a text; `note` hears of each key, as `runs[0].name`, and its line. A key whose value is null is left out.
pub(super) fn parse(text: &str, note: &mut impl FnMut(String, usize)) -> Result<Table, Mistake> {
    let lines = text.lines().count().max(1);
    // What is missing at the end is missed behind it.
    document(text, note).map_err(|mistake| Mistake { line: mistake.line.min(lines), ..mistake })
}

fn document(text: &str, note: &mut impl FnMut(String, usize)) -> Result<Table, Mistake> {
    let mut reader = Reader { events: Parser::new_from_str(text), note };
    let mut table = Table::new();
    loop {
        let (event, at) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd if table.is_empty() => {}
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(table),
            Event::MappingStart(..) if table.is_empty() => table = reader.mapping("", 0)?,
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => {}
            Event::DocumentStart(_) => return Err(mistake(at, "there is more than one document")),
            _ => return Err(mistake(at, "expected keys and values, as in `port: 8000`")),
        }
    }
}

struct Reader<'a, N> {
    events: Parser<'a, StrInput<'a>>,
    note: &'a mut N,
}

impl<'a, N: FnMut(String, usize)> Reader<'a, N> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Mistake> {
        let end = || Mistake { line: 1, message: "the text ends early".into() };
        Ok(self.events.next().ok_or_else(end)??)
    }

    /// The rest of a mapping whose start was read.
    fn mapping(&mut self, path: &str, depth: usize) -> Result<Table, Mistake> {
        let mut table = Table::new();
        loop {
            let (event, at) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(table),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(mistake(at, "a key must be a word or a number")),
            };
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{key}");
            if table.contains_key(&key) {
                return Err(mistake(at, format!("`{path}` is there twice")));
            }
            (self.note)(path.clone(), at.start.line());
            if let Some(value) = self.value(&path, depth + 1)? {
                table.insert(key, value);
            }
        }
    }

    /// The rest of a sequence whose start was read.
    fn sequence(&mut self, path: &str, depth: usize) -> Result<Vec<Value>, Mistake> {
        let mut items = Vec::new();
        loop {
            let path = format!("{path}[{}]", items.len());
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            (self.note)(path.clone(), at.start.line());
            let item = self.value_from(event, at, &path, depth + 1)?;
            items.push(item.ok_or_else(|| mistake(at, format!("`{path}` is null")))?);
        }
    }

    fn value(&mut self, path: &str, depth: usize) -> Result<Option<Value>, Mistake> {
        let (event, at) = self.next()?;
        self.value_from(event, at, path, depth)
    }

    /// The value that begins with this event; `None` for null.
    fn value_from(
        &mut self,
        event: Event<'a>,
        at: Span,
        path: &str,
        depth: usize,
    ) -> Result<Option<Value>, Mistake> {
        if depth > MAX_DEPTH {
            return Err(mistake(at, format!("this is nested more than {MAX_DEPTH} deep")));
        }
        Ok(Some(match event {
            Event::MappingStart(..) => Value::Table(self.mapping(path, depth)?),
            Event::SequenceStart(..) => Value::Array(self.sequence(path, depth)?),
            Event::Scalar(text, style, _, tag) => match tag {
                None if style == ScalarStyle::Plain => return Ok(plain(&text)),
                Some(tag) if !is_string(&tag) => {
                    return Err(mistake(at, format!("the tag {tag} means nothing here")));
                }
                _ => Value::String(text.into_owned()),
            },
            Event::Alias(_) => return Err(mistake(at, "aliases are not supported: write the value out")),
            _ => return Err(mistake(at, "expected a value")),
        }))
    }
}

fn mistake(at: Span, message: impl Into<String>) -> Mistake {
    Mistake { line: at.start.line(), message: message.into() }
}

fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a scalar without quotes means; `None` for null.
fn plain(text: &str) -> Option<Value> {
    if is_null(text) {
        return None;
    }
    let radix = |prefix: &str, radix: u32| i64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let number = digits && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    Some(match text {
        "true" | "True" | "TRUE" => Value::Boolean(true),
        "false" | "False" | "FALSE" => Value::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => {
            let integer = if number { text.parse().ok() } else { radix("0x", 16).or_else(|| radix("0o", 8)) };
            let float = || if number { text.parse().ok() } else { None };
            match integer {
                Some(integer) => Value::Integer(integer),
                None => float().map_or_else(|| Value::String(text.to_owned()), Value::Float),
            }
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Table {
        parse(text, &mut |_, _| {}).unwrap()
    }

    #[test]
    fn what_scalars_mean() {
        let table = read(
            "a: 1\nb: -2.5e3\nc: true\nd: text with 7\ne: '7'\nf: 0x1F\ng: 0o17\nh: 1.2.3\ni: 127.0.0.1\n\
             j: !!str 5\nk: e\nl: .5\nm: -.inf\nn: 99999999999999999999\no: yes\n",
        );
        let toml = "a = 1\nb = -2500.0\nc = true\nd = 'text with 7'\ne = '7'\nf = 31\ng = 15\nh = '1.2.3'\n\
             i = '127.0.0.1'\nj = '5'\nk = 'e'\nl = 0.5\nm = -inf\nn = 1e20\no = 'yes'\n";
        assert_eq!(table, toml.parse::<Table>().unwrap());
    }

    #[test]
    fn tables_lists_and_nulls() {
        let table = read(
            "---\na:\n  b: [1, {c: 2}]\n  d:\n  - e: ~\n    f: 1\nnothing: null\nempty:\nlast: {}\n...\n",
        );
        assert_eq!(table, "last = {}\n[a]\nb = [1, {c = 2}]\nd = [{f = 1}]\n".parse::<Table>().unwrap());
        assert!(read("").is_empty() && read("# only a comment\n").is_empty() && read("null").is_empty());
    }

    #[test]
    fn keys_know_their_lines() {
        let mut lines = Vec::new();
        parse("a: 1\nlist:\n- b: 2\n- b: 3\n  c: 4\n", &mut |key, line| lines.push(format!("{line} {key}")))
            .unwrap();
        assert_eq!(
            lines,
            ["1 a", "2 list", "3 list[0]", "3 list[0].b", "4 list[1]", "4 list[1].b", "5 list[1].c"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let deep = format!("a: {}", "[".repeat(40));
        for (text, line, says) in [
            ("a: 1\nb: [1, 2", 2, ""),
            ("a: 1\n b: 2\n", 2, ""),
            ("a: b: c\n", 1, ""),
            ("a: 1\nb: 2\na: 3\n", 3, "`a` is there twice"),
            ("a: &x 1\nb: *x\n", 2, "aliases are not supported"),
            ("a: !!binary aGk=\n", 1, "means nothing here"),
            ("a: 1\n---\nb: 2\n", 2, "more than one document"),
            ("- 1\n", 1, "expected keys and values"),
            ("text", 1, "expected keys and values"),
            ("a: 1\nb: [1, null]\n", 2, "`b[1]` is null"),
            ("[1]: 2\n", 1, ""),
            (deep.as_str(), 1, "nested more than"),
        ] {
            let mistake = parse(text, &mut |_, _| {}).unwrap_err();
            assert!(mistake.message.contains(says) && mistake.line == line, "{text:?}: {mistake:?}");
        }
    }
}
