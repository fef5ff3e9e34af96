//! [`Cma`]: the covariance matrix adaptation evolution strategy, with restarts.
//!
//! The strategy is Hansen's (see [`strategy`]); a run that has converged is followed by one with twice the population, from elsewhere (Auger and Hansen, "A Restart CMA
//! Evolution Strategy With Increasing Population Size", 2005). Every parameter is an axis of the unit interval: a listed one has a cell for each of its values, one that does not
//! exist at a point keeps its place and counts for nothing there. Where values are cells the distribution stays at least so wide that neighbours are still tried.

mod strategy;

use std::collections::HashMap;
use std::f64::consts::PI;

use air_core::seed::Seed;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use strategy::{Strategy, default_population};

use super::axes::Axes;
use super::rank::Rank;
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Most parameters: the matrix is decomposed with every generation.
const MAX_AXES: usize = 500;
/// How often a point outside the bounds is drawn anew before it is moved onto them.
const ATTEMPTS: usize = 100;

/// Settings of [`Cma`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CmaConfig {
    /// Standard deviation of the first generation, of each parameter's range.
    pub sigma: f64,
    /// Trials of a generation; 4 + 3 ln(parameters) if not given.
    pub population: Option<usize>,
}

impl Default for CmaConfig {
    fn default() -> Self {
        Self { sigma: 0.15, population: None }
    }
}

impl CmaConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.sigma > 0.0 && self.sigma <= 1.0) {
            return Err(TuneError::config("search.sigma", "must be above 0 and at most 1"));
        }
        if self.population.is_some_and(|population| !(4..=100_000).contains(&population)) {
            return Err(TuneError::config("search.population", "must be between 4 and 100000"));
        }
        Ok(())
    }
}

/// Learns the shape of the slope; see the module.
#[derive(Debug)]
pub struct Cma {
    config: CmaConfig,
    axes: Axes,
    mode: Mode,
    trials: u64,
    seed: Seed,
    /// Where the trials are that have not ended.
    open: HashMap<TrialId, Vec<f64>>,
    /// Ended trials since the distribution last changed.
    told: Vec<(Rank, Vec<f64>)>,
    strategy: Strategy,
    restarts: u64,
}

