//! Arguments with placeholders.

use serde_json::Value;

use crate::config::Config;
use crate::error::{Result, TuneError};
use crate::space::Space;

/// The command line of a trial, and the names of its variables.
///
/// `{name}` stands for a parameter if `name` consists of letters, digits and `_.-`; other braces stand for themselves, so JSON and shell code can be
/// written as they are. `{{name}}` gives `{name}`.
#[derive(Debug)]
pub(super) struct Template {
    args: Vec<Vec<Piece>>,
    /// Path of each parameter, and its variable.
    variables: Vec<(String, String)>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Param(String),
}

impl Template {
    pub fn new(argv: &[String], space: &Space) -> Result<Self> {
        let known = || space.params().iter().map(|param| param.path.clone()).collect::<Vec<_>>();
        let args: Vec<Vec<Piece>> = argv.iter().map(|arg| pieces(arg)).collect();
        for piece in args.iter().flatten() {
            if let Piece::Param(name) = piece
                && space.get(name).is_none()
            {
                return Err(TuneError::Placeholder { name: name.clone(), known: known() });
            }
        }
        let mut variables: Vec<(String, String)> = Vec::new();
        for path in known() {
            let variable = variable(&path);
            if let Some((other, _)) = variables.iter().find(|(_, taken)| *taken == variable) {
                let reason = format!("its variable {variable} is also that of `{other}`");
                return Err(TuneError::space(path, reason));
            }
            variables.push((path, variable));
        }
        Ok(Self { args, variables })
    }

    /// The command line for one configuration. A parameter that does not exist there is empty.
    pub fn argv(&self, config: &Config) -> Vec<String> {
        let fill = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Param(path) => config.get(path).map(text).unwrap_or_default(),
        };
        self.args.iter().map(|pieces| pieces.iter().map(fill).collect()).collect()
    }

    /// The variables for one configuration; those of parameters that do not exist there are not set.
    pub fn env<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a str, String)> {
        self.variables
            .iter()
            .filter_map(|(path, name)| config.get(path).map(|value| (name.as_str(), text(value))))
    }
}

fn variable(path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    std::iter::once("AIR_PARAM_".to_owned()).chain(path.chars().map(|c| plain(c).to_string())).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The name after an opening brace, if `rest` is `name}…`.
fn name(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c)))?;
    (end > 0 && rest[end..].starts_with('}')).then(|| &rest[..end])
}

fn pieces(arg: &str) -> Vec<Piece> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), arg);
    while let Some(open) = rest.find('{') {
        plain.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let doubled =
            after.strip_prefix('{').and_then(name).filter(|n| after[n.len() + 2..].starts_with('}'));
        if let Some(literal) = doubled {
            plain.extend(["{", literal, "}"]);
            rest = &after[literal.len() + 3..];
        } else if let Some(param) = name(after) {
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Param(param.to_owned()));
            rest = &after[param.len() + 1..];
        } else {
            plain.push('{');
            rest = after;
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::space::{choice, uniform};

    fn filled(args: &[&str]) -> Vec<String> {
        let space = Space::new().with("lr", uniform(0.0, 1.0)).with("net.kind", choice(["mlp"]));
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let config: Config = serde_json::from_str(r#"{"lr": 0.5, "net": {"kind": "mlp"}}"#).unwrap();
        Template::new(&args, &space).unwrap().argv(&config)
    }

    #[test]
    fn only_names_in_braces_are_placeholders() {
        assert_eq!(filled(&["--lr={lr}", "{net.kind}-{lr}", "plain"]), ["--lr=0.5", "mlp-0.5", "plain"]);
        assert_eq!(filled(&[r#"echo '{"loss": {lr}}'"#]), [r#"echo '{"loss": 0.5}'"#]);
        assert_eq!(
            filled(&["{ print $1 }", "{}", "{", "}", "a{b", "{{lr}}", "{\"a\":{\"b\":{lr}}}"]),
            ["{ print $1 }", "{}", "{", "}", "a{b", "{lr}", "{\"a\":{\"b\":0.5}}"]
        );
    }

    #[test]
    fn unknown_names_and_shared_variables_are_refused() {
        let space = Space::new().with("a-b", 1).with("a_b", 2);
        let error = Template::new(&[], &space).unwrap_err().to_string();
        assert_eq!(error, "parameter `a_b`: its variable AIR_PARAM_A_B is also that of `a-b`");
        let error = Template::new(&["{rl}".into()], &Space::new().with("lr", 1)).unwrap_err().to_string();
        assert_eq!(error, "placeholder `{rl}` is no parameter of the space (lr)");
    }

    proptest::proptest! {
        #[test]
        fn no_argument_panics(arg in "[{}a-c.é ]{0,20}") {
            let _ = pieces(&arg);
        }
    }
}
