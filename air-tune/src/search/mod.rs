//! Searchers propose configurations.
//!
//! A searcher is pure: no clock, no thread, no I/O, and no randomness but what follows from its seed and the trial's
//! number. So an interrupted experiment goes on exactly: the store replays what was asked and told, in order.

pub(crate) mod axes;
pub(crate) mod byrun;
mod cma;
mod differential;
mod enqueued;
mod feasible;
mod gp;
mod nsga;
pub(crate) mod pareto;
mod quasi;
mod rank;
mod tpe;
mod variants;

pub use cma::{Cma, CmaConfig};
pub use differential::{Differential, DifferentialConfig};
pub use gp::{Gp, GpConfig};
pub use nsga::{Nsga2, Nsga2Config};
pub use quasi::Quasi;
pub use tpe::{Bohb, BohbConfig, Tpe, TpeConfig};
pub use variants::BasicVariants;

use air_core::seed::Seed;
use serde::{Deserialize, Serialize};

use enqueued::Enqueued;
use feasible::Feasible;

use crate::TrialId;
use crate::config::Config;
use crate::error::Result;
use crate::space::{Assignment, Domain, Space};

/// Whether small or large values of the metric are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Small values are good.
    #[default]
    Min,
    /// Large values are good.
    Max,
}

impl Mode {
    /// Whether `a` is better than `b`. Not-a-number is worse than everything, and no better than itself.
    pub fn better(self, a: f64, b: f64) -> bool {
        match (a.is_nan(), b.is_nan()) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => match self {
                Mode::Min => a < b,
                Mode::Max => a > b,
            },
        }
    }
}

/// What became of a trial, as a searcher sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It ran to its end, with this value of the metric.
    Complete(f64),
    /// A scheduler stopped it early, at this value.
    Stopped(f64),
    /// It failed, or reported nothing usable.
    Failed,
}

/// Proposes configurations and learns from their outcomes.
///
/// `testing::searcher` holds the suite every implementation passes.
pub trait Searcher: Send {
    /// The next configuration, for `trial`; nothing when the search is over.
    ///
    /// Trials are numbered 0, 1, 2, … in the order they are asked.
    fn ask(&mut self, trial: TrialId) -> Option<Assignment>;

    /// The outcome of a trial asked before.
    fn tell(&mut self, trial: TrialId, outcome: Outcome);

    /// The outcome of a trial where several numbers count: `values` has one for each objective, the experiment's metric first, and none if the trial failed.
    fn tell_all(&mut self, trial: TrialId, outcome: Outcome, values: &[f64]) {
        let _ = values;
        self.tell(trial, outcome);
    }

    /// A running trial reported `value` of the metric after `iteration` iterations.
    fn observe(&mut self, trial: TrialId, iteration: u64, value: f64) {
        let _ = (trial, iteration, value);
    }

    /// Takes the place of `ask` while an interrupted experiment is replayed: `ask(trial)` gave `assignment` then.
    fn replay(&mut self, trial: TrialId, assignment: &Assignment);

    /// How many trials there will be, where that is known.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// Which searcher an experiment uses, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchConfig {
    /// [`BasicVariants`] where the space has a grid, else [`Tpe`]; [`Nsga2`] for several objectives.
    #[default]
    Auto,
    /// [`BasicVariants`]: grids and random search.
    Variants,
    /// [`Tpe`].
    Tpe(TpeConfig),
    /// [`Cma`].
    Cma(CmaConfig),
    /// [`Gp`].
    Gp(GpConfig),
    /// [`Quasi`]: spread evenly.
    Quasi,
    /// [`Differential`].
    Differential(DifferentialConfig),
    /// [`Nsga2`], for several objectives.
    Nsga2(Nsga2Config),
    /// [`Bohb`], for trials that HyperBand or ASHA stop.
    Bohb(BohbConfig),
}

impl SearchConfig {
    /// Builds the searcher of `space`, with `samples` trials; with grids `samples` times all their points, where grids are gone through. `modes` are those of the
    /// objectives, the experiment's metric first: only [`Nsga2`] looks at the others.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`](crate::TuneError::InvalidSpace) or [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig).
    pub fn build(
        &self,
        space: &Space,
        modes: &[Mode],
        samples: u64,
        seed: Seed,
    ) -> Result<Box<dyn Searcher>> {
        if space.constraints().is_empty() {
            return self.build_free(space, modes, samples, seed);
        }
        // Some of its points do not count: then it is here that the trials are counted.
        let counted = !self.goes_through_grids(space);
        let free = self.build_free(space, modes, if counted { u64::MAX } else { samples }, seed)?;
        Ok(Box::new(Feasible::new(free, space, counted.then_some(samples))))
    }

