//! A space as numbers: what searchers that learn work on.
//!
//! Every searched parameter is an [`Axis`]; a number becomes a point of the unit interval (logarithms taken, steps and integers as
//! cells of equal width there), one of a list its index. A trial is a row with one number per axis, not-a-number where the parameter does not
//! exist. Parameters that exist under the same conditions form a group: within a group a row has all values or none.

use serde_json::Value;

use crate::error::Result;
use crate::space::normal::share;
use crate::space::{Assignment, Domain, Space};

/// One searched parameter.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// Its index within the space's parameters.
    param: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// One of these.
    Listed(Vec<Value>),
    /// A number: `unit` of it is its place within `low..=high`, bounds of the outermost cells, in logarithms if `log`.
    Number { low: f64, high: f64, log: bool, cells: Option<Cells>, int: bool },
    /// A number: `unit` of it is the share of its normal distribution below.
    Normal { mean: f64, deviation: f64 },
}

/// A number that takes `count` values, `step` apart from `first` on.
#[derive(Debug, Clone, Copy)]
struct Cells {
    first: f64,
    step: f64,
    count: u64,
}

impl Axis {
    /// The axis of a parameter, if it is searched at all.
    fn new(param: usize, domain: &Domain) -> Option<Self> {
        let cells = |first: f64, last: f64, step: f64, log: bool, int| {
            let count = ((last - first) / step).round() as u64 + 1;
            let scale = |x: f64| if log { x.ln() } else { x };
            let (low, high) = (scale(first - step / 2.0), scale(last + step / 2.0));
            Kind::Number { low, high, log, cells: Some(Cells { first, step, count }), int }
        };
        let kind = match domain {
            Domain::Grid { values } | Domain::Choice { values } => Kind::Listed(values.clone()),
            Domain::Float { low, high, step: Some(step), .. } => cells(*low, *high, *step, false, false),
            Domain::Float { low, high, log, step: None } => {
                let (low, high) = if *log { (low.ln(), high.ln()) } else { (*low, *high) };
                Kind::Number { low, high, log: *log, cells: None, int: false }
            }
            Domain::Int { low, high, log, step } => {
                cells(*low as f64, *high as f64, *step as f64, *log, true)
            }
            Domain::Normal { mean, deviation, .. } => Kind::Normal { mean: *mean, deviation: *deviation },
            Domain::Fixed { .. } | Domain::Invalid { .. } => return None,
        };
        Some(Self { param, kind })
    }

    /// How many values the parameter lists, or nothing for a number.
    pub fn listed(&self) -> Option<usize> {
        match &self.kind {
            Kind::Listed(values) => Some(values.len()),
            Kind::Number { .. } | Kind::Normal { .. } => None,
        }
    }

    /// How many values a number takes, if they can be counted.
    pub fn cells(&self) -> Option<u64> {
        match &self.kind {
            Kind::Number { cells, .. } => cells.map(|cells| cells.count),
            Kind::Listed(_) | Kind::Normal { .. } => None,
        }
    }

    /// Which of its [`cells`](Self::cells) a number lies in.
    pub fn cell_of(&self, unit: f64) -> u64 {
        let Kind::Number { cells: Some(cells), .. } = &self.kind else { return 0 };
        cells.at(self.scaled(unit))
    }

    /// The bounds of a cell within the unit interval.
    pub fn cell(&self, at: u64) -> (f64, f64) {
        let Kind::Number { cells: Some(cells), .. } = &self.kind else { return (0.0, 1.0) };
        let middle = cells.first + at as f64 * cells.step;
        (self.unit(middle - cells.step / 2.0), self.unit(middle + cells.step / 2.0))
    }

