//! [`Tpe`]: the tree-structured Parzen estimator, multivariate, with conditional groups.
//!
//! Bergstra, Bardenet, Bengio, Kégl: "Algorithms for Hyper-Parameter Optimization", 2011. The trials are split into the good ones and the rest, a density is
//! put on each, and of points drawn from the good ones' density the one is taken where it exceeds the other's most, which maximises the expected improvement.
//! Densities are joint over parameters that exist together (Falkner et al. 2018); what exists under conditions is its own group, whose densities see the trials
//! that had it. The defaults follow Watanabe, "Tree-Structured Parzen Estimator: Understanding Its Algorithm Components", 2023.

mod bohb;
mod parzen;

use std::collections::{BTreeMap, HashSet};

use air_core::seed::Seed;
pub use bohb::{Bohb, BohbConfig};
use parzen::Parzen;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::axes::Axes;
use super::rank::Rank;
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Trials that are learned from: when there are twice as many, the oldest are forgotten, except the best and those that run. So a trial costs the same
/// however many went before.
const REMEMBERED: usize = 1_000;

/// Settings of [`Tpe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TpeConfig {
    /// Trials drawn at random before anything is learned.
    pub startup_trials: u64,
    /// Points drawn for one that is proposed.
    pub candidates: usize,
    /// The share of trials that count as good.
    pub good_share: f64,
    /// Most trials that count as good.
    pub good_most: usize,
    /// Weight of the wide kernel, which keeps unknown regions in play, where a trial weighs one.
    pub prior_weight: f64,
}

impl Default for TpeConfig {
    fn default() -> Self {
        Self { startup_trials: 10, candidates: 24, good_share: 0.1, good_most: 25, prior_weight: 1.0 }
    }
}

impl TpeConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &'static str, reason: &str| Err(TuneError::config(field, reason));
        if self.startup_trials == 0 {
            return bad("search.startup_trials", "must be at least 1");
        }
        if !(1..=100_000).contains(&self.candidates) {
            return bad("search.candidates", "must be between 1 and 100000");
        }
        if !(self.good_share > 0.0 && self.good_share < 1.0) {
            return bad("search.good_share", "must lie between 0 and 1");
        }
        if self.good_most == 0 {
            return bad("search.good_most", "must be at least 1");
        }
        if !(self.prior_weight > 0.0 && self.prior_weight.is_finite()) {
            return bad("search.prior_weight", "must be a finite number above 0");
        }
        Ok(())
    }
}

/// Learns where good trials are; see the module.
#[derive(Debug)]
pub struct Tpe {
    config: TpeConfig,
    axes: Axes,
    mode: Mode,
    trials: u64,
    seed: Seed,
    past: BTreeMap<TrialId, Past>,
    /// Bits of all rows, where they can be counted: what was proposed is not proposed again while there is anything else.
    known: HashSet<Vec<u64>>,
}

/// A trial, as far as it is known.
#[derive(Debug)]
struct Past {
    row: Vec<f64>,
    rank: Rank,
}