    /// As [`build`](Self::build), after points that are given; what these leave out is drawn at random. Where grids are gone through the points come besides, otherwise
    /// they are the first of the trials.
    ///
    /// # Errors
    /// As [`build`](Self::build), also for a point that does not lie in the space.
    pub fn build_after(
        &self,
        points: &[Config],
        space: &Space,
        modes: &[Mode],
        samples: u64,
        seed: Seed,
    ) -> Result<Box<dyn Searcher>> {
        if points.is_empty() {
            return self.build(space, modes, samples, seed);
        }
        let besides = self.goes_through_grids(space);
        let inner = self.build(space, modes, samples, seed)?;
        Ok(Box::new(Enqueued::new(inner, space, points, besides, seed.child("points", 0))?))
    }

    /// Whether the number of trials is that of a grid's points.
    fn goes_through_grids(&self, space: &Space) -> bool {
        let grid = space.params().iter().any(|param| matches!(param.domain, Domain::Grid { .. }));
        grid && matches!(self, SearchConfig::Auto | SearchConfig::Variants)
    }

    fn build_free(
        &self,
        space: &Space,
        modes: &[Mode],
        samples: u64,
        seed: Seed,
    ) -> Result<Box<dyn Searcher>> {
        let mode = modes.first().copied().unwrap_or_default();
        let grid = space.params().iter().any(|param| matches!(param.domain, Domain::Grid { .. }));
        Ok(match self {
            SearchConfig::Auto if !grid && modes.len() > 1 => {
                Box::new(Nsga2::new(space, modes, samples, Nsga2Config::default(), seed)?)
            }
            SearchConfig::Auto if !grid => {
                Box::new(Tpe::new(space, mode, samples, TpeConfig::default(), seed)?)
            }
            SearchConfig::Auto | SearchConfig::Variants => {
                Box::new(BasicVariants::new(space, samples, seed)?)
            }
            SearchConfig::Tpe(config) => Box::new(Tpe::new(space, mode, samples, config.clone(), seed)?),
            SearchConfig::Cma(config) => Box::new(Cma::new(space, mode, samples, config.clone(), seed)?),
            SearchConfig::Gp(config) => Box::new(Gp::new(space, mode, samples, config.clone(), seed)?),
            SearchConfig::Quasi => Box::new(Quasi::new(space, samples, seed)?),
            SearchConfig::Differential(config) => {
                Box::new(Differential::new(space, mode, samples, config.clone(), seed)?)
            }
            SearchConfig::Nsga2(config) => Box::new(Nsga2::new(space, modes, samples, config.clone(), seed)?),
            SearchConfig::Bohb(config) => Box::new(Bohb::new(space, mode, samples, config.clone(), seed)?),
        })
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig) for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        match self {
            SearchConfig::Auto | SearchConfig::Variants | SearchConfig::Quasi => Ok(()),
            SearchConfig::Tpe(config) => config.validate(),
            SearchConfig::Cma(config) => config.validate(),
            SearchConfig::Gp(config) => config.validate(),
            SearchConfig::Differential(config) => config.validate(),
            SearchConfig::Nsga2(config) => config.validate(),
            SearchConfig::Bohb(config) => config.validate(),
        }
    }
}

macro_rules! from_config {
    ($($config:ident => $kind:ident),*) => { $(impl From<$config> for SearchConfig {
        fn from(config: $config) -> Self { SearchConfig::$kind(config) }
    })* };
}
from_config!(TpeConfig => Tpe, CmaConfig => Cma, GpConfig => Gp, DifferentialConfig => Differential, Nsga2Config => Nsga2, BohbConfig => Bohb);

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn not_a_number_is_worst_both_ways() {
        for mode in [Mode::Min, Mode::Max] {
            assert!(mode.better(f64::INFINITY, f64::NAN) && mode.better(f64::NEG_INFINITY, f64::NAN));
            assert!(!mode.better(f64::NAN, 1.0) && !mode.better(f64::NAN, f64::NAN));
        }
        assert!(Mode::Min.better(1.0, 2.0) && Mode::Max.better(2.0, 1.0));
    }
}
