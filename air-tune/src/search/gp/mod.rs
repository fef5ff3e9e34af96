//! [`Gp`]: Bayesian optimisation with a Gaussian process, for few and dear trials.
//!
//! Jones, Schonlau, Welch, "Efficient Global Optimization of Expensive Black-Box Functions", 1998: a process is fitted to all trials, and the point is tried whose improvement on the
//! best is expected to be largest. The logarithm of that expectation is maximised (Ament et al., "Unexpected Improvements to Expected Improvement", 2023). Trials under way count
//! as if they had ended as expected (Ginsbourger et al. 2010, "kriging believer"), so that many can be asked for at once.

mod descent;
mod model;

use std::f64::consts::{PI, SQRT_2};

use air_core::seed::Seed;
use descent::minimize;
use model::{Kernel, Model};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::axes::Axes;
use super::{Mode, Outcome, Searcher};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::space::{Assignment, Space};

/// Points at random, and as many around the best trials, from which the climb begins at the best few.
const POINTS: usize = 200;
/// Climbs, and evaluations of each.
const CLIMBS: usize = 4;
const CLIMB_EVALUATIONS: usize = 30;

/// Settings of [`Gp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpConfig {
    /// Trials drawn at random before anything is learned.
    pub startup_trials: u64,
    /// Most trials the process is fitted to, the best and the newest: its cost grows with the cube of their number.
    pub most_trials: usize,
}

impl Default for GpConfig {
    fn default() -> Self {
        Self { startup_trials: 10, most_trials: 400 }
    }
}

impl GpConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        if self.startup_trials == 0 {
            return Err(TuneError::config("search.startup_trials", "must be at least 1"));
        }
        if !(10..=2_000).contains(&self.most_trials) {
            return Err(TuneError::config("search.most_trials", "must be between 10 and 2000"));
        }
        Ok(())
    }
}

/// Models the whole function; see the module.
#[derive(Debug)]
pub struct Gp {
    config: GpConfig,
    axes: Axes,
    listed: Vec<bool>,
    mode: Mode,
    trials: u64,
    seed: Seed,
    past: Vec<Past>,
    kernel: Kernel,
    /// How many trials had been told when the kernel was last fitted.
    fitted: usize,
}

#[derive(Debug)]
struct Past {
    row: Vec<f64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Running,
    /// Smaller is better.
    Ended(f64),
    Failed,
}

/// What a proposal is made from: rows, their values (about zero and one), and how many of them are trials that have ended.
struct Seen {
    rows: Vec<Vec<f64>>,
    values: Vec<f64>,
}

impl Gp {
    /// Searches `space` with `trials` trials.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] or [`TuneError::InvalidConfig`].
    pub fn new(space: &Space, mode: Mode, trials: u64, config: GpConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let axes = Axes::new(space)?;
        let listed: Vec<bool> = (0..axes.len()).map(|at| axes.axis(at).listed().is_some()).collect();
        let kernel = Kernel::new(axes.len());
        Ok(Self { config, axes, listed, mode, trials, seed, past: Vec::new(), kernel, fitted: 0 })
    }

    /// A place of the unit cube where a row is; what does not exist at random.
    fn units(&self, row: &[f64], rng: &mut impl Rng) -> Vec<f64> {
        row.iter()
            .enumerate()
            .map(|(at, number)| match self.axes.axis(at).listed() {
                _ if number.is_nan() => rng.random(),
                Some(values) => (number + rng.random::<f64>()) / values as f64,
                None => *number,
            })
            .collect()
    }

    fn row(&self, units: &[f64]) -> Vec<f64> {
        self.axes.encode(&self.axes.at(units))
    }

    /// The trials that have ended, values squashed.
    fn ended(&self) -> Seen {
        let mut ended: Vec<(usize, f64)> = self
            .past
            .iter()
            .enumerate()
            .filter_map(|(at, past)| match past.state {
                State::Ended(value) => Some((at, value)),
                _ => None,
            })
            .collect();
        if ended.len() > self.config.most_trials {
            let newest = ended.split_off(ended.len() - self.config.most_trials / 2);
            ended.sort_by(|(_, a), (_, b)| a.total_cmp(b));
            ended.truncate(self.config.most_trials - newest.len());
            ended.extend(newest);
        }
        // A failed trial is as bad as the worst that ended.
        let worst = ended.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        let failed = self.past.iter().enumerate().rev().filter(|(_, past)| past.state == State::Failed);
        let room = self.config.most_trials / 4;
        ended.extend(failed.take(room).map(|(at, _)| (at, worst)));
        let rows = ended.iter().map(|(at, _)| self.past[*at].row.clone()).collect();
        let values: Vec<f64> = ended.iter().map(|(_, value)| *value).collect();
        Seen { rows, values: squashed(&values) }
    }

