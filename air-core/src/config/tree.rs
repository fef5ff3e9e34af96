//! [`Tree`]: the values of all sources in one table, with where each comes from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Origin};
use super::yaml::{self, Mistake};

/// No key has more parts.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) table: Table,
    file: Option<std::path::PathBuf>,
    /// By key, as `serde_path_to_error` writes it: `runs[0].name`.
    origins: BTreeMap<String, Origin>,
    /// The text of what variables and flags set, by key.
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// Takes over a file: YAML if its name says so, else TOML.
    pub(super) fn from_file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Self::from_yaml(path, text),
            _ => Self::from_toml(path, text),
        }
    }

    fn from_yaml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut tree = Self { file: Some(path.into()), ..Self::default() };
        let mut note = |key: String, line: usize| {
            tree.origins.insert(key, Origin::File { path: path.into(), line: Some(line) });
        };
        tree.table = yaml::parse(text, &mut note)
            .map_err(|Mistake { line, message }| ConfigError::Syntax { path: path.into(), line, message })?;
        Ok(tree)
    }

    fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let line_of = |at: usize| 1 + text.get(..at).unwrap_or(text).matches('\n').count();
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.into(),
            line: line_of(error.span().map_or(0, |span| span.start)),
            message: error.message().into(),
        };
        let table = text.parse::<Table>().map_err(syntax)?;
        let spanned = DeTable::parse(text).map_err(syntax)?;
        let mut tree = Self { table, file: Some(path.into()), ..Self::default() };
        let mut note = |key: String, at: usize| {
            tree.origins.insert(key, Origin::File { path: path.into(), line: Some(line_of(at)) });
        };
        walk_table("", spanned.get_ref(), &mut note);
        Ok(tree)
    }

    /// Sets one key. The text is a TOML value; one that is not is a string.
    pub(super) fn set(&mut self, key: &[&str], text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let bad = |reason: String| ConfigError::BadOverride { origin: origin.clone(), reason };
        let Some((last, parents)) = key.split_last().filter(|_| key.iter().all(|part| !part.is_empty()))
        else {
            return Err(bad("the key is empty, or a part of it".into()));
        };
        if key.len() > MAX_DEPTH {
            return Err(bad(format!("the key has more than {MAX_DEPTH} parts")));
        }
        let mut table = &mut self.table;
        for (depth, part) in parents.iter().enumerate() {
            let inner = table.entry(*part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else {
                return Err(bad(format!("`{}` is a value, not a table", key[..=depth].join("."))));
            };
            table = inner;
        }
        table.insert((*last).to_owned(), value_of(text));
        let key = key.join(".");
        self.texts.insert(key.clone(), text.to_owned());
        self.origins.insert(key, origin.clone());
        Ok(())
    }

    /// Where a key comes from: itself, or the nearest table around it.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let mut around = key;
        loop {
            if let Some(origin) = self.origins.get(around) {
                return origin.clone();
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break,
            }
        }
        match &self.file {
            Some(path) => Origin::File { path: path.clone(), line: None },
            None => Origin::Defaults,
        }
    }

    /// Makes a string of a key that a variable or flag set to something that looked like another type. Returns
    /// whether that changed anything.
    pub(super) fn as_string(&mut self, key: &str) -> bool {
        let Some(text) = self.texts.remove(key) else { return false };
        let mut parts = key.split('.').peekable();
        let mut table = &mut self.table;
        while let Some(part) = parts.next() {
            match table.get_mut(part) {
                Some(value) if parts.peek().is_none() => {
                    let changed = !value.is_str();
                    *value = Value::String(text);
                    return changed;
                }
                Some(Value::Table(inner)) => table = inner,
                _ => return false,
            }
        }
        false
    }
}

fn value_of(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let single = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    single.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn walk_table(prefix: &str, table: &DeTable<'_>, note: &mut impl FnMut(String, usize)) {
    for (key, value) in table {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}", key.get_ref());
        note(path.clone(), key.span().start);
        walk_value(&path, value, note);
    }
}

fn walk_value(path: &str, value: &Spanned<DeValue<'_>>, note: &mut impl FnMut(String, usize)) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(path, table, note),
        DeValue::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                let path = format!("{path}[{index}]");
                note(path.clone(), value.span().start);
                walk_value(&path, value, note);
            }
        }
        _ => {}
    }
}
