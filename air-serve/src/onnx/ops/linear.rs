//! `LinearClassifier` and `LinearRegressor`.

use ndarray::Array2;

use super::post::{PostTransform, logistic};
use super::{Operator, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Labels, Value};

/// `scores = x · coefficientsᵀ + intercepts`, in f64.
struct Linear {
    /// `[targets, features]`, row by row.
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    targets: usize,
    features: usize,
}

impl Linear {
    fn build(node: &Node<'_>, targets: usize) -> Result<Self, Reason> {
        let wide = |list: &[f32]| list.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (coefficients, mut intercepts) =
            (wide(node.floats("coefficients")), wide(node.floats("intercepts")));
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return Err(format!("{} coefficients do not divide into {targets} rows", coefficients.len()));
        }
        if intercepts.is_empty() {
            intercepts = vec![0.0; targets];
        }
        if intercepts.len() != targets {
            return Err(format!("{} intercepts for {targets} rows of coefficients", intercepts.len()));
        }
        let features = coefficients.len() / targets;
        Ok(Linear { coefficients, intercepts, targets, features })
    }

    /// The raw scores of each row.
    fn rows(&self, x: &Value) -> Result<Vec<Vec<f64>>, Reason> {
        let (rows, columns) = matrix(x.shape())?;
        if columns != self.features {
            return Err(format!("expected {} features, got {columns}", self.features));
        }
        let wide: Vec<f64> = match x {
            Value::F64(x) => x.iter().copied().collect(),
            other => other.to_f32()?.iter().map(|&x| f64::from(x)).collect(),
        };
        let score = |row: &[f64], target: usize| {
            let weights = &self.coefficients[target * self.features..(target + 1) * self.features];
            row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + self.intercepts[target]
        };
        let row = |row: usize| &wide[row * columns..(row + 1) * columns];
        Ok((0..rows).map(|r| (0..self.targets).map(|target| score(row(r), target)).collect()).collect())
    }
}

fn table(rows: Vec<Vec<f64>>, columns: usize) -> Result<Value, Reason> {
    let flat: Vec<f32> = rows.iter().flatten().map(|&score| score as f32).collect();
    let table = Array2::from_shape_vec((rows.len(), columns), flat).map_err(|error| error.to_string())?;
    Ok(Value::F32(table.into_dyn()))
}

/// `LinearClassifier`: labels and scores.
pub(crate) struct Classifier {
    linear: Linear,
    labels: Labels,
    post: PostTransform,
}

impl Classifier {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let labels =
            node.labels("classlabels_ints", "classlabels_strings")?.ok_or("it has no class labels")?;
        let intercepts = node.floats("intercepts").len();
        let rows = if intercepts == 0 { labels.len() } else { intercepts };
        if rows != labels.len() && !(rows == 1 && labels.len() == 2) {
            return Err(format!("{rows} rows of coefficients for {} classes", labels.len()));
        }
        Ok(Classifier { linear: Linear::build(node, rows)?, labels, post: PostTransform::build(node)? })
    }
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut rows = self.linear.rows(need(inputs, 0)?)?;
        let mut classes = Vec::with_capacity(rows.len());
        for scores in &mut rows {
            if let [score] = scores[..] {
                // One row of coefficients decides between two classes.
                classes.push(usize::from(score > 0.0));
                *scores = match self.post {
                    PostTransform::Logistic => vec![logistic(-score), logistic(score)],
                    _ => vec![1.0 - score, score],
                };
                continue;
            }
            let mut best = 0;
            for (class, score) in scores.iter().enumerate() {
                if *score > scores[best] {
                    best = class;
                }
            }
            classes.push(best);
            self.post.apply(scores);
        }
        Ok(vec![self.labels.pick(&classes), table(rows, self.labels.len())?])
    }

    fn labels(&self) -> Option<&Labels> {
        Some(&self.labels)
    }
}

/// `LinearRegressor`.
pub(crate) struct Regressor {
    linear: Linear,
    post: PostTransform,
}

impl Regressor {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let targets =
            usize::try_from(node.int("targets", 1)).map_err(|_| "targets is negative".to_owned())?;
        Ok(Regressor { linear: Linear::build(node, targets)?, post: PostTransform::build(node)? })
    }
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut rows = self.linear.rows(need(inputs, 0)?)?;
        for scores in &mut rows {
            self.post.apply(scores);
        }
        Ok(vec![table(rows, self.linear.targets)?])
    }
}