    fn propose(&mut self, seed: Seed) -> Option<Assignment> {
        let mut seen = self.ended();
        let told = seen.rows.len();
        // With more trials each tells less; the kernel moves rarely and from where it was.
        if told >= self.fitted + 1 + told / 20 || told < self.fitted {
            let evaluations = if told <= 50 { 40 } else { 15 };
            self.kernel = self.kernel.fitted(&seen.rows, &self.listed, &seen.values, evaluations);
            self.fitted = told;
        }
        let running: Vec<Vec<f64>> = self
            .past
            .iter()
            .filter(|past| past.state == State::Running)
            .map(|past| past.row.clone())
            .collect();
        if !running.is_empty() {
            let model = Model::new(&seen.rows, &self.listed, &seen.values, self.kernel.clone())?;
            let expected: Vec<f64> = running.iter().map(|row| model.mean(row)).collect();
            seen.rows.extend(running);
            seen.values.extend(expected);
        }
        let model = Model::new(&seen.rows, &self.listed, &seen.values, self.kernel.clone())?;
        let best = seen.values.iter().copied().fold(f64::INFINITY, f64::min);
        Some(self.climb(&model, &seen, best, &mut seed.rng()))
    }

    /// The point of the largest expected improvement, as far as a few climbs find it.
    fn climb(&self, model: &Model<'_>, seen: &Seen, best: f64, rng: &mut impl Rng) -> Assignment {
        let mut order: Vec<usize> = (0..seen.rows.len()).collect();
        order.sort_by(|a, b| seen.values[*a].total_cmp(&seen.values[*b]));
        let units: Vec<Vec<f64>> = (0..2 * POINTS)
            .map(|at| {
                if at < POINTS {
                    return (0..self.axes.len()).map(|_| rng.random()).collect();
                }
                // Around one of the best five, from a tenth of the range down to a thousandth.
                let mut units = self.units(&seen.rows[order[at % order.len().min(5)]], rng);
                let reach = 10.0_f64.powf(-1.0 - 2.0 * rng.random::<f64>());
                let share = 1.0_f64.min(2.0 / units.len() as f64).max(0.2);
                for unit in &mut units {
                    if rng.random::<f64>() < share {
                        *unit = (*unit + reach * (2.0 * rng.random::<f64>() - 1.0)).clamp(0.0, 1.0);
                    }
                }
                // Now and then another value of a list.
                for (unit, listed) in units.iter_mut().zip(&self.listed) {
                    if *listed && rng.random::<f64>() < share / 2.0 {
                        *unit = rng.random();
                    }
                }
                units
            })
            .collect();
        let rows: Vec<Vec<f64>> = units.iter().map(|units| self.row(units)).collect();
        let mut starts: Vec<(f64, Vec<f64>)> = model
            .predict(&rows)
            .into_iter()
            .zip(units)
            .map(|((mean, variance), units)| (log_improvement(best, mean, variance).0, units))
            .collect();
        starts.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let known = |point: &Assignment| {
            let row = self.axes.encode(point);
            self.past.iter().any(|past| past.row.iter().zip(&row).all(|(a, b)| a.to_bits() == b.to_bits()))
        };
        let mut found: Vec<Assignment> = Vec::with_capacity(CLIMBS);
        for (_, units) in starts.iter().take(CLIMBS) {
            let (units, _) = minimize(units.clone(), (0.0, 1.0), CLIMB_EVALUATIONS, |units, gradient| {
                // Along smooth axes as they are; integers and lists where their cells are.
                let mut row = self.row(units);
                for (at, number) in row.iter_mut().enumerate() {
                    if !number.is_nan() && self.is_smooth(at) {
                        *number = units[at];
                    }
                }
                let (mean, variance, by_mean, by_variance) = model.predict_with_slope(&row);
                let (value, of_mean, of_variance) = log_improvement(best, mean, variance);
                for (at, out) in gradient.iter_mut().enumerate() {
                    *out = if self.is_smooth(at) {
                        -(of_mean * by_mean[at] + of_variance * by_variance[at])
                    } else {
                        0.0
                    };
                }
                -value
            });
            found.push(self.axes.at(&units));
        }
        let rows: Vec<Vec<f64>> = found.iter().map(|point| self.axes.encode(point)).collect();
        let gain = |(mean, variance)| log_improvement(best, mean, variance).0;
        let mut found: Vec<(f64, Assignment)> =
            model.predict(&rows).into_iter().map(gain).zip(found).collect();
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let fresh = found.into_iter().map(|(_, point)| point).find(|point| !known(point));
        fresh
            .or_else(|| starts.iter().map(|(_, units)| self.axes.at(units)).find(|point| !known(point)))
            .unwrap_or_else(|| self.axes.at(&starts[0].1))
    }

