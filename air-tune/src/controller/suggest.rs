//! Parameters that a trial names while it runs.

use serde_json::Value;

use super::{Controller, Record};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Domain, check_path};

/// Most parameters that one trial names.
const MAX_NAMED: usize = 10_000;

impl Controller {
    /// The value of a trial's parameter: what it has already, or a new one.
    pub fn suggest(&mut self, trial: TrialId, path: &str, domain: &Domain) -> Result<Value> {
        let wrong = |reason: String| TuneError::space(path, reason);
        let bad = |reason: String| Err(wrong(reason));
        let Some(state) = self.trials.get(trial as usize) else {
            return bad("its trial is over".into());
        };
        if let Some(value) = state.assignment.get(path) {
            return if domain.contains(value) {
                Ok(value.clone())
            } else {
                bad(format!("the trial has {value} already, which lies outside of what is asked for now"))
            };
        }
        check_path(path).map_err(wrong)?;
        domain.check().map_err(wrong)?;
        if state.assignment.len() >= MAX_NAMED {
            return bad(format!("the trial has {MAX_NAMED} parameters already"));
        }
        let inside = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
        if state.assignment.iter().any(|(other, _)| inside(other, path) || inside(path, other)) {
            return bad("the name is both a value and an object".into());
        }
        let value = self.by_run.ask(trial, path, domain)?;
        self.trials[trial as usize].assignment.push(path, value.clone());
        let (seq, path, domain) = (self.tick(), path.to_owned(), domain.clone());
        self.outbox.push(Record::Suggested { seq, trial, path, domain, value: value.clone() });
        Ok(value)
    }

    /// The parameters that trials named.
    pub fn named(&self) -> Vec<(String, Domain)> {
        self.by_run.named()
    }
}
