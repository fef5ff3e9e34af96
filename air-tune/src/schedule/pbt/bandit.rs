//! [`Bandit`]: what a population has learned about which numbers make a trial improve, and when.
//!
//! PB2: Parker-Holder, Nguyen, Roberts, "Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits", NeurIPS 2020. How much the metric improves an
//! iteration, over an interval, is a Gaussian process over what the trial was given, how good it was before, and the time; what happened long ago tells less. A clone is given the numbers
//! whose improvement has the largest upper bound. Numbers that other clones have been given since count as tried, though not yet as seen.

use std::collections::VecDeque;

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};
use rand::{Rng, RngExt};

use crate::error::Result;
use crate::search::axes::Axes;
use crate::space::{Assignment, Space};

/// Intervals that are learned from: the newest.
const REMEMBERED: usize = 64;
/// With fewer intervals nothing is learned yet.
const LEAST: usize = 4;
/// What the kernel may be: square length scales, how much of a covariance is lost over all the time seen, and noise as a share of the variance. The likeliest is taken.
const LENGTHS: [f64; 5] = [0.02, 0.06, 0.2, 0.6, 2.0];
const FORGETTING: [f64; 3] = [0.0, 0.1, 0.5];
const NOISES: [f64; 2] = [1e-2, 1e-1];
/// Points at random, and those around the best one at each of the narrower reaches.
const POINTS: usize = 128;
const REACHES: [f64; 4] = [0.1, 0.03, 0.01, 0.003];
const AROUND: usize = 24;

/// An interval of one trial.
#[derive(Debug, Clone)]
struct Interval {
    /// The numbers the trial was given, in the unit cube.
    units: Vec<f64>,
    began: f64,
    before: f64,
    /// How much better the metric became an iteration.
    gain: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bandit {
    axes: Axes,
    /// Which axes are numbers that may change.
    numbers: Vec<usize>,
    seen: VecDeque<Interval>,
    /// How many intervals there have been, and the kernel, with how many there had been when it was found.
    learned: usize,
    kernel: Option<(usize, Kernel)>,
}

/// What a clone begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// The iteration.
    pub at: u64,
    /// The metric, large values good.
    pub value: f64,
}

impl Bandit {
    pub fn new(space: &Space, mutated: &[String]) -> Result<Self> {
        let axes = Axes::new(space)?;
        let is_number = |at: &usize| {
            axes.axis(*at).listed().is_none() && mutated.iter().any(|path| path == axes.path(*at))
        };
        Ok(Self {
            numbers: (0..axes.len()).filter(is_number).collect(),
            axes,
            seen: VecDeque::new(),
            learned: 0,
            kernel: None,
        })
    }

    /// The numbers of a point. One that does not exist there lies in the middle: it is the same for all points it is missing from.
    fn units(&self, point: &Assignment) -> Vec<f64> {
        let row = self.axes.encode(point);
        self.numbers.iter().map(|at| if row[*at].is_nan() { 0.5 } else { row[*at] }).collect()
    }

