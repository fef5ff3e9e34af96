//! [`Nsga2`]: a genetic algorithm for several objectives.
//!
//! Deb, Pratap, Agarwal, Meyarivan: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002: parents are picked by the front they lie on and by how much room is around
//! them. Numbers cross by simulated binary crossover and mutate by a polynomial (Deb and Agrawal, 1995), listed values are swapped and drawn anew. A generation is over when as many
//! trials have ended as the population has members.

use std::collections::HashMap;

use air_core::seed::Seed;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::axes::Axes;
use super::pareto::{crowding, fronts};
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Settings of [`Nsga2`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nsga2Config {
    /// Members of a generation.
    pub population: usize,
    /// How likely two parents are crossed.
    pub crossover: f64,
    /// How likely a parameter mutates; one over their number if not given.
    pub mutation: Option<f64>,
    /// How near children are to their parents: large is near.
    pub crossover_index: f64,
    /// How small mutations are: large is small.
    pub mutation_index: f64,
}

impl Default for Nsga2Config {
    fn default() -> Self {
        Self { population: 50, crossover: 0.9, mutation: None, crossover_index: 15.0, mutation_index: 20.0 }
    }
}

impl Nsga2Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if !(2..=10_000).contains(&self.population) {
            return bad("search.population", "must be between 2 and 10000");
        }
        if !(0.0..=1.0).contains(&self.crossover) {
            return bad("search.crossover", "must lie between 0 and 1");
        }
        if self.mutation.is_some_and(|mutation| !(0.0..=1.0).contains(&mutation)) {
            return bad("search.mutation", "must lie between 0 and 1");
        }
        let index = |index: f64| index >= 0.0 && index.is_finite();
        if !index(self.crossover_index) {
            return bad("search.crossover_index", "must be a finite number, at least 0");
        }
        if !index(self.mutation_index) {
            return bad("search.mutation_index", "must be a finite number, at least 0");
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Nsga2 {
    config: Nsga2Config,
    axes: Axes,
    modes: Vec<Mode>,
    trials: u64,
    seed: Seed,
    open: HashMap<TrialId, Vec<f64>>,
    parents: Vec<Member>,
    /// Ended since the last generation.
    told: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    units: Vec<f64>,
    /// One for each objective, small ones good; none if it failed.
    values: Vec<f64>,
    front: usize,
    room: f64,
}

impl Nsga2 {
    /// Searches `space` with `trials` trials for objectives of these modes, the experiment's metric first.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`].
    pub fn new(space: &Space, modes: &[Mode], trials: u64, config: Nsga2Config, seed: Seed) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            axes: Axes::new(space)?,
            modes: modes.to_vec(),
            trials,
            seed,
            open: HashMap::new(),
            parents: Vec::new(),
            told: Vec::new(),
        })
    }

    fn draw(&self, trial: TrialId) -> Vec<f64> {
        let mut rng = self.seed.child("trial", trial).rng();
        if self.parents.is_empty() {
            return (0..self.axes.len()).map(|_| rng.random()).collect();
        }
        let (first, second) = (self.tournament(&mut rng), self.tournament(&mut rng));
        let crossed = rng.random_bool(self.config.crossover);
        let mutation = self.config.mutation.unwrap_or(1.0 / self.axes.len().max(1) as f64);
        (0..self.axes.len())
            .map(|at| {
                let (a, b) = (first.units[at], second.units[at]);
                let listed = self.axes.axis(at).listed().is_some();
                let swap = rng.random_bool(0.5);
                let (spread, mutates): (f64, bool) = (rng.random(), rng.random_bool(mutation));
                let place: f64 = rng.random();
                let child = match (crossed, listed) {
                    (true, true) => {
                        if swap {
                            b
                        } else {
                            a
                        }
                    }
                    (true, false) => {
                        let between = binary_spread(spread, self.config.crossover_index);
                        let sign = if swap { -1.0 } else { 1.0 };
                        f64::midpoint(a, b) + sign * between * (a - b) / 2.0
                    }
                    (false, _) => a,
                };
                let child = match (mutates, listed) {
                    (true, true) => place,
                    (true, false) => child + polynomial(place, self.config.mutation_index),
                    (false, _) => child,
                };
                child.clamp(0.0, 1.0)
            })
            .collect()
    }

    /// The better of two parents.
    fn tournament(&self, rng: &mut impl Rng) -> &Member {
        let (a, b) = (rng.random_range(0..self.parents.len()), rng.random_range(0..self.parents.len()));
        let (a, b) = (&self.parents[a], &self.parents[b]);
        if b.front < a.front || (b.front == a.front && b.room > a.room) { b } else { a }
    }

    /// Picks the next parents of the last ones and of what has ended since.
    fn select(&mut self) {
        let mut all = std::mem::take(&mut self.parents);
        all.append(&mut self.told);
        all.retain(|member| !member.values.is_empty());
        let values: Vec<&[f64]> = all.iter().map(|member| &member.values[..]).collect();
        let fronts = fronts(&values, &vec![Mode::Min; self.modes.len()]);
        let mut kept = Vec::new();
        for front in 0..=fronts.iter().copied().max().unwrap_or(0) {
            let members: Vec<usize> = (0..all.len()).filter(|at| fronts[*at] == front).collect();
            let values: Vec<&[f64]> = members.iter().map(|at| &all[*at].values[..]).collect();
            let mut ranked: Vec<(usize, f64)> = members.iter().copied().zip(crowding(&values)).collect();
            ranked.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
            let room = self.config.population - kept.len();
            kept.extend(ranked.into_iter().take(room).map(|(at, room)| Member {
                front,
                room,
                ..all[at].clone()
            }));
        }
        self.parents = kept;
    }
}

