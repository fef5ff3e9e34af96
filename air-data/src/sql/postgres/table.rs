//! [`Name`]: what a table is called: its own name, and perhaps its schema's before a dot.

use air_core::BoxError;

use super::super::quoted;

/// The server cuts longer names.
const MAX_NAME_BYTES: usize = 63;

/// A table's name. Names are taken as they are written, capitals and all; one with a dot in it stands in double quotes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    schema: Option<String>,
    own: String,
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, BoxError> {
        let mut parts = vec![String::new()];
        let (mut quotes, mut left) = (false, text.chars().peekable());
        while let Some(letter) = left.next() {
            match letter {
                '"' if quotes && left.peek() == Some(&'"') => {
                    left.next();
                    if let Some(part) = parts.last_mut() {
                        part.push('"');
                    }
                }
                '"' => quotes = !quotes,
                '.' if !quotes => parts.push(String::new()),
                letter => {
                    if let Some(part) = parts.last_mut() {
                        part.push(letter);
                    }
                }
            }
        }
        let bad = |why: &str| -> BoxError {
            format!("'{text}' is no name of a table: {why}; expected table or schema.table, with double quotes where a name has a dot").into()
        };
        if quotes {
            return Err(bad("a quote is not closed"));
        }
        if let Some(long) = parts.iter().find(|part| part.len() > MAX_NAME_BYTES) {
            return Err(bad(&format!("{} bytes, and the server takes {MAX_NAME_BYTES}", long.len())));
        }
        if parts.iter().any(|part| part.is_empty() || part.contains('\0')) {
            return Err(bad("a name is empty"));
        }
        let own = parts.pop().unwrap_or_default();
        match (parts.pop(), parts.is_empty()) {
            (schema, true) => Ok(Self { schema, own }),
            _ => Err(bad("there are more than two names")),
        }
    }

    /// Its own name.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    pub(super) fn in_sql(&self) -> Result<String, BoxError> {
        self.called(&self.own)
    }

    /// Another table beside it.
    pub(super) fn beside(&self, number: u32) -> Result<String, BoxError> {
        self.called(&format!("air_data_new_{number:08x}"))
    }

    fn called(&self, own: &str) -> Result<String, BoxError> {
        Ok(match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema)?, quoted(own)?),
            None => quoted(own)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_with_schemas_and_quotes() {
        for (text, sql) in [
            ("t", r#""t""#),
            ("sales.Orders", r#""sales"."Orders""#),
            (r#"sales."Q1.2024""#, r#""sales"."Q1.2024""#),
            (r#""a ""b"".c""#, r#""a ""b"".c""#),
            ("drop table x; --", r#""drop table x; --""#),
        ] {
            assert_eq!(Name::parse(text).unwrap().in_sql().unwrap(), sql);
        }
        assert_eq!(Name::parse("s.t").unwrap().beside(7).unwrap(), r#""s"."air_data_new_00000007""#);
        let long = "x".repeat(64);
        for (text, why) in [
            ("", "empty"),
            ("a.", "empty"),
            ("a.b.c", "more than two"),
            ("\"a", "not closed"),
            ("a\0", "empty"),
            (&long, "64 bytes"),
        ] {
            let error = Name::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("expected table or schema.table"), "{error}");
        }
    }
}