    fn unit(&self, number: f64) -> f64 {
        let Kind::Number { low, high, log, .. } = &self.kind else { return f64::NAN };
        let scaled = if *log { number.ln() } else { number };
        if high > low { ((scaled - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    fn scaled(&self, unit: f64) -> f64 {
        let Kind::Number { low, high, log, .. } = &self.kind else { return f64::NAN };
        let scaled = low + unit.clamp(0.0, 1.0) * (high - low);
        if *log { scaled.exp() } else { scaled }
    }

    /// A value as a number of this axis.
    fn encode(&self, value: &Value) -> f64 {
        match &self.kind {
            Kind::Listed(values) => values.iter().position(|v| v == value).map_or(f64::NAN, |at| at as f64),
            Kind::Number { .. } => value.as_f64().map_or(f64::NAN, |number| self.unit(number)),
            Kind::Normal { mean, deviation } => {
                value.as_f64().map_or(f64::NAN, |number| share((number - mean) / deviation))
            }
        }
    }

    /// The value that a number of this axis stands for; always one of the domain.
    fn decode(&self, number: f64, domain: &Domain) -> Value {
        match (&self.kind, domain) {
            (Kind::Listed(values), _) => values[(number as usize).min(values.len() - 1)].clone(),
            (Kind::Number { cells: Some(cells), int, .. }, _) => {
                let nearest = cells.first + cells.at(self.scaled(number)) as f64 * cells.step;
                if *int { Value::from(nearest as i64) } else { Value::from(nearest) }
            }
            (Kind::Number { .. }, Domain::Float { low, high, .. }) => {
                Value::from(self.scaled(number).clamp(*low, *high))
            }
            (Kind::Number { .. }, _) => Value::from(self.scaled(number)),
            (Kind::Normal { .. }, _) => domain.at_share(number).map_or(Value::Null, Value::from),
        }
    }
}

impl Cells {
    /// The index of the value nearest to a number.
    fn at(&self, number: f64) -> u64 {
        ((number - self.first) / self.step).round().clamp(0.0, (self.count - 1) as f64) as u64
    }
}

/// A space's axes and groups.
#[derive(Debug, Clone)]
pub(crate) struct Axes {
    space: Space,
    all: Vec<Axis>,
    groups: Vec<Vec<usize>>,
}

impl Axes {
    /// The axes of `space`.
    ///
    /// # Errors
    /// As [`Space::validate`].
    pub fn new(space: &Space) -> Result<Self> {
        space.validate()?;
        let axes: Vec<Axis> = space
            .params()
            .iter()
            .enumerate()
            .filter_map(|(at, param)| Axis::new(at, &param.domain))
            .collect();
        // A decider stands before what depends on it, and so does its group.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (at, axis) in axes.iter().enumerate() {
            let conditions = |at: usize| &space.params()[axes[at].param].conditions;
            match groups
                .iter_mut()
                .find(|group| conditions(group[0]) == &space.params()[axis.param].conditions)
            {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        Ok(Self { space: space.clone(), all: axes, groups })
    }

    /// How many numbers a row has.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The path of the parameter at an index.
    pub fn path(&self, at: usize) -> &str {
        &self.space.params()[self.all[at].param].path
    }

    /// The axis at an index.
    pub fn axis(&self, at: usize) -> &Axis {
        &self.all[at]
    }

    /// Indices of the axes of each group; deciders' groups come first.
    #[cfg(test)]
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// A point as a row.
    pub fn encode(&self, point: &Assignment) -> Vec<f64> {
        let path = |axis: &Axis| &self.space.params()[axis.param].path;
        self.all
            .iter()
            .map(|axis| point.get(path(axis)).map_or(f64::NAN, |value| axis.encode(value)))
            .collect()
    }

    /// Builds a point group by group: `draw` gives the numbers of a group's axes, and is asked only for groups that exist at this point.
    pub fn point(&self, mut draw: impl FnMut(&[usize]) -> Vec<f64>) -> Assignment {
        let mut values: Vec<Option<Value>> = vec![None; self.space.params().len()];
        let mut given = Assignment::new();
        for group in &self.groups {
            self.settle(&mut given);
            let first = &self.space.params()[self.all[group[0]].param];
            if !self.space.is_active(first, &given) {
                continue;
            }
            for (&at, number) in group.iter().zip(draw(group)) {
                let axis = &self.all[at];
                let param = &self.space.params()[axis.param];
                let value = axis.decode(number, &param.domain);
                given.push(&param.path, value.clone());
                values[axis.param] = Some(value);
            }
        }
        let mut point = Assignment::new();
        for (param, value) in self.space.params().iter().zip(values) {
            match (value, &param.domain) {
                (Some(value), _) => point.push(&param.path, value),
                (None, Domain::Fixed { value }) if self.space.is_active(param, &point) => {
                    point.push(&param.path, value.clone());
                }
                _ => {}
            }
        }
        point
    }

    /// The point at a place of the unit cube, where each value of a list has a cell of the same width.
    pub fn at(&self, units: &[f64]) -> Assignment {
        self.point(|group| {
            let number = |&at: &usize| match self.all[at].listed() {
                Some(values) => (units[at] * values as f64).floor().min(values as f64 - 1.0),
                None => units[at],
            };
            group.iter().map(number).collect()
        })
    }

    /// The inverse of [`at`](Self::at): `fallback` where that is the point's place already, and for what does not exist at the point.
    pub fn units(&self, point: &Assignment, mut fallback: Vec<f64>) -> Vec<f64> {
        if self.at(&fallback) == *point {
            return fallback;
        }
        for (at, (unit, number)) in fallback.iter_mut().zip(self.encode(point)).enumerate() {
            *unit = match self.all[at].listed() {
                _ if number.is_nan() => *unit,
                Some(values) => (number + 0.5) / values as f64,
                None => number,
            };
        }
        fallback
    }

    /// Adds the constants that exist: a condition may name one.
    fn settle(&self, given: &mut Assignment) {
        for param in self.space.params() {
            if let Domain::Fixed { value } = &param.domain
                && given.get(&param.path).is_none()
                && self.space.is_active(param, given)
            {
                given.push(&param.path, value.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::space::{choice, fixed, int_uniform, log_int_uniform, log_uniform, uniform};

    fn space() -> Space {
        Space::new()
            .with("always", fixed(7))
            .with("lr", log_uniform(1e-4, 1.0))
            .with("kind", choice(["a", "b"]))
            .when("kind", ["b"], Space::new().with("depth", int_uniform(1..=3)).with("note", "deep"))
            .with("step", uniform(-1.0, 1.0).step(0.5))
            .with("batch", log_int_uniform(1..=100))
    }

    fn draw(axes: &Axes, numbers: &[f64]) -> Assignment {
        axes.point(|group| group.iter().map(|at| numbers[*at]).collect())
    }

    #[test]
    fn points_become_rows_and_come_back() {
        let axes = Axes::new(&space()).unwrap();
        assert_eq!((axes.len(), axes.groups()), (5, &[vec![0, 1, 3, 4], vec![2]][..]));
        for kind in [0.0, 1.0] {
            for unit in [0.0, 0.3, 0.5, 0.999, 1.0] {
                let point = draw(&axes, &[unit, kind, unit, unit, unit]);
                space().check(&point).unwrap();
                let again = draw(&axes, &axes.encode(&point));
                assert!(
                    again.iter().zip(point.iter()).all(|((_, a), (_, b))| match (a.as_f64(), b.as_f64()) {
                        (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs(),
                        _ => a == b,
                    }),
                    "{again:?} {point:?}"
                );
            }
        }
        let shallow = draw(&axes, &[0.5, 0.0, 0.9, 0.9, 0.0]);
        assert_eq!(
            shallow.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            ["always", "lr", "kind", "step", "batch"]
        );
        assert_eq!(shallow.get("step"), Some(&json!(1.0)));
        assert!((shallow.get("lr").unwrap().as_f64().unwrap() - 0.01).abs() < 1e-12);
        assert!(axes.encode(&shallow)[2].is_nan());
        let deep = draw(&axes, &[0.5, 1.0, 0.9, 0.9, 0.0]);
        assert_eq!((deep.get("depth"), deep.get("note")), (Some(&json!(3)), Some(&json!("deep"))));
    }

    #[test]
    fn cells_share_the_interval() {
        let axes = Axes::new(&space()).unwrap();
        let depth = axes.axis(2);
        assert_eq!(depth.cell_of(0.4), 1);
        let (low, high) = depth.cell(1);
        assert!((low - 1.0 / 3.0).abs() < 1e-12 && (high - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((depth.cells(), axes.axis(0).cells()), (Some(3), None));
        assert_eq!(axes.axis(1).listed(), Some(2));
        let (low, high) = axes.axis(4).cell(0);
        assert!(low == 0.0 && (0.15..0.25).contains(&high), "of a logarithm, one is a wide cell: {high}");
    }
}
