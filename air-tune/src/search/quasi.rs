//! [`Quasi`]: points spread evenly, where random ones leave gaps and clusters.
//!
//! The Halton sequence with every digit permuted at random: Owen, "A randomized Halton algorithm in R", 2017. Each parameter is a coordinate, with a prime base of its own; digits
//! are permuted by their place, so that even the coordinates of large bases are spread from the start. Any number of trials is as good as the whole.

use air_core::seed::Seed;
use rand::seq::SliceRandom;

use super::axes::Axes;
use super::{Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Most parameters: bases grow with their number, and with the bases the trials it takes to go around them once.
const MAX_AXES: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Quasi {
    axes: Axes,
    trials: u64,
    coordinates: Vec<Coordinate>,
}

/// One coordinate of the sequence.
#[derive(Debug)]
struct Coordinate {
    base: u32,
    /// A permutation of the digits for every place that matters in a 64-bit float.
    permutations: Vec<Vec<u32>>,
}

impl Coordinate {
    fn new(base: u32, seed: Seed) -> Self {
        let places = (53.0 / f64::from(base).log2()).ceil() as u64;
        let permutation = |place| {
            let mut digits: Vec<u32> = (0..base).collect();
            digits.shuffle(&mut seed.child("place", place).rng());
            digits
        };
        Self { base, permutations: (0..places).map(permutation).collect() }
    }

    fn at(&self, mut number: u64) -> f64 {
        let (base, mut scale, mut unit) = (u64::from(self.base), 1.0, 0.0);
        for permutation in &self.permutations {
            scale /= f64::from(self.base);
            unit += scale * f64::from(permutation[(number % base) as usize]);
            number /= base;
        }
        unit
    }
}

/// The first primes.
fn primes(count: usize) -> Vec<u32> {
    let mut primes: Vec<u32> = Vec::with_capacity(count);
    let mut candidate = 2;
    while primes.len() < count {
        if primes.iter().take_while(|p| **p * **p <= candidate).all(|p| candidate % p != 0) {
            primes.push(candidate);
        }
        candidate += 1;
    }
    primes
}

impl Quasi {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`], also if there are over 1 000 parameters.
    pub fn new(space: &Space, trials: u64, seed: Seed) -> Result<Self> {
        let axes = Axes::new(space)?;
        if axes.len() > MAX_AXES {
            let reason =
                format!("{} parameters to search; quasi-random takes at most {MAX_AXES}", axes.len());
            return Err(TuneError::space("…", reason));
        }
        let coordinates = primes(axes.len())
            .into_iter()
            .enumerate()
            .map(|(at, base)| Coordinate::new(base, seed.child("axis", at as u64)))
            .collect();
        Ok(Self { axes, trials, coordinates })
    }
}

impl Searcher for Quasi {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.trials {
            return None;
        }
        let units: Vec<f64> = self.coordinates.iter().map(|coordinate| coordinate.at(trial)).collect();
        Some(self.axes.at(&units))
    }

    fn tell(&mut self, _: TrialId, _: Outcome) {}

    fn replay(&mut self, _: TrialId, _: &Assignment) {}

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
        testing::searcher(|space, seed| Box::new(Quasi::new(space, 40, seed).unwrap()));
    }

    #[test]
    fn every_run_of_as_many_points_as_the_base_has_one_in_each_part() {
        for base in [2, 3, 11, 7919] {
            let coordinate = Coordinate::new(base, Seed::new(3));
            let mut parts: Vec<u32> = (0..u64::from(base))
                .map(|number| (coordinate.at(number) * f64::from(base) + 1e-9) as u32)
                .collect();
            assert_ne!(parts[..], (0..base).collect::<Vec<_>>()[..], "base {base}");
            parts.sort_unstable();
            assert_eq!(parts, (0..base).collect::<Vec<_>>(), "base {base}");
        }
        assert_eq!(primes(8), [2, 3, 5, 7, 11, 13, 17, 19]);
    }

    /// The star discrepancy in two dimensions, by counting, at the corners of a grid.
    #[test]
    fn points_are_spread_more_evenly_than_random_ones() {
        let space = (0..6).fold(Space::new(), |s, at| s.with(&format!("x{at}"), uniform(0.0, 1.0)));
        let mut search = Quasi::new(&space, 256, Seed::new(1)).unwrap();
        let points: Vec<Vec<f64>> = (0..256)
            .map(|trial| search.ask(trial).unwrap().iter().map(|(_, v)| v.as_f64().unwrap()).collect())
            .collect();
        for (i, j) in [(0, 1), (2, 5), (4, 5)] {
            let mut worst: f64 = 0.0;
            for (a, b) in
                (1..=16).flat_map(|a| (1..=16).map(move |b| (f64::from(a) / 16.0, f64::from(b) / 16.0)))
            {
                let inside = points.iter().filter(|p| p[i] < a && p[j] < b).count() as f64 / 256.0;
                worst = worst.max((inside - a * b).abs());
            }
            // Random points have about 0.08.
            assert!(worst < 0.045, "axes {i} and {j}: {worst}");
        }
    }
}
