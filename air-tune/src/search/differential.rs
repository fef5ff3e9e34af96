//! [`Differential`]: differential evolution.
//!
//! Storn and Price, "Differential Evolution - A Simple and Efficient Heuristic for Global Optimization over Continuous Spaces", 1997, `DE/rand/1/bin`; the scale is drawn anew for each
//! trial (dither). A trial replaces its target as soon as it ends no worse, so generations need not be waited for. Every parameter is an axis of the unit
//! interval, a listed one with a cell for each of its values.

use std::collections::HashMap;

use air_core::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::axes::Axes;
use super::rank::Rank;
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Settings of [`Differential`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DifferentialConfig {
    /// Members of the population; five for each parameter, between 8 and 40, if not given.
    pub population: Option<usize>,
    /// Bounds of the scale of a difference.
    pub scale: (f64, f64),
    /// How likely a parameter comes from the difference rather than from the target.
    pub crossover: f64,
}

impl Default for DifferentialConfig {
    fn default() -> Self {
        Self { population: None, scale: (0.5, 0.9), crossover: 0.9 }
    }
}

impl DifferentialConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if self.population.is_some_and(|population| !(4..=100_000).contains(&population)) {
            return bad("search.population", "must be between 4 and 100000");
        }
        let (low, high) = self.scale;
        if !(low > 0.0 && low <= high && high <= 2.0) {
            return bad("search.scale", "must be two numbers in order, above 0 and at most 2");
        }
        if !(0.0..=1.0).contains(&self.crossover) {
            return bad("search.crossover", "must lie between 0 and 1");
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Differential {
    config: DifferentialConfig,
    axes: Axes,
    mode: Mode,
    trials: u64,
    seed: Seed,
    /// Where each member stands; nothing until its first trial has ended.
    population: Vec<Option<(Rank, Vec<f64>)>>,
    open: HashMap<TrialId, Vec<f64>>,
}

impl Differential {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`].
    pub fn new(
        space: &Space,
        mode: Mode,
        trials: u64,
        config: DifferentialConfig,
        seed: Seed,
    ) -> Result<Self> {
        config.validate()?;
        let axes = Axes::new(space)?;
        let population = config.population.unwrap_or((5 * axes.len()).clamp(8, 40));
        Ok(Self {
            config,
            axes,
            mode,
            trials,
            seed,
            population: vec![None; population],
            open: HashMap::new(),
        })
    }

    fn target(&self, trial: TrialId) -> usize {
        (trial % self.population.len() as u64) as usize
    }

    /// Where a trial goes; depends on nothing but the seed, its number and what was told before.
    fn draw(&self, trial: TrialId) -> Vec<f64> {
        let mut rng = self.seed.child("trial", trial).rng();
        let target = self.target(trial);
        let mut others: Vec<&Vec<f64>> = self
            .population
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != target)
            .filter_map(|(_, member)| member.as_ref().map(|(_, units)| units))
            .collect();
        let Some((_, own)) = self.population[target].as_ref().filter(|_| others.len() >= 3) else {
            return (0..self.axes.len()).map(|_| rng.random()).collect();
        };
        let [a, b, c] = std::array::from_fn(|_| others.swap_remove(rng.random_range(0..others.len())));
        let (low, high) = self.config.scale;
        let scale = rng.random_range(low..=high);
        let always = rng.random_range(0..self.axes.len().max(1));
        (0..self.axes.len())
            .map(|at| {
                let crossed = rng.random_bool(self.config.crossover) || at == always;
                let place: f64 = rng.random();
                let mutant = a[at] + scale * (b[at] - c[at]);
                match mutant {
                    _ if !crossed => own[at],
                    // Outside: between the bound and where the difference began.
                    below if below < 0.0 => place * a[at],
                    above if above > 1.0 => a[at] + place * (1.0 - a[at]),
                    inside => inside,
                }
            })
            .collect()
    }
}

impl Searcher for Differential {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.trials {
            return None;
        }
        let units = self.draw(trial);
        let point = self.axes.at(&units);
        self.open.insert(trial, units);
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        let Some(units) = self.open.remove(&trial) else { return };
        let rank = Rank::of(outcome, self.mode);
        let target = self.target(trial);
        let member = &mut self.population[target];
        if member.as_ref().is_none_or(|(own, _)| rank.order(*own).is_le()) {
            *member = Some((rank, units));
        }
    }

    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        let units = self.axes.units(assignment, self.draw(trial));
        self.open.insert(trial, units);
    }

    fn total(&self) -> Option<u64> {
        Some(self.trials)
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
            let config = DifferentialConfig { population: Some(8), ..DifferentialConfig::default() };
            Box::new(Differential::new(space, Mode::Min, 40, config, seed).unwrap())
        });
    }

    #[test]
    fn it_closes_in_on_the_optimum_in_either_direction() {
        let best = |mode| {
            let space = (0..5).fold(Space::new(), |s, at| s.with(&format!("x{at}"), uniform(-5.0, 5.0)));
            let config = DifferentialConfig::default();
            let mut search = Differential::new(&space, mode, 1_000, config, Seed::new(2)).unwrap();
            let mut best = f64::INFINITY;
            for trial in 0..1_000 {
                let point = search.ask(trial).unwrap();
                let value: f64 = point.iter().map(|(_, x)| (x.as_f64().unwrap() - 2.0).powi(2)).sum();
                best = best.min(value);
                search.tell(trial, Outcome::Complete(if mode == Mode::Max { -value } else { value }));
            }
            best
        };
        // Of a thousand points at random the best has about 4.
        assert!(best(Mode::Min) < 0.1, "{}", best(Mode::Min));
        assert_eq!(best(Mode::Min).to_bits(), best(Mode::Max).to_bits());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, field) in [
            (DifferentialConfig { population: Some(3), ..DifferentialConfig::default() }, "population"),
            (DifferentialConfig { scale: (0.9, 0.5), ..DifferentialConfig::default() }, "scale"),
            (DifferentialConfig { crossover: f64::NAN, ..DifferentialConfig::default() }, "crossover"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
    }
}