    fn is_smooth(&self, at: usize) -> bool {
        !self.listed[at] && self.axes.axis(at).cells().is_none()
    }
}

/// Values with a median of zero whose better half has a mean distance of one from it. How much worse than the median the worse half is matters less and less: no
/// process fits a wall.
fn squashed(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    let better = &sorted[..sorted.len().div_ceil(2)];
    let spread = better.iter().map(|value| middle - value).sum::<f64>() / better.len() as f64;
    let spread = if spread > 0.0 && spread.is_finite() { spread } else { 1.0 };
    values
        .iter()
        .map(|value| {
            let z = ((value - middle) / spread).min(1e300);
            if z > 0.0 { z.ln_1p() } else { z }
        })
        .collect()
}

/// The logarithm of the expected improvement on `best`, and its derivatives by mean and variance.
fn log_improvement(best: f64, mean: f64, variance: f64) -> (f64, f64, f64) {
    let deviation = variance.sqrt();
    let z = (best - mean) / deviation;
    let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
    // log(φ(z) + z Φ(z)), and its derivative Φ/(φ + zΦ).
    let (log_h, slope) = if z > -25.0 {
        let below = 0.5 * libm::erfc(-z / SQRT_2);
        let h = density + z * below;
        (h.ln(), below / h)
    } else {
        // Far below, φ + zΦ = φ (1/z² − 3/z⁴ + 15/z⁶ − …), whose derivative Φ is φ/|z| (1 − 1/z² + 3/z⁴ − …).
        let w = 1.0 / (z * z);
        let series = w * (1.0 - 3.0 * w * (1.0 - 5.0 * w * (1.0 - 7.0 * w)));
        let below = (1.0 - w * (1.0 - 3.0 * w * (1.0 - 5.0 * w))) / -z;
        (-0.5 * z * z - 0.5 * (2.0 * PI).ln() + series.ln(), below / series)
    };
    (log_h + deviation.ln(), -slope / deviation, (0.5 - 0.5 * slope * z) / variance)
}

impl Searcher for Gp {
    fn ask(&mut self, trial: TrialId) -> Option<Assignment> {
        if trial >= self.trials {
            return None;
        }
        let seed = self.seed.child("trial", trial);
        let ended = self.past.iter().filter(|past| matches!(past.state, State::Ended(_))).count();
        let learned = if ended as u64 >= self.config.startup_trials { self.propose(seed) } else { None };
        let point = learned.unwrap_or_else(|| {
            let mut rng = seed.child("start", 0).rng();
            let units: Vec<f64> = (0..self.axes.len()).map(|_| rng.random()).collect();
            self.axes.at(&units)
        });
        self.past.push(Past { row: self.axes.encode(&point), state: State::Running });
        Some(point)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome) {
        let signed = |value: f64| if self.mode == Mode::Max { -value } else { value };
        let state = match outcome {
            Outcome::Complete(value) | Outcome::Stopped(value) if value.is_finite() => {
                State::Ended(signed(value))
            }
            _ => State::Failed,
        };
        if let Some(past) = self.past.get_mut(trial as usize) {
            past.state = state;
        }
    }

    fn replay(&mut self, trial: TrialId, assignment: &Assignment) {
        // The kernel goes from fit to fit: only the same asks lead to the same one.
        let _ = self.ask(trial);
        if let Some(past) = self.past.get_mut(trial as usize) {
            past.row = self.axes.encode(assignment);
        }
    }

