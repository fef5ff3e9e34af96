//! [`Bohb`]: a Parzen estimator that learns from trials that were stopped at different iterations.
//!
//! Falkner, Klein, Hutter: "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, to be used with HyperBand: values are compared at one iteration only, the latest that
//! enough trials have reached; and a share of the trials is drawn at random, whatever was learned.

use std::collections::{BTreeMap, BTreeSet};

use air_core::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::super::rank::Rank;
use super::super::{Mode, Outcome, Searcher};
use super::{Tpe, TpeConfig};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::schedule::HyperBandConfig;
use crate::space::{Assignment, Space};

/// Settings of [`Bohb`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BohbConfig {
    /// Iterations at which values are compared, in order: HyperBand's rungs.
    pub rungs: Vec<u64>,
    /// Trials that must have reached a rung before it is learned from; parameters + 1 if not given.
    pub min_trials: Option<usize>,
    /// The share of trials that is drawn at random.
    pub random_share: f64,
    /// The estimator's settings.
    pub tpe: TpeConfig,
}

impl Default for BohbConfig {
    fn default() -> Self {
        Self::of(&HyperBandConfig::default())
    }
}

impl BohbConfig {
    /// Settings for trials that HyperBand schedules.
    pub fn of(hyperband: &HyperBandConfig) -> Self {
        let tpe = TpeConfig { candidates: 64, good_share: 0.15, ..TpeConfig::default() };
        Self { rungs: hyperband.rungs(), min_trials: None, random_share: 1.0 / 3.0, tpe }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if self.rungs.is_empty() || self.rungs[0] == 0 || !self.rungs.is_sorted_by(|a, b| a < b) {
            return bad("search.rungs", "must be iterations from 1 on, in order");
        }
        if self.min_trials == Some(0) {
            return bad("search.min_trials", "must be at least 1");
        }
        if !(0.0..=1.0).contains(&self.random_share) {
            return bad("search.random_share", "must lie between 0 and 1");
        }
        self.tpe.validate()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Bohb {
    config: BohbConfig,
    tpe: Tpe,
    /// Of each trial: the highest rung it has reached, and its value at each.
    reached: BTreeMap<TrialId, Vec<f64>>,
    /// How many trials have reached each rung.
    counts: Vec<usize>,
    failed: BTreeSet<TrialId>,
}

impl Bohb {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`].
    pub fn new(space: &Space, mode: Mode, trials: u64, config: BohbConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let tpe = TpeConfig { startup_trials: 1, ..config.tpe.clone() };
        let counts = vec![0; config.rungs.len()];
        let tpe = Tpe::new(space, mode, trials, tpe, seed)?;
        Ok(Self { config, tpe, reached: BTreeMap::new(), counts, failed: BTreeSet::new() })
    }

    /// The highest rung that enough trials have reached.
    fn rung(&self) -> Option<usize> {
        let least = self.config.min_trials.unwrap_or(self.tpe.axes.len() + 1);
        self.counts.iter().rposition(|count| *count >= least)
    }

    /// Files a value at all rungs up to an iteration that the trial has not been at.
    fn reach(&mut self, trial: TrialId, iteration: u64, value: f64) {
        let upto = self.config.rungs.partition_point(|rung| *rung <= iteration);
        let values = self.reached.entry(trial).or_default();
        for rung in values.len()..upto {
            values.push(value);
            self.counts[rung] += 1;
        }
    }

    /// Ranks all trials by their values at one rung; those that are not there yet count as running.
    fn rank_at(&mut self, rung: usize) {
        for (trial, past) in &mut self.tpe.past {
            let value = self.reached.get(trial).and_then(|values| values.get(rung)).copied();
            past.rank = match value {
                _ if self.failed.contains(trial) => Rank::of(Outcome::Failed, self.tpe.mode),
                Some(value) if value.is_nan() => Rank::of(Outcome::Failed, self.tpe.mode),
                Some(value) => Rank::of(Outcome::Complete(value), self.tpe.mode),
                None => Rank::RUNNING,
            };
        }
    }
}

impl Searcher for Bohb {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.tpe.trials {
            return None;
        }
        let seed = self.tpe.seed.child("bohb", trial);
        let rung = self.rung().filter(|_| !seed.rng().random_bool(self.config.random_share));
        let point = if let Some(rung) = rung {
            self.rank_at(rung);
            self.tpe.axes.point(|group| self.tpe.draw(group, seed))
        } else {
            let mut rng = seed.child("random", 0).rng();
            let units: Vec<f64> = (0..self.tpe.axes.len()).map(|_| rng.random()).collect();
            self.tpe.axes.at(&units)
        };
        self.tpe.remember(trial, &point);
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        if outcome == Outcome::Failed {
            self.failed.insert(trial);
        }
        // A trial that reports once, at its end, has gone all the way.
        if let Outcome::Complete(value) = outcome {
            self.reach(trial, self.config.rungs.last().copied().unwrap_or(1), value);
        }
        // What the estimator has forgotten is forgotten here too.
        if self.reached.len() > 2 * self.tpe.past.len() + 16 {
            let past = &self.tpe.past;
            self.reached.retain(|trial, _| past.contains_key(trial));
            self.failed.retain(|trial| past.contains_key(trial));
        }
    }

    fn observe(&mut self, trial: TrialId, iteration: u64, value: f64) {
        self.reach(trial, iteration, value);
    }

    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        self.tpe.remember(trial, assignment);
    }

    fn total(&self) -> Option<u64> {
        Some(self.tpe.trials)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::space::uniform;
    use crate::testing;

    #[test]
    fn it_is_a_searcher() {
        testing::searcher(|space, seed| {
            Box::new(Bohb::new(space, Mode::Min, 40, BohbConfig::default(), seed).unwrap())
        });
    }

    #[test]
    fn values_are_compared_at_the_highest_rung_that_enough_have_reached() {
        let space = Space::new().with("x", uniform(0.0, 1.0));
        let config = BohbConfig { rungs: vec![1, 3, 9], min_trials: Some(3), ..BohbConfig::default() };
        let mut search = Bohb::new(&space, Mode::Min, 100, config, Seed::new(0)).unwrap();
        for trial in 0..4 {
            search.ask(trial).unwrap();
            search.observe(trial, 1, 10.0 - trial as f64);
        }
        assert_eq!(search.rung(), Some(0));
        for (trial, value) in [(0, 1.0), (1, 5.0), (2, f64::NAN)] {
            search.observe(trial, 4, value);
            search.observe(trial, 4, 99.0);
        }
        assert_eq!(search.rung(), Some(1));
        search.rank_at(1);
        let ranks: Vec<Rank> = search.tpe.past.values().map(|past| past.rank).collect();
        let of = |outcome| Rank::of(outcome, Mode::Min);
        assert_eq!(
            ranks,
            [of(Outcome::Complete(1.0)), of(Outcome::Complete(5.0)), of(Outcome::Failed), Rank::RUNNING]
        );
        search.tell(3, Outcome::Complete(0.5));
        assert_eq!(search.counts, [4, 4, 1]);
    }

    #[test]
    fn it_learns_from_trials_that_never_ended_well() {
        let space = Space::new().with("x", uniform(0.0, 1.0)).with("y", uniform(0.0, 1.0));
        let mut search = Bohb::new(&space, Mode::Min, 200, BohbConfig::default(), Seed::new(1)).unwrap();
        let mut near = 0;
        for trial in 0..120 {
            let point = search.ask(trial).unwrap();
            let number = |path| point.get(path).unwrap().as_f64().unwrap();
            let value = (number("x") - 0.2).powi(2) + (number("y") - 0.7).powi(2);
            near += u32::from(trial >= 60 && value < 0.04);
            search.observe(trial, 1, value);
            search.tell(trial, Outcome::Stopped(value));
        }
        // Of sixty at random, seven and a half; a third of them is.
        assert!(near >= 20, "{near} of sixty are near");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, field) in [
            (BohbConfig { rungs: vec![3, 1], ..BohbConfig::default() }, "rungs"),
            (BohbConfig { min_trials: Some(0), ..BohbConfig::default() }, "min_trials"),
            (BohbConfig { random_share: 2.0, ..BohbConfig::default() }, "random_share"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
    }
}