/// How far from the middle of its parents a child lies, where they lie at one (Deb and Agrawal, 1995).
fn binary_spread(unit: f64, index: f64) -> f64 {
    let power = 1.0 / (index + 1.0);
    if unit <= 0.5 { (2.0 * unit).powf(power) } else { (0.5 / (1.0 - unit)).powf(power) }
}

/// How far a parameter moves, between -1 and 1.
fn polynomial(unit: f64, index: f64) -> f64 {
    let power = 1.0 / (index + 1.0);
    if unit < 0.5 { (2.0 * unit).powf(power) - 1.0 } else { 1.0 - (2.0 * (1.0 - unit)).powf(power) }
}

impl Searcher for Nsga2 {
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
        let values = match outcome {
            Outcome::Complete(value) | Outcome::Stopped(value) => vec![value],
            Outcome::Failed => Vec::new(),
        };
        self.tell_all(trial, outcome, &values);
    }

    fn tell_all(&mut self, trial: TrialId, outcome: Outcome, values: &[f64]) {
        let Some(units) = self.open.remove(&trial) else { return };
        // Small is good within, whichever way it is looked at from outside.
        let signed = |(value, mode): (&f64, &Mode)| if *mode == Mode::Max { -value } else { *value };
        let values = match outcome {
            Outcome::Failed => Vec::new(),
            _ => values.iter().zip(&self.modes).map(signed).collect(),
        };
        self.told.push(Member { units, values, front: 0, room: 0.0 });
        if self.told.len() >= self.config.population {
            self.select();
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
            let config = Nsga2Config { population: 8, ..Nsga2Config::default() };
            Box::new(Nsga2::new(space, &[Mode::Min], 40, config, seed).unwrap())
        });
    }

    /// ZDT1 with six parameters: the front is `g = 1`, where all but the first are zero.
    fn zdt1(point: &Assignment) -> [f64; 2] {
        let x: Vec<f64> = point.iter().map(|(_, value)| value.as_f64().unwrap()).collect();
        let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64;
        [x[0], g * (1.0 - (x[0] / g).sqrt())]
    }

    #[test]
    fn it_finds_the_front_of_two_objectives_whichever_way_they_are_looked_at() {
        let run = |modes: [Mode; 2]| {
            let space = (0..6).fold(Space::new(), |s, at| s.with(&format!("x{at}"), uniform(0.0, 1.0)));
            let config = Nsga2Config { population: 40, ..Nsga2Config::default() };
            let mut search = Nsga2::new(&space, &modes, 2_000, config, Seed::new(1)).unwrap();
            for trial in 0..2_000 {
                let point = search.ask(trial).unwrap();
                let values = zdt1(&point);
                let seen: Vec<f64> = values
                    .iter()
                    .zip(modes)
                    .map(|(v, mode)| if mode == Mode::Max { -v } else { *v })
                    .collect();
                search.tell_all(trial, Outcome::Complete(seen[0]), &seen);
            }
            search.parents.iter().map(|member| member.units.clone()).collect::<Vec<_>>()
        };
        let parents = run([Mode::Min, Mode::Min]);
        assert_eq!(parents.len(), 40);
        let far = parents.iter().map(|units| units[1..].iter().sum::<f64>() / 5.0).fold(0.0, f64::max);
        assert!(far < 0.05, "a parent is {far} from the front");
        let firsts = parents.iter().map(|units| units[0]);
        let (low, high) = firsts.fold((1.0_f64, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        assert!(low < 0.05 && high > 0.9, "the front is covered from {low} to {high}");
        assert_eq!(parents, run([Mode::Max, Mode::Min]));
    }

    #[test]
    fn children_lie_about_their_parents_and_mutations_are_small() {
        assert!((binary_spread(0.5, 15.0) - 1.0).abs() < 1e-12 && binary_spread(0.0, 15.0) == 0.0);
        assert!(binary_spread(0.9, 15.0) > 1.0 && polynomial(0.5, 20.0).abs() < 1e-12);
        assert_eq!((polynomial(0.0, 20.0), polynomial(1.0, 20.0)), (-1.0, 1.0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, field) in [
            (Nsga2Config { population: 1, ..Nsga2Config::default() }, "population"),
            (Nsga2Config { crossover: 1.1, ..Nsga2Config::default() }, "crossover"),
            (Nsga2Config { mutation: Some(-1.0), ..Nsga2Config::default() }, "mutation"),
            (Nsga2Config { crossover_index: -1.0, ..Nsga2Config::default() }, "crossover_index"),
            (Nsga2Config { mutation_index: f64::NAN, ..Nsga2Config::default() }, "mutation_index"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
    }
}
