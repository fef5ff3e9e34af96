//! [`ByRun`]: parameters that trials name while they run.

use std::collections::BTreeMap;

use air_core::seed::Seed;
use serde_json::Value;

use super::tpe::{Tpe, TpeConfig};
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::Result;
use crate::space::{Assignment, Domain, Space};

/// A Parzen estimator for each parameter that has been asked for; one asked for with another domain begins anew.
#[derive(Debug)]
pub(crate) struct ByRun {
    mode: Mode,
    seed: Seed,
    params: BTreeMap<String, (Domain, Tpe)>,
}

impl ByRun {
    pub fn new(mode: Mode, seed: Seed) -> Self {
        Self { mode, seed, params: BTreeMap::new() }
    }

    fn param(&mut self, path: &str, domain: &Domain) -> Result<&mut Tpe> {
        if self.params.get(path).is_none_or(|(known, _)| known != domain) {
            let space = Space::new().with(path, domain.clone());
            let (config, seed) = (TpeConfig::default(), self.seed.child(path, 0));
            let tpe = Tpe::new(&space, self.mode, u64::MAX, config, seed)?;
            self.params.insert(path.to_owned(), (domain.clone(), tpe));
        }
        match self.params.get_mut(path) {
            Some((_, tpe)) => Ok(tpe),
            None => unreachable!("it was just put there"),
        }
    }

    /// A value for a trial.
    pub fn ask(&mut self, trial: TrialId, path: &str, domain: &Domain) -> Result<Value> {
        let point = self.param(path, domain)?.ask(trial).unwrap_or_default();
        Ok(point.get(path).cloned().unwrap_or(Value::Null))
    }

    /// Takes the place of [`ask`](Self::ask) while the past is lived through again.
    pub fn replay(&mut self, trial: TrialId, path: &str, domain: &Domain, value: &Value) -> Result<()> {
        let mut point = Assignment::new();
        point.push(path, value.clone());
        self.param(path, domain)?.replay(trial, &point);
        Ok(())
    }

    /// What has been asked for.
    pub fn named(&self) -> Vec<(String, Domain)> {
        self.params.iter().map(|(path, (domain, _))| (path.clone(), domain.clone())).collect()
    }

    pub fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        for (_, tpe) in self.params.values_mut() {
            tpe.tell(trial, outcome);
        }
    }
}
