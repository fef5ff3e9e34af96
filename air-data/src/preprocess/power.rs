//! [`PowerTransformer`]: columns bent until they look normal.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::unary;
use arrow::datatypes::Float64Type;
use serde::{Deserialize, Serialize};

use super::minimum::minimum;
use super::{Fitted, Preprocessor, column, failed, floats, replaced, values_of};
use crate::dataset::Dataset;
use crate::error::Result;

/// A family of powers with the parameter λ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerMethod {
    /// For any numbers (Yeo and Johnson, "A new family of power transformations to improve normality or symmetry", 2000).
    YeoJohnson,
    /// For positive numbers: `(x^λ − 1) / λ` (Box and Cox, "An analysis of transformations", 1964).
    BoxCox,
}

impl PowerMethod {
    fn apply(self, x: f64, lambda: f64) -> f64 {
        // `(e^(λ l) − 1) / λ`, which is `l` where λ is 0.
        let power = |log: f64, lambda: f64| {
            if lambda.abs() < f64::EPSILON { log } else { (lambda * log).exp_m1() / lambda }
        };
        match self {
            Self::BoxCox => power(x.ln(), lambda),
            Self::YeoJohnson if x >= 0.0 => power(x.ln_1p(), lambda),
            Self::YeoJohnson => -power((-x).ln_1p(), 2.0 - lambda),
        }
    }

    /// The logarithm of its derivative, but for the factor λ − 1.
    fn log_slope(self, x: f64) -> f64 {
        match self {
            Self::BoxCox => x.ln(),
            Self::YeoJohnson => x.abs().ln_1p().copysign(x),
        }
    }

    /// The λ under which the values are most likely normal, to about eight digits.
    fn most_likely(self, values: &[f64]) -> f64 {
        let rows = values.len() as f64;
        let slopes: f64 = values.iter().map(|x| self.log_slope(*x)).sum();
        let unlikely = |lambda: f64| {
            let bent = || values.iter().map(|x| self.apply(*x, lambda));
            let mean = bent().sum::<f64>() / rows;
            let variance = bent().map(|y| (y - mean).powi(2)).sum::<f64>() / rows;
            let likelihood = (lambda - 1.0) * slopes - 0.5 * rows * variance.ln();
            if likelihood.is_finite() { -likelihood } else { f64::INFINITY }
        };
        // Beyond these, squares of the results are no numbers any more.
        let log_of_largest = values.iter().map(|x| self.log_slope(*x).abs()).fold(0.0, f64::max);
        let bound = 0.5 * (f64::MAX.ln() - 40.0) / (log_of_largest + 3.0);
        let (low, high) = match self {
            Self::BoxCox => (-bound, bound),
            Self::YeoJohnson => (-bound, 2.0 + bound),
        };
        minimum(unlikely, low, high, 1e-8)
    }
}

/// Each column bent by a power, so that it looks as normal as it can, then with mean 0 and standard deviation 1, as `f64`. λ is the most likely one.
///
/// It holds a column in memory at a time while it is fitted. A column of one value is not bent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerTransformer {
    columns: Vec<String>,
    method: PowerMethod,
    standardize: bool,
}

impl PowerTransformer {
    /// For these columns of numbers.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, method: PowerMethod) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), method, standardize: true }
    }

    /// Whether the results are shifted and scaled, which they are unless told otherwise.
    pub fn standardize(self, standardize: bool) -> Self {
        Self { standardize, ..self }
    }
}

/// How a column is bent: `(power(x, λ) − shift) / scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Powered {
    /// The column.
    pub column: String,
    /// The family of powers.
    pub method: PowerMethod,
    /// Its parameter.
    pub lambda: f64,
    /// What is taken from the results.
    pub shift: f64,
    /// What they are then divided by; not 0.
    pub scale: f64,
}

impl Preprocessor for PowerTransformer {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        const OP: &str = "PowerTransformer";
        let columns = self.columns.iter().map(|name| {
            let values = values_of(OP, dataset, name)?;
            if self.method == PowerMethod::BoxCox && values.iter().any(|x| *x <= 0.0) {
                return Err(failed(OP, name, "Box-Cox needs positive numbers; Yeo-Johnson takes any"));
            }
            let varies = values.iter().any(|x| *x != values[0]);
            let lambda = if varies { self.method.most_likely(&values) } else { 1.0 };
            let (mut shift, mut scale) = (0.0, 1.0);
            if self.standardize {
                let bent: Vec<f64> = values.iter().map(|x| self.method.apply(*x, lambda)).collect();
                let rows = bent.len() as f64;
                shift = bent.iter().sum::<f64>() / rows;
                if varies {
                    scale = (bent.iter().map(|y| (y - shift).powi(2)).sum::<f64>() / rows).sqrt();
                }
            }
            if !(lambda.is_finite() && shift.is_finite() && scale.is_normal()) {
                return Err(failed(OP, name, "no power makes its values look normal; scale them first"));
            }
            Ok(Powered { column: name.clone(), method: self.method, lambda, shift, scale })
        });
        Ok(Fitted::Power { columns: columns.collect::<Result<_>>()? })
    }
}

impl Powered {
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        const OP: &str = "PowerTransformer";
        let (index, values) = column(batch, &self.column)?;
        let values = floats(OP, values, &self.column)?;
        let values = values.as_primitive::<Float64Type>();
        if self.method == PowerMethod::BoxCox
            && let Some(bad) = values.iter().flatten().find(|x| *x <= 0.0)
        {
            return Err(failed(OP, &self.column, format!("Box-Cox needs positive numbers, not {bad}")));
        }
        let bent: Float64Array =
            unary(values, |x| (self.method.apply(x, self.lambda) - self.shift) / self.scale);
        replaced(batch, index, vec![(self.column.clone(), Arc::new(bent) as ArrayRef)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_at_the_values_of_their_parameters_that_are_special() {
        let yj = |x, lambda| PowerMethod::YeoJohnson.apply(x, lambda);
        assert!((yj(3.0, 1.0) - 3.0).abs() < 1e-15 && (yj(-3.0, 1.0) + 3.0).abs() < 1e-15);
        assert_eq!(yj(0.0, 0.3), 0.0);
        assert!((yj(3.0, 0.0) - 4.0_f64.ln()).abs() < 1e-15);
        assert!((yj(-3.0, 2.0) + 4.0_f64.ln()).abs() < 1e-15);
        assert!((yj(3.0, 2.0) - 7.5).abs() < 1e-14 && (yj(-3.0, 0.0) + 7.5).abs() < 1e-14);
        let bc = |x, lambda| PowerMethod::BoxCox.apply(x, lambda);
        assert!((bc(5.0, 1.0) - 4.0).abs() < 1e-15);
        assert_eq!(bc(5.0, 0.0), 5.0_f64.ln());
        assert!((bc(5.0, -1.0) - 0.8).abs() < 1e-15);
        assert!(yj(f64::NAN, 0.5).is_nan());
    }
}
