//! [`Bandit`]: what a population has learned about which configurations improve when.

use crate::error::Result;
use crate::search::axes::Axes;
use crate::search::gp::most_promising;
use crate::space::{Assignment, Space};

/// Configurations of which the most promising one is taken.
pub(super) const CANDIDATES: usize = 200;
/// Intervals that are learned from: the newest.
const REMEMBERED: usize = 200;
/// With fewer intervals the first candidate is taken, which was drawn at random.
const LEAST: usize = 4;
/// Standard deviations of the upper bound.
const WIDE: f64 = 2.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Bandit {
    axes: Axes,
    /// The configuration of an interval, the iteration it ended at, and what the metric gained an iteration.
    seen: Vec<(Vec<f64>, u64, f64)>,
}

impl Bandit {
    pub fn new(space: &Space) -> Result<Self> {
        Ok(Self { axes: Axes::new(space)?, seen: Vec::new() })
    }

    pub fn learn(&mut self, assignment: &Assignment, iteration: u64, gain: f64) {
        if gain.is_finite() {
            if self.seen.len() == REMEMBERED {
                self.seen.remove(0);
            }
            self.seen.push((self.axes.encode(assignment), iteration, gain));
        }
    }

    /// The most promising of some points, for an interval that begins at an iteration.
    pub fn pick(&self, mut points: Vec<Assignment>, iteration: u64) -> Assignment {
        let latest =
            self.seen.iter().map(|(_, at, _)| *at).chain([iteration]).max().unwrap_or(1).max(1) as f64;
        let row = |mut row: Vec<f64>, at: u64| {
            row.push(at as f64 / latest);
            row
        };
        let rows: Vec<Vec<f64>> = self.seen.iter().map(|(units, at, _)| row(units.clone(), *at)).collect();
        let gains: Vec<f64> = self.seen.iter().map(|(_, _, gain)| *gain).collect();
        let candidates: Vec<Vec<f64>> =
            points.iter().map(|point| row(self.axes.encode(point), iteration)).collect();
        let listed: Vec<bool> =
            (0..self.axes.len()).map(|at| self.axes.axis(at).listed().is_some()).chain([false]).collect();
        let best =
            if rows.len() < LEAST { None } else { most_promising(&rows, &listed, &gains, &candidates, WIDE) };
        points.swap_remove(best.unwrap_or(0))
    }
}
