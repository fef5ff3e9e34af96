//! [`Enqueued`]: any searcher, after points that are given.

use air_core::seed::Seed;

use super::{Outcome, Searcher};
use crate::TrialId;
use crate::config::Config;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Proposes given points first; `inner` learns from them.
pub(super) struct Enqueued {
    inner: Box<dyn Searcher>,
    points: Vec<Assignment>,
    /// Whether the points come before all of the inner searcher's own, rather than in place of the first.
    besides: bool,
}

impl Enqueued {
    /// Points of `space`; what they leave out is drawn at random.
    pub fn new(
        inner: Box<dyn Searcher>,
        space: &Space,
        points: &[Config],
        besides: bool,
        seed: Seed,
    ) -> Result<Self> {
        let points = points
            .iter()
            .enumerate()
            .map(|(at, point)| complete(space, point, seed.child("point", at as u64)))
            .collect::<Result<_>>()?;
        Ok(Self { inner, points, besides })
    }

    /// The inner searcher's number of a trial, if it is the one to propose it.
    fn inner_id(&self, trial: TrialId) -> Option<TrialId> {
        let given = self.points.len() as u64;
        if self.besides { trial.checked_sub(given) } else { (trial >= given).then_some(trial) }
    }
}

fn complete(space: &Space, given: &Config, seed: Seed) -> Result<Assignment> {
    let mut point = Assignment::new();
    let mut used = 0;
    for param in space.params() {
        let value = given.get(&param.path);
        if !space.is_active(param, &point) {
            if value.is_some() {
                return Err(TuneError::space(&param.path, "a given point sets it where it does not exist"));
            }
            continue;
        }
        let value = match value {
            Some(value) if !param.domain.contains(value) => {
                return Err(TuneError::space(
                    &param.path,
                    format!("{value} of a given point lies outside its domain"),
                ));
            }
            Some(value) => {
                used += leaves(value);
                value.clone()
            }
            None => param.domain.sample(&mut seed.child(&param.path, 0).rng()),
        };
        point.push(&param.path, value);
    }
    if used < given.paths().len() {
        let known = |path: &str| {
            space.params().iter().any(|p| p.path == path || path.starts_with(&format!("{}.", p.path)))
        };
        let unknown = given.paths().into_iter().map(|(path, _)| path).find(|path| !known(path));
        return Err(TuneError::space(
            unknown.unwrap_or_default(),
            "a given point sets it, and the space does not have it",
        ));
    }
    if !space.holds(&point) {
        return Err(TuneError::space("…", "a given point breaks a constraint"));
    }
    Ok(point)
}

/// How many leaves a value has, as [`Config::paths`] counts them.
fn leaves(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(inner) => inner.values().map(leaves).sum(),
        _ => 1,
    }
}

impl Searcher for Enqueued {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if let Some(id) = self.inner_id(trial) {
            return self.inner.ask(id);
        }
        let point = self.points.get(trial as usize)?.clone();
        if !self.besides {
            if self.inner.total().is_some_and(|total| trial >= total) {
                return None;
            }
            self.inner.replay(trial, &point);
        }
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        if let Some(id) = self.inner_id(trial).or((!self.besides).then_some(trial)) {
            self.inner.tell(id, outcome);
        }
    }

    fn tell_all(&mut self, trial: TrialId, outcome: Outcome, values: &[f64]) {
        if let Some(id) = self.inner_id(trial).or((!self.besides).then_some(trial)) {
            self.inner.tell_all(id, outcome, values);
        }
    }

    fn observe(&mut self, trial: TrialId, iteration: u64, value: f64) {
        if let Some(id) = self.inner_id(trial).or((!self.besides).then_some(trial)) {
            self.inner.observe(id, iteration, value);
        }
    }

    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        if let Some(id) = self.inner_id(trial).or((!self.besides).then_some(trial)) {
            self.inner.replay(id, assignment);
        }
    }

    fn total(&self) -> Option<u64> {
        let besides = if self.besides { self.points.len() as u64 } else { 0 };
        self.inner.total().map(|total| total.saturating_add(besides))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::search::{CmaConfig, Mode, SearchConfig, TpeConfig};
    use crate::space::{choice, grid, uniform};
    use crate::testing;

    fn config(value: serde_json::Value) -> Config {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn it_is_a_searcher_whatever_is_within() {
        let points = [config(json!({"x": 0.25, "net": {"kind": "conv"}})), config(json!({}))];
        for inner in [SearchConfig::Variants, CmaConfig::default().into(), TpeConfig::default().into()] {
            testing::searcher(|space, seed| {
                let besides = inner == SearchConfig::Variants;
                let inner = inner.build(space, &[Mode::Min], 40, seed).unwrap();
                Box::new(Enqueued::new(inner, space, &points, besides, seed).unwrap())
            });
        }
    }

    #[test]
    fn given_points_come_first_and_grids_are_still_gone_through() {
        let space = Space::new().with("a", grid([1, 2])).with("x", uniform(0.0, 1.0));
        let inner = || SearchConfig::Variants.build(&space, &[Mode::Min], 1, Seed::new(0)).unwrap();
        let point = config(json!({"a": 2, "x": 0.5}));
        let mut search = Enqueued::new(inner(), &space, &[point], true, Seed::new(0)).unwrap();
        let points: Vec<Assignment> = (0..9).map_while(|trial| search.ask(trial)).collect();
        assert_eq!(points[0].to_config(), config(json!({"a": 2, "x": 0.5})));
        let a: Vec<_> = points.iter().map(|point| point.get("a").cloned().unwrap()).collect();
        assert_eq!((a, search.total()), (vec![json!(2), json!(1), json!(2)], Some(3)));
    }

    #[test]
    fn points_outside_of_the_space_are_refused() {
        let space = Space::new().with("kind", choice(["a", "b"])).when(
            "kind",
            ["b"],
            Space::new().with("x", uniform(0.0, 1.0)),
        );
        let refused = |point| {
            let inner = SearchConfig::Variants.build(&space, &[Mode::Min], 1, Seed::new(0)).unwrap();
            let made = Enqueued::new(inner, &space, &[config(point)], true, Seed::new(0));
            made.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            refused(json!({"kind": "b", "x": 2.0})),
            "parameter `x`: 2.0 of a given point lies outside its domain"
        );
        assert!(refused(json!({"kind": "a", "x": 0.5})).contains("where it does not exist"));
        assert_eq!(
            refused(json!({"kind": "a", "y": {"z": 1}})),
            "parameter `y.z`: a given point sets it, and the space does not have it"
        );
        assert_eq!(refused(json!({"kind": "b"})), "");
    }
}