    /// A trial that was given `point` went from `start` to a value at an iteration.
    pub fn learn(&mut self, point: &Assignment, start: Start, at: u64, value: f64) {
        let gain = (value - start.value) / at.saturating_sub(start.at) as f64;
        // Of no iteration, or from or to something that is no number, nothing is learned.
        if !gain.is_finite() {
            return;
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.learned += 1;
        let units = self.units(point);
        self.seen.push_back(Interval { units, began: start.at as f64, before: start.value, gain });
    }

    /// `point` with the most promising numbers for a clone; `tried` is what others have been given since the newest interval ended. Nothing, where too little is known, or there is no
    /// number to change.
    pub fn pick(
        &mut self,
        point: &Assignment,
        start: Start,
        tried: &[Assignment],
        holds: impl Fn(&Assignment) -> bool,
        rng: &mut impl Rng,
    ) -> Option<Assignment> {
        if self.seen.len() < LEAST || self.numbers.is_empty() || !start.value.is_finite() {
            return None;
        }
        let scale = |of: fn(&Interval) -> f64, now: f64| {
            let (low, high) = self
                .seen
                .iter()
                .map(of)
                .chain([now])
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            move |x: f64| if high > low { (x - low) / (high - low) } else { 0.0 }
        };
        let time = scale(|interval| interval.began, start.at as f64);
        let before = scale(|interval| interval.before, start.value);
        let place = |units: &[f64], at: f64, value: f64| Place {
            time: time(at),
            rest: [before(value)].into_iter().chain(units.iter().copied()).collect(),
        };
        let mut places: Vec<Place> =
            self.seen.iter().map(|seen| place(&seen.units, seen.began, seen.before)).collect();
        let gains = standardized(self.seen.iter().map(|seen| seen.gain))?;
        // With more intervals each tells less.
        let (found_at, kernel) = match self.kernel {
            Some((at, kernel)) if self.learned <= at + self.seen.len() / 10 => (at, kernel),
            _ => (self.learned, Kernel::likeliest(&places, &gains)?),
        };
        let mean = Process::new(places.clone(), &gains, kernel)?;
        places.extend(tried.iter().map(|point| place(&self.units(point), start.at as f64, start.value)));
        let padded: Vec<f64> =
            gains.iter().copied().chain(std::iter::repeat(0.0)).take(places.len()).collect();
        // The variance does not depend on values, so those that are not known yet may be anything.
        let variance = Process::new(places, &padded, kernel)?;
        let wide = (0.2 * (0.4 * gains.len() as f64).ln()).max(0.0).sqrt();
        let bound = |units: &[f64]| {
            let place = place(units, start.at as f64, start.value);
            mean.mean(&place) + wide * variance.variance(&place).sqrt()
        };

        let mut best: Option<(f64, Vec<f64>, Assignment)> = None;
        let look = |units: Vec<f64>, best: &mut Option<(f64, Vec<f64>, Assignment)>| {
            let candidate = self.with(point, &units);
            // Where the numbers are once steps are heeded.
            let units = self.units(&candidate);
            let bound = bound(&units);
            if best.as_ref().is_none_or(|(so_far, _, _)| bound > *so_far) && holds(&candidate) {
                *best = Some((bound, units, candidate));
            }
        };
        for _ in 0..POINTS {
            look(self.numbers.iter().map(|_| rng.random()).collect(), &mut best);
        }
        for reach in REACHES {
            for _ in 0..AROUND {
                let Some((_, around, _)) = &best else { break };
                let near =
                    around.iter().map(|x| (x + reach * rng.random_range(-1.0..1.0_f64)).clamp(0.0, 1.0));
                look(near.collect(), &mut best);
            }
        }
        let best = best.map(|(_, _, point)| point);
        self.kernel = Some((found_at, kernel));
        best
    }

    /// `point` with other numbers.
    fn with(&self, point: &Assignment, units: &[f64]) -> Assignment {
        let mut row = self.axes.encode(point);
        for (at, unit) in self.numbers.iter().zip(units) {
            row[*at] = *unit;
        }
        let moved = self.axes.point(|group| group.iter().map(|at| row[*at]).collect());
        let mut all = Assignment::new();
        for (path, value) in point.iter() {
            let is_number = self.numbers.iter().any(|at| self.axes.path(*at) == path);
            all.push(path, moved.get(path).filter(|_| is_number).unwrap_or(value).clone());
        }
        all
    }
}

/// Values of mean zero and deviation one, none further than two from zero; nothing where they are all equal.
fn standardized(values: impl Iterator<Item = f64> + Clone) -> Option<Vec<f64>> {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let deviation = (values.clone().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    (deviation > 0.0 && deviation.is_finite())
        .then(|| values.map(|value| ((value - mean) / deviation).clamp(-2.0, 2.0)).collect())
}

/// Where an interval was: the time, and the rest, each between 0 and 1.
#[derive(Debug, Clone)]
struct Place {
    time: f64,
    rest: Vec<f64>,
}

/// The time-varying squared exponential of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kernel {
    variance: f64,
    /// The square of the length scale.
    length: f64,
    forgetting: f64,
    /// As a share of the variance.
    noise: f64,
}

impl Kernel {
    fn of(&self, a: &Place, b: &Place) -> f64 {
        let squared: f64 = a.rest.iter().zip(&b.rest).map(|(a, b)| (a - b) * (a - b)).sum();
        let remembered = (1.0 - self.forgetting).powf(0.5 * (a.time - b.time).abs());
        self.variance * (-squared / self.length).exp() * remembered
    }

