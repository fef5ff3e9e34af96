//! Searchers for a program in another language: JSON lines on standard input and output.
//!
//! ```text
//! -> {"op": "init", "space": [{"name": "x", "kind": "float", "low": 0, "high": 1, "log": false}], "seed": 1, "searcher": {"kind": "tpe"}}
//! <- {"ok": true}
//! -> {"op": "ask"}
//! <- {"id": 0, "params": {"x": 0.25}}
//! -> {"op": "tell", "id": 0, "value": 1.5}
//! <- {"ok": true}
//! ```
//! The searcher is a `SearchConfig`. Kinds are float, int and choice (with `choices`); `"when": ["model", "svm"]` makes a parameter exist only where another has that value.

use std::io::{BufRead, Write};

use air_core::BoxError;
use air_core::seed::Seed;
use air_tune::Mode;
use air_tune::search::{Outcome, SearchConfig, Searcher};
use air_tune::space::{Domain, Space, choice, int_uniform, log_int_uniform, log_uniform, uniform};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Message {
    Init { space: Vec<Param>, seed: u64, searcher: SearchConfig },
    Ask,
    Tell { id: u64, value: f64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Param {
    name: String,
    kind: Kind,
    #[serde(default)]
    low: f64,
    #[serde(default)]
    high: f64,
    #[serde(default)]
    log: bool,
    #[serde(default)]
    choices: Vec<Value>,
    when: Option<(String, Value)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Float,
    Int,
    Choice,
}

impl Param {
    fn domain(&self) -> Domain {
        let (low, high) = (self.low as i64, self.high as i64);
        match (&self.kind, self.log) {
            (Kind::Float, false) => uniform(self.low, self.high),
            (Kind::Float, true) => log_uniform(self.low, self.high),
            (Kind::Int, false) => int_uniform(low..=high),
            (Kind::Int, true) => log_int_uniform(low..=high),
            (Kind::Choice, _) => choice(self.choices.clone()),
        }
    }
}

fn searcher(config: &SearchConfig, params: &[Param], seed: u64) -> Result<Box<dyn Searcher>, BoxError> {
    let space = params.iter().fold(Space::new(), |space, param| match &param.when {
        Some((path, value)) => {
            space.when(path, [value.clone()], Space::new().with(&param.name, param.domain()))
        }
        None => space.with(&param.name, param.domain()),
    });
    Ok(config.build(&space, &[Mode::Min], u64::MAX, Seed::new(seed))?)
}

fn main() -> Result<(), BoxError> {
    let mut searching: Option<Box<dyn Searcher>> = None;
    let mut next = 0;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let message = serde_json::from_str(&line?)?;
        let answer = match (message, &mut searching) {
            (Message::Init { space, seed, searcher: config }, _) => {
                searching = Some(searcher(&config, &space, seed)?);
                next = 0;
                json!({"ok": true})
            }
            (Message::Ask, Some(search)) => {
                let params = search.ask(next).ok_or("the search is over")?;
                next += 1;
                json!({"id": next - 1, "params": params.to_config()})
            }
            (Message::Tell { id, value }, Some(search)) => {
                search.tell(id, Outcome::Complete(value));
                json!({"ok": true})
            }
            (_, None) => return Err("the first message must be `init`".into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
