//! What one parameter may be.

use std::ops::RangeBounds;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::normal::{WIDEST, quantile};

/// Most values a `grid` or `choice` may list.
const MAX_VALUES: usize = 100_000;

/// The set one parameter is drawn from.
///
/// Built with [`grid`], [`choice`], [`uniform`], [`log_uniform`], [`int_uniform`], [`log_int_uniform`], [`normal`] and [`fixed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Domain {
    /// Every value is tried, crossed with all other grids.
    Grid {
        /// The values, in order.
        values: Vec<Value>,
    },
    /// One value of a list, all equally likely.
    Choice {
        /// The values.
        values: Vec<Value>,
    },
    /// A real number in `[low, high]`.
    Float {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
        /// Uniform in the logarithm.
        log: bool,
        /// Only `low + k * step`.
        step: Option<f64>,
    },
    /// An integer in `[low, high]`.
    Int {
        /// Lower bound.
        low: i64,
        /// Upper bound, included.
        high: i64,
        /// Uniform in the logarithm.
        log: bool,
        /// Only `low + k * step`.
        step: i64,
    },
    /// A real number of a normal distribution, cut off eight standard deviations from its mean.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        deviation: f64,
        /// Only multiples of it.
        step: Option<f64>,
    },
    /// Always the same value.
    Fixed {
        /// The value.
        value: Value,
    },
    /// A constructor was given something that is no value; [`Space::validate`](crate::space::Space::validate) reports it.
    Invalid {
        /// What is wrong.
        reason: String,
    },
}

/// Something that can be a value of `grid`, `choice` or `fixed`: numbers, text, booleans, or any JSON value.
pub trait Choosable {
    /// The value as JSON, or nothing for a float that is not finite.
    fn into_value(self) -> Option<Value>;
}

macro_rules! choosable {
    ($($t:ty),*) => { $(impl Choosable for $t {
        fn into_value(self) -> Option<Value> { Some(Value::from(self)) }
    })* };
}
choosable!(i32, i64, u32, u64, usize, bool, &str, String, Value);

impl Choosable for f64 {
    fn into_value(self) -> Option<Value> {
        serde_json::Number::from_f64(self).map(Value::Number)
    }
}

impl Choosable for f32 {
    fn into_value(self) -> Option<Value> {
        f64::from(self).into_value()
    }
}

fn values<T: Choosable>(items: impl IntoIterator<Item = T>) -> Result<Vec<Value>, Domain> {
    items
        .into_iter()
        .map(|item| {
            item.into_value().ok_or_else(|| Domain::Invalid { reason: "a value is not finite".into() })
        })
        .collect()
}

/// Tries every value; grids are crossed with each other.
pub fn grid<T: Choosable>(items: impl IntoIterator<Item = T>) -> Domain {
    values(items).map_or_else(|bad| bad, |values| Domain::Grid { values })
}

/// Picks one of the values, all equally likely.
pub fn choice<T: Choosable>(items: impl IntoIterator<Item = T>) -> Domain {
    values(items).map_or_else(|bad| bad, |values| Domain::Choice { values })
}

/// A real number between `low` and `high`.
pub fn uniform(low: f64, high: f64) -> Domain {
    Domain::Float { low, high, log: false, step: None }
}

/// A real number between `low` and `high`, uniform in its logarithm.
pub fn log_uniform(low: f64, high: f64) -> Domain {
    Domain::Float { low, high, log: true, step: None }
}

/// A real number, normally distributed (Ray's `randn`).
pub fn normal(mean: f64, deviation: f64) -> Domain {
    Domain::Normal { mean, deviation, step: None }
}

/// An integer of the range: `int_uniform(1..=8)`; `int_uniform(1..9)` is the same.
pub fn int_uniform(range: impl RangeBounds<i64>) -> Domain {
    int(range, false)
}

/// An integer of the range, uniform in its logarithm.
pub fn log_int_uniform(range: impl RangeBounds<i64>) -> Domain {
    int(range, true)
}

fn int(range: impl RangeBounds<i64>, log: bool) -> Domain {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let low = match range.start_bound() {
        Included(&low) => Some(low),
        Excluded(&low) => low.checked_add(1),
        Unbounded => None,
    };
    let high = match range.end_bound() {
        Included(&high) => Some(high),
        Excluded(&high) => high.checked_sub(1),
        Unbounded => None,
    };
    match (low, high) {
        (Some(low), Some(high)) => Domain::Int { low, high, log, step: 1 },
        _ => Domain::Invalid { reason: "an integer range needs both ends".into() },
    }
}

/// Always `value`.
pub fn fixed(value: impl Choosable) -> Domain {
    value.into_value().map_or_else(
        || Domain::Invalid { reason: "a value is not finite".into() },
        |value| Domain::Fixed { value },
    )
}

impl Domain {
    /// Restricts a number to `low + k * step` (Ray's `quniform`, `qrandint`).
    ///
    /// The upper bound moves down to the last such number.
    pub fn step(self, step: f64) -> Domain {
        let invalid = |reason: &str| Domain::Invalid { reason: reason.into() };
        if !(step.is_finite() && step > 0.0) {
            return invalid("`step` must be a finite number above 0");
        }
        match self {
            Domain::Float { log: true, .. } | Domain::Int { log: true, .. } => {
                invalid("a logarithmic range cannot have a step")
            }
            Domain::Normal { mean, deviation, .. } => Domain::Normal { mean, deviation, step: Some(step) },
            Domain::Float { low, high, .. } => {
                let steps = ((high - low) / step + 1e-9).floor();
                let high = if steps.is_finite() && steps >= 0.0 { low + steps * step } else { high };
                Domain::Float { low, high, log: false, step: Some(step) }
            }
            Domain::Int { low, high, .. } if step.fract() == 0.0 && step < 9e15 => {
                let step = step as i64;
                let width = high.checked_sub(low).filter(|w| *w >= 0);
                Domain::Int { low, high: width.map_or(high, |w| low + w / step * step), log: false, step }
            }
            Domain::Int { .. } => invalid("the step of an integer range must be an integer"),
            _ => invalid("only a range of numbers can have a step"),
        }
    }

