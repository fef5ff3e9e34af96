//! The space of configurations: parameters by path, nested and conditional.
//!
//! A path joins nested names with dots: `optimizer.lr`. Parameters keep the order they were added in; a condition
//! refers to a parameter added before it.

mod constraint;
mod domain;
pub(crate) mod normal;
mod parse;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use constraint::Constraint;
pub use domain::{
    Choosable, Domain, choice, fixed, grid, int_uniform, log_int_uniform, log_uniform, normal, uniform,
};
pub use parse::parse_param;

use crate::config::Config;
use crate::error::{Result, TuneError};

/// Most parameters of one space.
const MAX_PARAMS: usize = 10_000;
/// Longest path, in bytes: the width of the column that stores it.
const MAX_PATH: usize = 512;

/// A space of configurations.
///
/// ```
/// use air_tune::space::{Space, choice, int_uniform, log_uniform, uniform};
/// let space = Space::new()
///     .with("epochs", 10)
///     .with("optimizer", Space::new().with("name", choice(["sgd", "adam"])).with("lr", log_uniform(1e-4, 1e-1)))
///     .when("optimizer.name", ["sgd"], Space::new().with("momentum", uniform(0.0, 0.99)))
///     .with("layers", int_uniform(1..=4));
/// space.validate()?;
/// # Ok::<(), air_tune::TuneError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Space {
    params: Vec<Param>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<Constraint>,
}

/// One parameter of a [`Space`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its path: nested names joined by dots.
    pub path: String,
    /// What it may be.
    pub domain: Domain,
    /// It exists only where all of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A condition: the parameter at `path` exists and has one of the values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Path of the parameter that decides.
    pub path: String,
    /// The values that satisfy it.
    pub any_of: Vec<Value>,
}

/// What a name of a [`Space`] stands for: a domain, a nested space, or a constant.
#[derive(Debug, Clone)]
pub enum Entry {
    /// One parameter.
    Domain(Domain),
    /// A nested object.
    Space(Space),
}

impl From<Domain> for Entry {
    fn from(domain: Domain) -> Self {
        Entry::Domain(domain)
    }
}

impl From<Space> for Entry {
    fn from(space: Space) -> Self {
        Entry::Space(space)
    }
}

macro_rules! constant {
    ($($t:ty),*) => { $(impl From<$t> for Entry {
        fn from(value: $t) -> Self { Entry::Domain(fixed(value)) }
    })* };
}
constant!(i32, i64, u32, u64, usize, f32, f64, bool, &str, String, Value);

impl Space {
    /// A space without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter, a nested space, or a constant under `name`.
    pub fn with(mut self, name: &str, entry: impl Into<Entry>) -> Self {
        match entry.into() {
            Entry::Domain(domain) => {
                self.params.push(Param { path: name.to_owned(), domain, conditions: Vec::new() });
            }
            Entry::Space(space) => {
                let nested = |path: &mut String| *path = format!("{name}.{path}");
                self.constraints.extend(space.constraints.into_iter().map(|mut constraint| {
                    constraint.terms.iter_mut().for_each(|(path, _)| nested(path));
                    constraint
                }));
                self.params.extend(space.params.into_iter().map(|mut param| {
                    nested(&mut param.path);
                    param.conditions.iter_mut().for_each(|condition| nested(&mut condition.path));
                    param
                }));
            }
        }
        self
    }

