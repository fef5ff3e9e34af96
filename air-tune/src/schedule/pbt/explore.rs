//! How a configuration is perturbed.

use rand::{Rng, RngExt};
use serde_json::Value;

use super::PbtConfig;
use crate::space::normal::WIDEST;
use crate::space::{Assignment, Domain, Space};

/// How often a point that breaks a constraint is perturbed anew before it is left as it was.
const ATTEMPTS: u32 = 100;

/// `from`, each parameter of `mutated` drawn anew or moved; always a point of the space.
pub(super) fn perturb(
    space: &Space,
    mutated: &[String],
    from: &Assignment,
    config: &PbtConfig,
    rng: &mut impl Rng,
) -> Assignment {
    let tried =
        std::iter::repeat_with(|| perturbed(space, mutated, from, config, rng)).take(ATTEMPTS as usize);
    tried.into_iter().find(|point| space.holds(point)).unwrap_or_else(|| from.clone())
}

fn perturbed(
    space: &Space,
    mutated: &[String],
    from: &Assignment,
    config: &PbtConfig,
    rng: &mut impl Rng,
) -> Assignment {
    let mut point = Assignment::new();
    for (path, value) in from.iter() {
        let domain = space.get(path).map(|param| &param.domain).filter(|_| mutated.iter().any(|m| m == path));
        let value = match domain {
            Some(domain) if rng.random_bool(config.resample) => domain.sample(rng),
            Some(domain) => {
                let up = rng.random_bool(0.5);
                moved(domain, value, up, if up { config.factors.0 } else { config.factors.1 })
            }
            None => value.clone(),
        };
        point.push(path, value);
    }
    point
}

/// A number times `factor`, brought back into its domain; the neighbour of a listed value.
fn moved(domain: &Domain, value: &Value, up: bool, factor: f64) -> Value {
    match domain {
        Domain::Grid { values } | Domain::Choice { values } => {
            let at = values.iter().position(|other| other == value).unwrap_or(0);
            let next = if up { (at + 1).min(values.len() - 1) } else { at.saturating_sub(1) };
            values[next].clone()
        }
        Domain::Float { low, high, step, .. } => {
            let number = value.as_f64().unwrap_or(*low) * factor;
            let number = match step {
                Some(step) => low + ((number - low) / step).round() * step,
                None => number,
            };
            Value::from(number.clamp(*low, *high))
        }
        Domain::Normal { mean, deviation, step } => {
            let number = value.as_f64().unwrap_or(*mean) * factor;
            let number = number.clamp(mean - WIDEST * deviation, mean + WIDEST * deviation);
            Value::from(step.map_or(number, |step| (number / step).round() * step))
        }
        Domain::Int { low, high, step, .. } => {
            let now = value.as_i64().unwrap_or(*low);
            let number = now as f64 * factor;
            let steps = ((number - *low as f64) / *step as f64).round() as i64;
            let next = low + steps.clamp(0, (high - low) / step) * step;
            // A factor near one leaves a small integer where it is: then it moves by a step.
            let next = if next == now && up == (factor > 1.0) {
                if up { now + step } else { now - step }
            } else {
                next
            };
            Value::from(next.clamp(*low, low + (high - low) / step * step))
        }
        Domain::Fixed { .. } | Domain::Invalid { .. } => value.clone(),
    }
}