    fn total(&self) -> Option<u64> {
        Some(self.trials)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::space::{choice, int_uniform, uniform};
    use crate::testing;

    #[test]
    fn it_is_a_searcher() {
        testing::searcher(|space, seed| {
            Box::new(Gp::new(space, Mode::Min, 40, GpConfig::default(), seed).unwrap())
        });
    }

    #[test]
    fn the_expected_improvement_is_that_of_its_definition() {
        // By the trapezoidal rule over the normal distribution.
        let definition = |best: f64, mean: f64, variance: f64| {
            let (steps, deviation) = (200_000, variance.sqrt());
            let width = 40.0 / f64::from(steps);
            (0..=steps)
                .map(|at| {
                    let z = -20.0 + f64::from(at) * width;
                    (best - mean - deviation * z).max(0.0) * (-0.5 * z * z).exp() / (2.0 * PI).sqrt() * width
                })
                .sum::<f64>()
                .ln()
        };
        for (best, mean, variance) in [(0.0, 0.5, 1.0), (1.0, -2.0, 0.25), (-3.0, 0.0, 0.4), (-8.0, 0.5, 1.5)]
        {
            let (value, by_mean, by_variance) = log_improvement(best, mean, variance);
            assert!(
                (value - definition(best, mean, variance)).abs() < 1e-4,
                "{value} {}",
                definition(best, mean, variance)
            );
            let slope = |m: f64, v: f64| {
                (log_improvement(best, mean + m, variance + v).0
                    - log_improvement(best, mean - m, variance - v).0)
                    / 2e-6
            };
            assert!((slope(1e-6, 0.0) - by_mean).abs() < 1e-3 * by_mean.abs().max(1.0), "{by_mean}");
            assert!(
                (slope(0.0, 1e-6) - by_variance).abs() < 1e-3 * by_variance.abs().max(1.0),
                "{by_variance}"
            );
        }
        // Where the two forms meet, and where a naive one is minus infinity.
        let (below, above) = (log_improvement(-25.000_001, 0.0, 1.0), log_improvement(-24.999_999, 0.0, 1.0));
        assert!((below.0 - above.0).abs() < 1e-3 && (below.1 - above.1).abs() < 1e-2, "{below:?} {above:?}");
        assert!(log_improvement(-60.0, 0.0, 1.0).0.is_finite());
    }

    #[test]
    fn it_finds_the_bottom_of_branin_in_forty_trials() {
        let space = Space::new().with("x", uniform(-5.0, 10.0)).with("y", uniform(0.0, 15.0));
        for seed in 0..3 {
            let mut search = Gp::new(&space, Mode::Min, 40, GpConfig::default(), Seed::new(seed)).unwrap();
            let mut best = f64::INFINITY;
            for trial in 0..40 {
                let point = search.ask(trial).unwrap();
                let number = |path| point.get(path).unwrap().as_f64().unwrap();
                let (x, y) = (number("x"), number("y"));
                let value = (y - 5.1 * x * x / (4.0 * PI * PI) + 5.0 * x / PI - 6.0).powi(2)
                    + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos()
                    + 10.0;
                best = best.min(value);
                search.tell(trial, Outcome::Complete(value));
            }
            assert!(best < 0.3979 + 0.05, "seed {seed}: {best}");
        }
    }

    #[test]
    fn trials_asked_at_once_lie_apart() {
        let space = Space::new()
            .with("x", uniform(0.0, 1.0))
            .with("n", int_uniform(0..=9))
            .with("k", choice(["a", "b"]));
        let mut search = Gp::new(&space, Mode::Max, 100, GpConfig::default(), Seed::new(1)).unwrap();
        for trial in 0..15 {
            let point = search.ask(trial).unwrap();
            let x = point.get("x").unwrap().as_f64().unwrap();
            search.tell(trial, Outcome::Complete(-(x - 0.5).powi(2)));
        }
        let mut points: Vec<String> =
            (15..23).map(|trial| format!("{:?}", search.ask(trial).unwrap())).collect();
        points.sort();
        points.dedup();
        assert_eq!(points.len(), 8);
    }

    #[test]
    fn values_are_squashed_upwards_only() {
        let values = squashed(&[5.0, 1.0, 3.0, 1e200, 2.0]);
        assert_eq!(values[2], 0.0);
        assert!(
            values[1] < values[4] && values[4] < 0.0 && values[0] > 0.0 && values[3] < 500.0,
            "{values:?}"
        );
        assert_eq!(squashed(&[2.0, 2.0]), [0.0, 0.0]);
    }
}
