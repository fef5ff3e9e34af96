//! What the parameters of a point must hold to together.

use serde::{Deserialize, Serialize};

use super::{Assignment, Domain, Space};
use crate::error::{Result, TuneError};

/// A weighted sum of numbers is at most a bound; a parameter that does not exist at a point counts for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// Paths of the parameters and their weights.
    pub terms: Vec<(String, f64)>,
    /// The bound.
    pub at_most: f64,
}

impl Constraint {
    /// Whether a point holds to it.
    pub fn holds(&self, point: &Assignment) -> bool {
        let number = |path: &str| point.get(path).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let sum: f64 = self.terms.iter().map(|(path, weight)| weight * number(path)).sum();
        // What is meant to be equal often differs in the last digits.
        sum <= self.at_most + 1e-9 * self.at_most.abs().max(1.0)
    }

    /// Reads `a + 2*b <= 10`: parameters with weights, spaces about what joins them, and a number after `<=` or `>=`.
    ///
    /// ```
    /// use air_tune::space::Constraint;
    /// let constraint = Constraint::parse("a - 0.5*b >= 1")?;
    /// assert_eq!(constraint, Constraint { terms: vec![("a".into(), -1.0), ("b".into(), 0.5)], at_most: -1.0 });
    /// # Ok::<(), air_tune::TuneError>(())
    /// ```
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`] with what was expected.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || TuneError::space(text.trim(), "expected a constraint like `a + 2*b <= 10`");
        let at_most = text.split_once("<=").map(|(left, right)| (left, right, 1.0));
        let sides = at_most.or_else(|| text.split_once(">=").map(|(left, right)| (left, right, -1.0)));
        let (left, right, sign) = sides.ok_or_else(bad)?;
        let bound: f64 = right.trim().parse().map_err(|_| bad())?;
        let mut terms = Vec::new();
        let mut weight = Some(sign);
        for token in left.split_whitespace() {
            weight = match (token, weight) {
                ("+", None) => Some(sign),
                ("-", None) => Some(-sign),
                (term, Some(weight)) => {
                    let (factor, path) = match term.split_once('*') {
                        Some((factor, path)) => (factor.parse::<f64>().map_err(|_| bad())?, path),
                        None => (1.0, term),
                    };
                    terms.push((path.to_owned(), weight * factor));
                    None
                }
                _ => return Err(bad()),
            };
        }
        if weight.is_some() || terms.iter().any(|(path, _)| path.is_empty()) {
            return Err(bad());
        }
        Ok(Self { terms, at_most: sign * bound })
    }

    /// What is wrong with it, if anything: the path, and the reason.
    pub(super) fn check(&self, space: &Space) -> std::result::Result<(), (String, String)> {
        let bad = |path: &str, reason: &str| Err((path.to_owned(), reason.to_owned()));
        if !self.at_most.is_finite() {
            return bad("…", "a constraint needs a finite bound");
        }
        if self.terms.is_empty() {
            return bad("…", "a constraint needs a parameter");
        }
        for (path, weight) in &self.terms {
            let Some(param) = space.get(path) else {
                return bad(path, "a constraint names it, and the space does not have it");
            };
            if !weight.is_finite() {
                return bad(path, "its weight in a constraint must be finite");
            }
            let numbers = |values: &[serde_json::Value]| values.iter().all(serde_json::Value::is_number);
            let is_number = match &param.domain {
                Domain::Grid { values } | Domain::Choice { values } => numbers(values),
                Domain::Fixed { value } => value.is_number(),
                _ => true,
            };
            if !is_number {
                return bad(path, "a constraint adds it up, and it is not a number");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Constraint;

    #[test]
    fn constraints_are_read_and_what_is_none_is_refused() {
        let read = Constraint::parse(" 2*net.a + weight-decay <= -1e3 ").ok();
        let terms = vec![("net.a".to_owned(), 2.0), ("weight-decay".to_owned(), 1.0)];
        assert_eq!(read, Some(Constraint { terms, at_most: -1e3 }));
        for bad in ["", "a", "a < 1", "a <= b", "a + <= 1", "<= 1", "a b <= 1", "x*a <= 1", "2* <= 1"] {
            assert!(Constraint::parse(bad).is_err(), "{bad}");
        }
    }
}