    /// The number below which a share of a normal distribution lies.
    pub(crate) fn at_share(&self, share: f64) -> Option<f64> {
        let Domain::Normal { mean, deviation, step } = self else { return None };
        let number = mean + deviation * quantile(share);
        Some(step.map_or(number, |step| (number / step).round() * step))
    }

    /// What is wrong with the domain, if anything.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Domain::Invalid { reason } => Err(reason.clone()),
            Domain::Fixed { .. } => Ok(()),
            Domain::Grid { values } | Domain::Choice { values } => check_values(values),
            Domain::Float { low, high, log, .. } => {
                if !low.is_finite() || !high.is_finite() {
                    return Err(format!("bounds must be finite, found {low} and {high}"));
                }
                if low > high {
                    return Err(format!("the lower bound {low} is above the upper bound {high}"));
                }
                if *log && *low <= 0.0 {
                    return Err(format!("a logarithmic range must start above 0, found {low}"));
                }
                if !(high - low).is_finite() {
                    return Err("the range is too wide for a 64-bit float".into());
                }
                Ok(())
            }
            Domain::Normal { mean, deviation, .. } => {
                if *deviation > 0.0 && (mean.abs() + WIDEST * deviation).is_finite() {
                    Ok(())
                } else {
                    Err(format!(
                        "a normal distribution needs a finite mean and a finite deviation above 0, found {mean} and {deviation}"
                    ))
                }
            }
            Domain::Int { low, high, log, .. } => {
                if low > high {
                    return Err(format!(
                        "the range is empty: its lower bound {low} is above its upper bound {high}"
                    ));
                }
                if *log && *low <= 0 {
                    return Err(format!("a logarithmic range must start above 0, found {low}"));
                }
                // Stores and searchers hold integers as 64-bit floats.
                if low.unsigned_abs().max(high.unsigned_abs()) > 1 << 53 {
                    return Err("integers must lie within ±2^53".into());
                }
                Ok(())
            }
        }
    }

    /// Whether `value` belongs to the domain.
    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Domain::Grid { values } | Domain::Choice { values } => values.contains(value),
            Domain::Fixed { value: fixed } => fixed == value,
            Domain::Float { low, high, step, .. } => value.as_f64().is_some_and(|x| {
                let on_step = step.is_none_or(|s| {
                    let k = (x - low) / s;
                    (k - k.round()).abs() < 1e-6
                });
                x >= *low && x <= *high && on_step
            }),
            Domain::Normal { mean, deviation, step } => value.as_f64().is_some_and(|x| {
                let slack = step.unwrap_or(0.0);
                let on_step = step.is_none_or(|s| (x / s - (x / s).round()).abs() < 1e-6);
                (x - mean).abs() <= WIDEST * deviation * (1.0 + 1e-9) + slack && on_step
            }),
            Domain::Int { low, high, step, .. } => {
                value.as_i64().is_some_and(|x| x >= *low && x <= *high && (x - low) % step == 0)
            }
            Domain::Invalid { .. } => false,
        }
    }

    /// One value at random. The domain must pass [`check`](Self::check); `Null` if it does not.
    pub fn sample(&self, rng: &mut impl Rng) -> Value {
        if self.check().is_err() {
            return Value::Null;
        }
        match self {
            Domain::Grid { values } | Domain::Choice { values } => {
                values[rng.random_range(0..values.len())].clone()
            }
            Domain::Fixed { value } => value.clone(),
            Domain::Float { low, high, log: true, .. } => {
                Value::from(rng.random_range(low.ln()..=high.ln()).exp().clamp(*low, *high))
            }
            Domain::Float { low, high, step: Some(step), .. } => {
                let steps = ((high - low) / step).round() as u64;
                Value::from((low + rng.random_range(0..=steps) as f64 * step).min(*high))
            }
            Domain::Float { low, high, .. } => Value::from(rng.random_range(*low..=*high)),
            Domain::Normal { .. } => self.at_share(rng.random()).map_or(Value::Null, Value::from),
            Domain::Int { low, high, log: true, .. } => {
                let (a, b) = ((*low as f64 - 0.5).ln(), (*high as f64 + 0.5).ln());
                Value::from((rng.random_range(a..=b).exp().round() as i64).clamp(*low, *high))
            }
            Domain::Int { low, high, step, .. } => {
                Value::from(low + rng.random_range(0..=(high - low) / step) * step)
            }
            Domain::Invalid { .. } => Value::Null,
        }
    }
}

fn check_values(values: &[Value]) -> Result<(), String> {
    if values.is_empty() {
        return Err("the list of values is empty".into());
    }
    if values.len() > MAX_VALUES {
        return Err(format!("{} values; at most {MAX_VALUES} can be listed", values.len()));
    }
    let mut seen = std::collections::HashSet::with_capacity(values.len());
    match values.iter().find(|value| !seen.insert(value.to_string())) {
        Some(twice) => Err(format!("the value {twice} is listed twice")),
        None => Ok(()),
    }
}
