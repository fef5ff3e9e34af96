//! Grid and random search.

use air_core::seed::Seed;

use super::{Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Domain, Space};

/// Most points of one grid.
const MAX_GRID: u64 = 10_000_000;
/// Most points of a grid with conditions, whose combinations are listed one by one.
const MAX_LISTED: u64 = 1_000_000;

/// Every combination of the grids, each with the rest of the space drawn at random, all of it `num_samples` times.
///
/// Without a grid this is random search with `num_samples` trials: the rule of Ray's `BasicVariantGenerator`. The last grid
/// varies fastest. Trial `n` draws from `seed` / `trial n` / the parameter's path: neither the order of other parameters
/// nor other trials change it.
#[derive(Debug, Clone)]
pub struct BasicVariants {
    space: Space,
    seed: Seed,
    grid: Grid,
    total: u64,
}

#[derive(Debug, Clone)]
enum Grid {
    /// All combinations; their number.
    Full(u64),
    /// Combinations that differ in active parameters only, as mixed-radix numbers.
    Listed(Vec<u32>),
}

impl BasicVariants {
    /// Searches `space`, `num_samples` times over.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] if the space does not validate or its grid has too many points.
    pub fn new(space: &Space, num_samples: u64, seed: Seed) -> Result<Self> {
        space.validate()?;
        let mut points: u64 = 1;
        let mut conditional = false;
        for param in space.params() {
            if let Domain::Grid { values } = &param.domain {
                points = points.saturating_mul(values.len() as u64);
                conditional |= !param.conditions.is_empty();
                let limit = if conditional { MAX_LISTED } else { MAX_GRID };
                if points > limit {
                    return Err(TuneError::space(
                        &param.path,
                        format!("the grid has more than {limit} points"),
                    ));
                }
            }
        }
        let mut search = Self { space: space.clone(), seed, grid: Grid::Full(points), total: 0 };
        if conditional {
            search.grid =
                Grid::Listed((0..points as u32).filter(|n| search.is_canonical(u64::from(*n))).collect());
        }
        search.total = search.grid.len().saturating_mul(num_samples);
        Ok(search)
    }

    /// Index into each grid's values, in the space's order; the last varies fastest.
    fn digits(&self, mut number: u64) -> Vec<usize> {
        let mut digits: Vec<usize> = self
            .space
            .params()
            .iter()
            .rev()
            .filter_map(|param| match &param.domain {
                Domain::Grid { values } => {
                    let digit = number % values.len() as u64;
                    number /= values.len() as u64;
                    Some(digit as usize)
                }
                _ => None,
            })
            .collect();
        digits.reverse();
        digits
    }

    /// Whether grids that do not exist at this point stand at their first value: one representative for each real point.
    fn is_canonical(&self, number: u64) -> bool {
        let mut digits = self.digits(number).into_iter();
        let mut point = Assignment::new();
        for param in self.space.params() {
            let active = self.space.is_active(param, &point);
            match &param.domain {
                Domain::Grid { values } => match digits.next() {
                    Some(digit) if active => point.push(&param.path, values[digit].clone()),
                    Some(0) | None => {}
                    Some(_) => return false,
                },
                Domain::Fixed { value } if active => point.push(&param.path, value.clone()),
                _ => {}
            }
        }
        true
    }
}

impl Grid {
    fn len(&self) -> u64 {
        match self {
            Grid::Full(points) => *points,
            Grid::Listed(points) => points.len() as u64,
        }
    }
}

impl Searcher for BasicVariants {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.total {
            return None;
        }
        let point = trial % self.grid.len();
        let number = match &self.grid {
            Grid::Full(_) => point,
            Grid::Listed(points) => u64::from(*points.get(point as usize)?),
        };
        let mut digits = self.digits(number).into_iter();
        let seed = self.seed.child("trial", trial);
        let mut assignment = Assignment::new();
        for param in self.space.params() {
            let digit = if matches!(param.domain, Domain::Grid { .. }) { digits.next() } else { None };
            if !self.space.is_active(param, &assignment) {
                continue;
            }
            let value = match (&param.domain, digit) {
                (Domain::Grid { values }, Some(digit)) => values[digit].clone(),
                (domain, _) => domain.sample(&mut seed.child(&param.path, 0).rng()),
            };
            assignment.push(&param.path, value);
        }
        Some(assignment)
    }

    fn tell(&mut self, _: TrialId, _: Outcome) {}

    fn replay(&mut self, _: TrialId, _: &Assignment) {}

    fn total(&self) -> Option<u64> {
        Some(self.total)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::space::{choice, grid, uniform};

    fn all(space: &Space, samples: u64, seed: u64) -> Vec<Assignment> {
        let mut search = BasicVariants::new(space, samples, Seed::new(seed)).unwrap();
        let points: Vec<_> = (0..).map_while(|n| search.ask(n)).collect();
        assert_eq!(search.total(), Some(points.len() as u64));
        points
    }

    #[test]
    fn grids_are_crossed_and_repeated() {
        let space = Space::new()
            .with("a", grid([1, 2]))
            .with("b", grid(["x", "y", "z"]))
            .with("c", uniform(0.0, 1.0));
        let points = all(&space, 2, 7);
        assert_eq!(points.len(), 12);
        let pairs: Vec<_> =
            points.iter().map(|p| (p.get("a").unwrap().clone(), p.get("b").unwrap().clone())).collect();
        assert_eq!(
            pairs[..4],
            [(json!(1), json!("x")), (json!(1), json!("y")), (json!(1), json!("z")), (json!(2), json!("x"))]
        );
        assert_eq!(pairs[..6], pairs[6..]);
        let c: std::collections::BTreeSet<String> =
            points.iter().map(|p| p.get("c").unwrap().to_string()).collect();
        assert_eq!(c.len(), 12, "the random part is drawn anew for every trial");
    }

    #[test]
    fn a_grid_under_a_condition_is_tried_where_it_exists() {
        let space = Space::new()
            .with("opt", grid(["sgd", "adam"]))
            .when("opt", ["sgd"], Space::new().with("momentum", grid([0.0, 0.9])))
            .with("k", choice([1, 2, 3]));
        let points = all(&space, 1, 0);
        let seen: Vec<_> = points
            .iter()
            .map(|p| (p.get("opt").unwrap().as_str().unwrap(), p.get("momentum").is_some()))
            .collect();
        assert_eq!(seen, [("sgd", true), ("sgd", true), ("adam", false)]);
    }

    #[test]
    fn a_draw_depends_on_names_and_not_on_neighbours() {
        let small = all(&Space::new().with("x", uniform(0.0, 1.0)), 5, 3);
        let large = all(&Space::new().with("w", uniform(0.0, 1.0)).with("x", uniform(0.0, 1.0)), 5, 3);
        for (a, b) in small.iter().zip(&large) {
            assert_eq!(a.get("x"), b.get("x"));
            assert_ne!(b.get("w"), b.get("x"));
        }
    }

    #[test]
    fn a_grid_too_large_is_refused() {
        let axis = || grid(0..1000);
        let space = Space::new().with("a", axis()).with("b", axis()).with("c", axis());
        assert!(
            BasicVariants::new(&space, 1, Seed::new(0))
                .unwrap_err()
                .to_string()
                .contains("more than 10000000 points")
        );
    }
}