impl Tpe {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`].
    pub fn new(space: &Space, mode: Mode, trials: u64, config: TpeConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let axes = Axes::new(space)?;
        Ok(Self { config, axes, mode, trials, seed, past: BTreeMap::new(), known: HashSet::new() })
    }

    fn remember(&mut self, trial: TrialId, point: &Assignment) {
        let row = self.axes.encode(point);
        if self.is_countable() {
            self.known.insert(bits(&row));
        }
        self.past.insert(trial, Past { row, rank: Rank::RUNNING });
        if self.past.len() >= 2 * REMEMBERED {
            let mut ended: Vec<(Rank, TrialId)> = self
                .past
                .iter()
                .filter(|(_, past)| past.rank.has_value())
                .map(|(trial, past)| (past.rank, *trial))
                .collect();
            ended.sort_by(|(a, _), (b, _)| a.order(*b));
            let best: HashSet<TrialId> =
                ended.iter().take(self.config.good_most).map(|(_, trial)| *trial).collect();
            let newest = trial.saturating_sub(REMEMBERED as u64);
            self.past
                .retain(|trial, past| *trial > newest || best.contains(trial) || past.rank == Rank::RUNNING);
        }
    }

    /// Whether every value is one of few.
    fn is_countable(&self) -> bool {
        (0..self.axes.len())
            .all(|at| self.axes.axis(at).listed().is_some() || self.axes.axis(at).cells().is_some())
    }

    /// The numbers of one group for a trial.
    fn draw(&self, group: &[usize], seed: Seed) -> Vec<f64> {
        let mut rng = seed.child("group", group[0] as u64).rng();
        let mut seen: Vec<(TrialId, &Past)> = self
            .past
            .iter()
            .filter(|(_, past)| !past.row[group[0]].is_nan())
            .map(|(trial, past)| (*trial, past))
            .collect();
        let told = seen.iter().filter(|(_, past)| past.rank.has_value()).count();
        if (told as u64) < self.config.startup_trials {
            return group
                .iter()
                .map(|&at| match self.axes.axis(at).listed() {
                    Some(values) => rng.random_range(0..values) as f64,
                    None => rng.random(),
                })
                .collect();
        }
        seen.sort_by(|(_, a), (_, b)| a.rank.order(b.rank));
        let good = ((self.config.good_share * told as f64).ceil() as usize).clamp(1, self.config.good_most);
        let (good, rest) = seen.split_at(good);
        let (good, rest) = (self.density(group, good), self.density(group, rest));
        let mut room = Vec::new();
        let mut best: Option<((u8, f64), Vec<f64>)> = None;
        for _ in 0..self.config.candidates {
            let point = good.sample(&mut rng);
            let gain = good.log_density(&self.axes, group, &point, &mut room)
                - rest.log_density(&self.axes, group, &point, &mut room);
            let score = (u8::from(!self.is_known(group, &point)), gain);
            if best
                .as_ref()
                .is_none_or(|(most, _)| score.0 > most.0 || (score.0 == most.0 && score.1 > most.1))
            {
                best = Some((score, point));
            }
        }
        best.map(|(_, point)| point).unwrap_or_default()
    }

    fn density(&self, group: &[usize], trials: &[(TrialId, &Past)]) -> Parzen {
        let mut trials: Vec<_> = trials.iter().collect();
        trials.sort_by_key(|(trial, _)| *trial);
        let rows: Vec<(&[f64], f64)> = trials
            .iter()
            .zip(recency(trials.len()))
            .map(|((_, past), weight)| (&past.row[..], weight))
            .collect();
        Parzen::new(&self.axes, group, &rows, self.config.prior_weight)
    }

    /// Whether a trial had just this point, where the group is all there is and every value is one of few.
    fn is_known(&self, group: &[usize], point: &[f64]) -> bool {
        if group.len() < self.axes.len() || !self.is_countable() {
            return false;
        }
        let point = self.axes.point(|_| point.to_vec());
        self.known.contains(&bits(&self.axes.encode(&point)))
    }
}

impl Searcher for Tpe {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.trials {
            return None;
        }
        let seed = self.seed.child("trial", trial);
        let point = self.axes.point(|group| self.draw(group, seed));
        self.remember(trial, &point);
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        if let Some(past) = self.past.get_mut(&trial) {
            past.rank = Rank::of(outcome, self.mode);
        }
    }

    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        self.remember(trial, assignment);
    }

    fn total(&self) -> Option<u64> {
        Some(self.trials)
    }
}

/// Weights by age, oldest first: the newest 25 count fully, older ones less the older they are.
fn recency(count: usize) -> impl Iterator<Item = f64> {
    const NEW: usize = 25;
    let old = count.saturating_sub(NEW);
    (0..count).map(move |at| {
        if at >= old {
            1.0
        } else {
            let first = 1.0 / count as f64;
            first + (1.0 - first) * at as f64 / old as f64
        }
    })
}

fn bits(row: &[f64]) -> Vec<u64> {
    row.iter().map(|number| number.to_bits()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::space::{choice, int_uniform, uniform};
    use crate::testing;

    fn tpe(space: &Space, seed: Seed) -> Tpe {
        Tpe::new(space, Mode::Min, 1_000, TpeConfig::default(), seed).unwrap()
    }

    #[test]
    fn it_is_a_searcher() {
        testing::searcher(|space, seed| {
            Box::new(Tpe::new(space, Mode::Min, 40, TpeConfig::default(), seed).unwrap())
        });
    }

    /// The best of 60 trials of a bowl, whichever way it is looked at.
    fn best(mode: Mode, seed: u64) -> f64 {
        let space = Space::new().with("x", uniform(-10.0, 10.0)).with("y", uniform(-10.0, 10.0));
        let mut search = Tpe::new(&space, mode, 60, TpeConfig::default(), Seed::new(seed)).unwrap();
        let mut best = f64::INFINITY;
        for trial in 0..60 {
            let point = search.ask(trial).unwrap();
            let number = |path| point.get(path).unwrap().as_f64().unwrap();
            let value = (number("x") - 3.0).powi(2) + (number("y") + 4.0).powi(2);
            best = best.min(value);
            search.tell(trial, Outcome::Complete(if mode == Mode::Max { -value } else { value }));
        }
        assert_eq!(search.ask(60), None);
        best
    }

    #[test]
    fn it_closes_in_on_the_optimum_in_either_direction() {
        // Of 60 points at random the best has a median of about 1.5.
        let mut values: Vec<f64> = (0..11).map(|seed| best(Mode::Min, seed)).collect();
        values.sort_by(f64::total_cmp);
        assert!(values[5] < 0.5, "{values:?}");
        assert!((best(Mode::Max, 4).to_bits()) == best(Mode::Min, 4).to_bits());
    }

    #[test]
    fn what_was_tried_is_not_tried_again_while_there_is_anything_else() {
        let space = Space::new().with("a", int_uniform(0..=4)).with("b", choice(["x", "y", "z", "w"]));
        let mut search = tpe(&space, Seed::new(5));
        let mut seen = HashSet::new();
        for trial in 0..20 {
            let point = search.ask(trial).unwrap();
            let value = point.get("a").unwrap().as_f64().unwrap();
            seen.insert(format!("{point:?}"));
            search.tell(trial, Outcome::Complete(value));
        }
        assert!(seen.len() >= 15, "{} different points of 20", seen.len());
    }

    #[test]
    fn regions_that_fail_are_left() {
        let space = Space::new().with("x", uniform(0.0, 1.0));
        let mut search = tpe(&space, Seed::new(1));
        let mut late = 0;
        for trial in 0..100 {
            let x = search.ask(trial).unwrap().get("x").unwrap().as_f64().unwrap();
            late += usize::from(trial >= 50 && x < 0.5);
            search.tell(trial, if x < 0.5 { Outcome::Failed } else { Outcome::Complete(1.0) });
        }
        assert!(late <= 15, "{late} of the last 50 trials failed");
    }

    #[test]
    fn no_more_is_remembered_than_is_learned_from() {
        let space = Space::new().with("x", uniform(0.0, 1.0));
        let config = TpeConfig { candidates: 1, ..TpeConfig::default() };
        let mut search = Tpe::new(&space, Mode::Min, u64::MAX, config, Seed::new(0)).unwrap();
        let mut values = Vec::new();
        for trial in 0..2_500 {
            let x = search.ask(trial).unwrap().get("x").unwrap().as_f64().unwrap();
            // Trial 7 runs for ever; early ones are the best.
            if trial != 7 {
                values.push((x + trial as f64, trial));
                search.tell(trial, Outcome::Complete(x + trial as f64));
            }
            assert!(search.past.len() < 2 * REMEMBERED);
        }
        values.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        assert!(values[..25].iter().chain([&(0.0, 7)]).all(|(_, trial)| search.past.contains_key(trial)));
        assert!(!search.past.contains_key(&600) && search.past.contains_key(&1_600));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, field) in [
            (TpeConfig { startup_trials: 0, ..TpeConfig::default() }, "startup_trials"),
            (TpeConfig { candidates: 0, ..TpeConfig::default() }, "candidates"),
            (TpeConfig { good_share: 1.0, ..TpeConfig::default() }, "good_share"),
            (TpeConfig { good_most: 0, ..TpeConfig::default() }, "good_most"),
            (TpeConfig { prior_weight: f64::NAN, ..TpeConfig::default() }, "prior_weight"),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
