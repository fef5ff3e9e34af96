//! How Optuna writes parameters and numbers.

use serde_json::{Value, json};

use crate::space::Domain;
use crate::space::normal::WIDEST;

/// `distribution_json` of a parameter.
pub(super) fn distribution(domain: &Domain) -> String {
    let (name, attributes) = match domain {
        Domain::Float { low, high, log, step } => {
            ("FloatDistribution", json!({"step": step, "low": low, "high": high, "log": log}))
        }
        // Optuna has no such distribution: the numbers are between bounds.
        Domain::Normal { mean, deviation, .. } => {
            let (low, high) = (mean - WIDEST * deviation, mean + WIDEST * deviation);
            ("FloatDistribution", json!({"step": null, "low": low, "high": high, "log": false}))
        }
        Domain::Int { low, high, log, step } => {
            ("IntDistribution", json!({"log": log, "step": step, "low": low, "high": high}))
        }
        Domain::Grid { values } | Domain::Choice { values } => {
            ("CategoricalDistribution", json!({"choices": values.iter().map(choice).collect::<Vec<_>>()}))
        }
        Domain::Fixed { value } => ("CategoricalDistribution", json!({"choices": [choice(value)]})),
        Domain::Invalid { .. } => ("CategoricalDistribution", json!({"choices": []})),
    };
    json!({"name": name, "attributes": attributes}).to_string()
}

/// Optuna's choices are scalars; a list or an object is its JSON text.
fn choice(value: &Value) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) => Value::String(value.to_string()),
        scalar => scalar.clone(),
    }
}

/// `param_value`: the number itself, or the index of a choice.
pub(super) fn internal(domain: &Domain, value: &Value) -> f64 {
    match domain {
        Domain::Grid { values } | Domain::Choice { values } => {
            values.iter().position(|v| v == value).map_or(f64::NAN, |at| at as f64)
        }
        Domain::Fixed { .. } => 0.0,
        _ => value.as_f64().unwrap_or(f64::NAN),
    }
}

/// A number as a nullable column and its type.
pub(super) fn stored(value: f64) -> (Option<f64>, &'static str) {
    if value.is_nan() {
        (None, "NAN")
    } else if value == f64::INFINITY {
        (None, "INF_POS")
    } else if value == f64::NEG_INFINITY {
        (None, "INF_NEG")
    } else {
        (Some(value), "FINITE")
    }
}
