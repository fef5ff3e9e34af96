//! [`Feasible`]: any searcher, of which only points are taken that hold to the space's constraints.

use std::collections::HashMap;

use super::{Outcome, Searcher};
use crate::TrialId;
use crate::space::{Assignment, Space};

/// Points that are passed over in a row before the search is given up.
const MAX_PASSED: u32 = 100_000;

/// Asks `inner` until a point holds; what does not counts as failed there, so that a searcher that learns keeps away.
pub(super) struct Feasible {
    inner: Box<dyn Searcher>,
    space: Space,
    /// How many trials there may be; the inner searcher says when it is over otherwise.
    trials: Option<u64>,
    /// The inner searcher's next trial, and its trials that run.
    next: TrialId,
    open: HashMap<TrialId, TrialId>,
}

impl Feasible {
    pub fn new(inner: Box<dyn Searcher>, space: &Space, trials: Option<u64>) -> Self {
        Self { inner, space: space.clone(), trials, next: 0, open: HashMap::new() }
    }

    /// The inner searcher's next point that holds, and its number.
    fn advance(&mut self) -> Option<(TrialId, Assignment)> {
        for _ in 0..MAX_PASSED {
            let (id, point) = (self.next, self.inner.ask(self.next)?);
            self.next += 1;
            if self.space.holds(&point) {
                return Some((id, point));
            }
            self.inner.tell(id, Outcome::Failed);
        }
        tracing::warn!("the search is over: {MAX_PASSED} points in a row did not hold to the constraints");
        None
    }
}

impl Searcher for Feasible {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if self.trials.is_some_and(|trials| trial >= trials) {
            return None;
        }
        let (id, point) = self.advance()?;
        self.open.insert(trial, id);
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        if let Some(id) = self.open.remove(&trial) {
            self.inner.tell(id, outcome);
        }
    }

    fn tell_all(&mut self, trial: TrialId, outcome: Outcome, values: &[f64]) {
        if let Some(id) = self.open.remove(&trial) {
            self.inner.tell_all(id, outcome, values);
        }
    }

    fn observe(&mut self, trial: TrialId, iteration: u64, value: f64) {
        if let Some(id) = self.open.get(&trial) {
            self.inner.observe(*id, iteration, value);
        }
    }

    /// A searcher proposes again what it did, so what it passed over is passed over again.
    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        if let Some((id, point)) = self.advance() {
            if point != *assignment {
                self.inner.replay(id, assignment);
            }
            self.open.insert(trial, id);
        }
    }

    fn total(&self) -> Option<u64> {
        self.trials
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use air_core::seed::Seed;

    use super::*;
    use crate::search::{Mode, SearchConfig, TpeConfig};
    use crate::space::{grid, uniform};
    use crate::testing;

    #[test]
    fn it_is_a_searcher_whatever_is_within() {
        for config in [SearchConfig::Variants, SearchConfig::Quasi, TpeConfig::default().into()] {
            testing::searcher(|space, seed| {
                let space = space.clone().at_most([("x", 1.0), ("y", 1.0)], 1.0);
                config.build(&space, &[Mode::Min], 40, seed).unwrap()
            });
        }
    }

    #[test]
    fn only_points_that_hold_are_proposed() {
        let space = Space::new()
            .with("a", grid([1, 2, 3]))
            .with("b", grid([1, 2, 3]))
            .at_least([("a", 1.0), ("b", 1.0)], 5.0);
        let mut search = SearchConfig::Auto.build(&space, &[Mode::Min], 1, Seed::new(0)).unwrap();
        let points: Vec<String> = (0..9)
            .map_while(|trial| search.ask(trial))
            .map(|p| p.to_config().to_value().to_string())
            .collect();
        assert_eq!(points, [r#"{"a":2,"b":3}"#, r#"{"a":3,"b":2}"#, r#"{"a":3,"b":3}"#]);
        let never = Space::new().with("a", uniform(0.0, 1.0)).at_most([("a", 1.0)], -1.0);
        let mut search = SearchConfig::Variants.build(&never, &[Mode::Min], 5, Seed::new(0)).unwrap();
        assert_eq!(search.ask(0), None);
    }
}