    fn matrix(&self, places: &[Place]) -> DMatrix<f64> {
        DMatrix::from_fn(places.len(), places.len(), |i, j| {
            if i == j { self.variance * (1.0 + self.noise) } else { self.of(&places[i], &places[j]) }
        })
    }

    /// The one that makes what was seen most likely; of each shape with the variance that suits it best.
    fn likeliest(places: &[Place], values: &[f64]) -> Option<Self> {
        let y = DVector::from_column_slice(values);
        let count = values.len() as f64;
        let mut best: Option<(f64, Self)> = None;
        for length in LENGTHS {
            for forgetting in FORGETTING {
                let shape = Self { variance: 1.0, length, forgetting, noise: 0.0 };
                let plain = shape.matrix(places);
                for noise in NOISES {
                    let mut matrix = plain.clone();
                    matrix.fill_diagonal(1.0 + noise);
                    let Some(factor) = Cholesky::new(matrix) else { continue };
                    let variance = (y.dot(&factor.solve(&y)) / count).max(1e-9);
                    let log_det: f64 = factor.l_dirty().diagonal().iter().map(|x| x.ln()).sum();
                    let surprise = 0.5 * count * variance.ln() + log_det;
                    if best.is_none_or(|(least, _)| surprise < least) {
                        best = Some((surprise, Self { variance, noise, ..shape }));
                    }
                }
            }
        }
        best.map(|(_, kernel)| kernel)
    }
}

/// A Gaussian process that has seen values.
struct Process {
    places: Vec<Place>,
    kernel: Kernel,
    factor: Cholesky<f64, Dyn>,
    alpha: DVector<f64>,
}

impl Process {
    fn new(places: Vec<Place>, values: &[f64], kernel: Kernel) -> Option<Self> {
        let factor = Cholesky::new(kernel.matrix(&places))?;
        let alpha = factor.solve(&DVector::from_column_slice(values));
        Some(Self { places, kernel, factor, alpha })
    }

    fn covariances(&self, place: &Place) -> DVector<f64> {
        DVector::from_iterator(self.places.len(), self.places.iter().map(|seen| self.kernel.of(place, seen)))
    }

    fn mean(&self, place: &Place) -> f64 {
        self.covariances(place).dot(&self.alpha)
    }