    /// Only points where the weighted sum of numbers is at most `bound`: `space.at_most([("a", 1.0), ("b", 2.0)], 10.0)`. A parameter that does not exist at a
    /// point counts for nothing.
    pub fn at_most<'a>(mut self, terms: impl IntoIterator<Item = (&'a str, f64)>, bound: f64) -> Self {
        let terms = terms.into_iter().map(|(path, weight)| (path.to_owned(), weight)).collect();
        self.constraints.push(Constraint { terms, at_most: bound });
        self
    }

    /// Only points where the weighted sum of numbers is at least `bound`.
    pub fn at_least<'a>(self, terms: impl IntoIterator<Item = (&'a str, f64)>, bound: f64) -> Self {
        self.at_most(terms.into_iter().map(|(path, weight)| (path, -weight)), -bound)
    }

    /// Only points that hold to `constraint`.
    pub fn require(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// What points must hold to.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Whether a point holds to all constraints.
    pub fn holds(&self, point: &Assignment) -> bool {
        self.constraints.iter().all(|constraint| constraint.holds(point))
    }

    /// Adds the parameters of `then`, which exist only where the parameter at `path` has one of the values.
    pub fn when<T: Choosable>(
        mut self,
        path: &str,
        any_of: impl IntoIterator<Item = T>,
        then: Space,
    ) -> Self {
        let any_of: Vec<Value> = any_of.into_iter().map(|v| v.into_value().unwrap_or(Value::Null)).collect();
        let condition = Condition { path: path.to_owned(), any_of };
        self.constraints.extend(then.constraints);
        self.params.extend(then.params.into_iter().map(|mut param| {
            param.conditions.insert(0, condition.clone());
            param
        }));
        self
    }

    /// The parameters, in the order they were added.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The parameter at `path`.
    pub fn get(&self, path: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.path == path)
    }

    /// Checks names, domains and conditions.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] for the first parameter that cannot be searched, with the reason.
    pub fn validate(&self) -> Result<()> {
        if self.params.len() > MAX_PARAMS {
            return Err(TuneError::space(
                "…",
                format!("{} parameters; at most {MAX_PARAMS} are allowed", self.params.len()),
            ));
        }
        let mut seen: HashSet<&str> = HashSet::new();
        let mut objects: HashSet<&str> = HashSet::new();
        for (index, param) in self.params.iter().enumerate() {
            let fail = |reason: String| Err(TuneError::space(&param.path, reason));
            if let Err(reason) = check_path(&param.path) {
                return fail(reason);
            }
            if !seen.insert(&param.path) {
                return fail("the name is given twice".into());
            }
            objects.extend(param.path.match_indices('.').map(|(dot, _)| &param.path[..dot]));
            if let Err(reason) = param.domain.check() {
                return fail(reason);
            }
            for condition in &param.conditions {
                let Some(decider) = self.params[..index].iter().find(|p| p.path == condition.path) else {
                    return fail(format!(
                        "its condition names `{}`, which is not defined before it",
                        condition.path
                    ));
                };
                if let Some(never) = condition.any_of.iter().find(|value| !decider.domain.contains(value)) {
                    return fail(format!(
                        "its condition waits for {never}, which `{}` never is",
                        condition.path
                    ));
                }
                if condition.any_of.is_empty() {
                    return fail("its condition lists no value".into());
                }
                if matches!(param.domain, Domain::Grid { .. })
                    && !matches!(decider.domain, Domain::Grid { .. } | Domain::Fixed { .. })
                {
                    return fail(format!(
                        "a grid cannot depend on `{}`, which is drawn at random",
                        condition.path
                    ));
                }
            }
        }
        if let Some(both) = self.params.iter().find(|param| objects.contains(param.path.as_str())) {
            return Err(TuneError::space(&both.path, "the name is both a value and an object"));
        }
        let checked = self.constraints.iter().try_for_each(|constraint| constraint.check(self));
        checked.map_err(|(path, reason)| TuneError::space(path, reason))
    }

    /// Adds a parameter that a trial named while it ran.
    pub(crate) fn push(&mut self, path: &str, domain: &Domain) {
        if self.get(path).is_none() {
            self.params.push(Param { path: path.to_owned(), domain: domain.clone(), conditions: Vec::new() });
        }
    }

    /// Whether the parameter exists, given the values of those before it.
    pub fn is_active(&self, param: &Param, given: &Assignment) -> bool {
        param.conditions.iter().all(|c| given.get(&c.path).is_some_and(|value| c.any_of.contains(value)))
    }

    /// What is wrong with `assignment` as a point of this space: a value outside its domain, one too many or too few.
    pub fn check(&self, assignment: &Assignment) -> Result<()> {
        let mut expected = 0;
        for param in self.params.iter().filter(|param| self.is_active(param, assignment)) {
            expected += 1;
            match assignment.get(&param.path) {
                None => return Err(TuneError::space(&param.path, "has no value")),
                Some(value) if !param.domain.contains(value) => {
                    return Err(TuneError::space(&param.path, format!("{value} lies outside its domain")));
                }
                Some(_) => {}
            }
        }
        if !self.holds(assignment) {
            return Err(TuneError::space("…", "a constraint does not hold"));
        }
        if assignment.len() == expected {
            Ok(())
        } else {
            Err(TuneError::space("…", format!("{} values for {expected} parameters", assignment.len())))
        }
    }
}

pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err("a name is empty".into());
    }
    if path.len() > MAX_PATH {
        return Err(format!("the name is longer than {MAX_PATH} bytes"));
    }
    match path.chars().find(|c| c.is_control() || c.is_whitespace() || "{}=".contains(*c)) {
        Some(c) => Err(format!("the character {c:?} cannot stand in a name")),
        None => Ok(()),
    }
}

/// A point of a [`Space`]: the values of its active parameters, by path, in the space's order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Assignment(Vec<(String, Value)>);

impl Assignment {
    /// An empty point.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the next parameter.
    pub fn push(&mut self, path: impl Into<String>, value: Value) {
        self.0.push((path.into(), value));
    }

    /// Gives back room for parameters that are not there.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The value at `path`.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == path).map(|(_, value)| value)
    }

    /// Paths and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(path, value)| (path.as_str(), value))
    }

    /// How many parameters are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The configuration a trial receives: nested objects instead of paths.
    pub fn to_config(&self) -> Config {
        Config::from_paths(self.iter())
    }
}

#[cfg(test)]
mod tests;