impl Cma {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`], also if there are over 500 parameters, or [`TuneError::InvalidConfig`].
    pub fn new(space: &Space, mode: Mode, trials: u64, config: CmaConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let axes = Axes::new(space)?;
        if axes.len() > MAX_AXES {
            let reason = format!("{} parameters to search; CMA-ES takes at most {MAX_AXES}", axes.len());
            return Err(TuneError::space("…", reason));
        }
        let population = config.population.unwrap_or_else(|| default_population(axes.len().max(1)));
        let strategy = Strategy::new(vec![0.5; axes.len()], config.sigma, population);
        Ok(Self {
            config,
            axes,
            mode,
            trials,
            seed,
            open: HashMap::new(),
            told: Vec::new(),
            strategy,
            restarts: 0,
        })
    }

    /// Where a trial goes; depends on nothing but the seed, its number and what was told before.
    fn draw(&self, trial: TrialId) -> Vec<f64> {
        let mut rng = self.seed.child("trial", trial).rng();
        let inside = |point: &Vec<f64>| point.iter().all(|unit| (0.0..=1.0).contains(unit));
        let mut point = self.strategy.point(&normals(self.axes.len(), &mut rng));
        for _ in 1..ATTEMPTS {
            if inside(&point) {
                break;
            }
            point = self.strategy.point(&normals(self.axes.len(), &mut rng));
        }
        for (at, unit) in point.iter_mut().enumerate() {
            // Half a cell: a step of one standard deviation leads from a cell's middle to its neighbour.
            let axis = self.axes.axis(at);
            let cells = axis.listed().map(|values| values as f64).or(axis.cells().map(|cells| cells as f64));
            let least = cells.map_or(0.0, |cells| 0.5 / cells);
            if self.strategy.deviation(at) < least {
                *unit = self.strategy.mean()[at] + least * normals(1, &mut rng)[0];
            }
            *unit = unit.clamp(0.0, 1.0);
        }
        point
    }

    fn learn(&mut self) {
        self.told.sort_by(|(a, _), (b, _)| a.order(*b));
        let points: Vec<&[f64]> = self.told.iter().map(|(_, units)| &units[..]).collect();
        self.strategy.update(&points);
        self.told.clear();
        if self.strategy.is_over() {
            self.restarts += 1;
            let mut rng = self.seed.child("restart", self.restarts).rng();
            let mean = (0..self.axes.len()).map(|_| rng.random()).collect();
            self.strategy =
                Strategy::new(mean, self.config.sigma, self.strategy.population().saturating_mul(2));
        }
    }
}

impl Searcher for Cma {
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
        self.told.push((Rank::of(outcome, self.mode), units));
        if self.told.len() >= self.strategy.population() && self.axes.len() > 0 {
            self.learn();
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

/// Standard normal numbers (Box and Muller 1958).
fn normals(count: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (2.0 * PI * rng.random::<f64>()).sin_cos();
        numbers.extend([radius * cos, radius * sin]);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::space::{Space, int_uniform, uniform};
    use crate::testing;

    #[test]
    fn it_is_a_searcher() {
        testing::searcher(|space, seed| {
            Box::new(Cma::new(space, Mode::Min, 40, CmaConfig::default(), seed).unwrap())
        });
    }

    /// Rosenbrock's valley in five dimensions, whose coordinates depend on one another: the best of a number of trials.
    fn valley(trials: u64, mode: Mode, seed: u64) -> f64 {
        let space = (0..5).fold(Space::new(), |space, at| space.with(&format!("x{at}"), uniform(-2.0, 2.0)));
        let mut search = Cma::new(&space, mode, trials, CmaConfig::default(), Seed::new(seed)).unwrap();
        let mut best = f64::INFINITY;
        for trial in 0..trials {
            let point = search.ask(trial).unwrap();
            let x: Vec<f64> = point.iter().map(|(_, value)| value.as_f64().unwrap()).collect();
            let value: f64 =
                x.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum();
            best = best.min(value);
            search.tell(trial, Outcome::Complete(if mode == Mode::Max { -value } else { value }));
        }
        best
    }

    #[test]
    fn it_follows_a_bent_valley_to_its_end() {
        let reached = (0..5).filter(|seed| valley(3_000, Mode::Min, *seed) < 1e-6).count();
        assert!(reached >= 4, "{reached} of 5 seeds");
        assert_eq!(valley(300, Mode::Max, 1).to_bits(), valley(300, Mode::Min, 1).to_bits());
    }

    #[test]
    fn a_run_that_has_converged_is_followed_by_a_larger_one() {
        let space = Space::new().with("x", uniform(0.0, 1.0)).with("y", uniform(0.0, 1.0));
        let mut search = Cma::new(&space, Mode::Min, u64::MAX, CmaConfig::default(), Seed::new(0)).unwrap();
        let first = search.strategy.population();
        let mut trial = 0;
        while search.restarts == 0 {
            assert!(trial < 3_000, "still not converged");
            let point = search.ask(trial).unwrap();
            let value: f64 = point.iter().map(|(_, value)| (value.as_f64().unwrap() - 0.4).powi(2)).sum();
            search.tell(trial, Outcome::Complete(value));
            trial += 1;
        }
        assert_eq!(search.strategy.population(), 2 * first);
        assert!(search.strategy.deviation(0) > 0.1);
    }

    #[test]
    fn integers_do_not_freeze() {
        // From the wrong end of the range, and with a slope of one step in a hundred.
        let space = Space::new().with("n", int_uniform(0..=1_000)).with("m", int_uniform(0..=3));
        let mut search = Cma::new(&space, Mode::Min, 2_000, CmaConfig::default(), Seed::new(2)).unwrap();
        let mut found = false;
        for trial in 0..2_000 {
            let point = search.ask(trial).unwrap();
            let number = |path| point.get(path).unwrap().as_f64().unwrap();
            let value = (number("n") - 997.0).abs() + 10.0 * (number("m") - 3.0).abs();
            found |= value == 0.0;
            search.tell(trial, Outcome::Complete(value));
        }
        assert!(found);
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let space = (0..501).fold(Space::new(), |space, at| space.with(&format!("x{at}"), uniform(0.0, 1.0)));
        let error = Cma::new(&space, Mode::Min, 1, CmaConfig::default(), Seed::new(0)).unwrap_err();
        assert!(error.to_string().contains("501 parameters to search; CMA-ES takes at most 500"), "{error}");
        for config in [
            CmaConfig { sigma: 0.0, ..CmaConfig::default() },
            CmaConfig { population: Some(3), ..CmaConfig::default() },
        ] {
            assert!(config.validate().is_err());
        }
    }
}