    fn variance(&self, place: &Place) -> f64 {
        let mut k = self.covariances(place);
        // |L⁻¹k|² is k'K⁻¹k.
        self.factor.l_dirty().solve_lower_triangular_mut(&mut k);
        (self.kernel.variance - k.norm_squared()).max(0.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use air_core::seed::Seed;
    use serde_json::json;

    use super::*;
    use crate::space::{choice, int_uniform, log_uniform, uniform};

    fn space() -> Space {
        Space::new()
            .with("lr", log_uniform(1e-4, 1.0))
            .with("units", int_uniform(1..=5))
            .with("kind", choice(["a", "b"]))
            .when("kind", ["b"], Space::new().with("deep", uniform(0.0, 1.0)))
    }

    fn point(lr: f64, units: i64, deep: Option<f64>) -> Assignment {
        let mut point = Assignment::new();
        point.push("lr", json!(lr));
        point.push("units", json!(units));
        point.push("kind", json!(if deep.is_some() { "b" } else { "a" }));
        if let Some(deep) = deep {
            point.push("deep", json!(deep));
        }
        point
    }

    fn bandit(mutated: &[&str]) -> Bandit {
        Bandit::new(&space(), &mutated.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn lr(point: &Assignment) -> f64 {
        point.get("lr").and_then(serde_json::Value::as_f64).unwrap()
    }

    fn pick(bandit: &mut Bandit, tried: &[Assignment], at: u64) -> Option<Assignment> {
        let start = Start { at, value: 1.0 };
        bandit.pick(&point(0.5, 3, Some(0.25)), start, tried, |_| true, &mut Seed::new(5).rng())
    }

    #[test]
    fn it_takes_the_numbers_that_improved_most_and_leaves_the_rest() {
        let mut bandit = bandit(&["lr", "units"]);
        for lr in [1e-4, 1e-3, 1e-2, 1e-1, 1.0] {
            for units in [1, 3, 5] {
                // A thousandth and five units are best.
                let gain = -(f64::log10(lr) + 3.0).abs() + units as f64;
                bandit.learn(&point(lr, units, None), Start { at: 1, value: 0.0 }, 2, gain);
            }
            if lr < 1e-3 {
                assert_eq!(pick(&mut bandit, &[], 2), None, "of three intervals nothing is told");
            }
        }
        let picked = pick(&mut bandit, &[], 2).unwrap();
        space().check(&picked).unwrap();
        assert!((f64::log10(lr(&picked)) + 3.0).abs() < 0.5, "{picked:?}");
        assert_eq!(
            [picked.get("units"), picked.get("kind"), picked.get("deep")],
            [Some(&json!(5)), Some(&json!("b")), Some(&json!(0.25))]
        );
        assert_eq!(pick(&mut bandit, &[], 2), Some(picked), "for alike seeds alike");
    }

    #[test]
    fn what_others_are_given_already_is_less_promising() {
        let mut bandit = bandit(&["lr"]);
        for lr in [1e-4, 1e-2, 1.0] {
            for again in 0..3 {
                let gain = f64::from(again % 2) * 0.1;
                bandit.learn(&point(lr, 1, None), Start { at: 1, value: 1.0 }, 2, 1.0 + gain);
            }
        }
        let first = pick(&mut bandit, &[], 2).unwrap();
        assert_eq!(pick(&mut bandit, &[], 2), Some(first.clone()));
        let second = pick(&mut bandit, std::slice::from_ref(&first), 2).unwrap();
        let apart = (lr(&first).log10() - lr(&second).log10()).abs();
        assert!(apart > 0.5, "{first:?} {second:?}");
    }

    #[test]
    fn nothing_is_learned_of_no_iteration_or_no_number_and_memory_has_an_end() {
        let mut bandit = bandit(&["lr"]);
        let start = |value| Start { at: 3, value };
        bandit.learn(&point(0.1, 1, None), start(1.0), 3, 2.0);
        bandit.learn(&point(0.1, 1, None), start(f64::NAN), 4, 2.0);
        bandit.learn(&point(0.1, 1, None), start(1.0), 4, f64::INFINITY);
        assert!(bandit.seen.is_empty());
        for at in 0..2 * REMEMBERED {
            bandit.learn(&point(0.1, 1, None), start(0.0), 4, at as f64);
        }
        assert_eq!((bandit.seen.len(), bandit.seen[0].gain), (REMEMBERED, REMEMBERED as f64));
        let same = |value| Start { at: 9, value };
        assert!(
            bandit
                .pick(&point(0.1, 1, None), same(f64::NAN), &[], |_| true, &mut Seed::new(0).rng())
                .is_none()
        );
        assert!(
            bandit.pick(&point(0.1, 1, None), same(1.0), &[], |_| false, &mut Seed::new(0).rng()).is_none()
        );
        assert!(self::bandit(&["kind"]).numbers.is_empty(), "lists are not its own");
    }

    #[test]
    fn the_process_is_that_of_its_definition() {
        let kernel = Kernel { variance: 2.0, length: 0.5, forgetting: 0.3, noise: 0.1 };
        let place = |time: f64, x: f64| Place { time, rest: vec![x] };
        let (a, b) = (place(0.0, 0.2), place(1.0, 0.7));
        let covariance = 2.0 * (-0.25_f64 / 0.5).exp() * 0.7_f64.sqrt();
        assert!((kernel.of(&a, &b) - covariance).abs() < 1e-12);
        // Two places, by hand: K⁻¹ of [[2.2, c], [c, 2.2]].
        let process = Process::new(vec![a.clone(), b.clone()], &[1.0, -1.0], kernel).unwrap();
        let determinant = 2.2 * 2.2 - covariance * covariance;
        let alpha = [(2.2 + covariance) / determinant, (-covariance - 2.2) / determinant];
        let new = place(1.0, 0.2);
        let k = [kernel.of(&new, &a), kernel.of(&new, &b)];
        assert!((process.mean(&new) - (k[0] * alpha[0] + k[1] * alpha[1])).abs() < 1e-12);
        let explained = (2.2 * (k[0] * k[0] + k[1] * k[1]) - 2.0 * covariance * k[0] * k[1]) / determinant;
        assert!((process.variance(&new) - (2.0 - explained)).abs() < 1e-12);
    }
}
