//! Support vector machines (Cortes and Vapnik 1995), as LibSVM trains them: kernels, and `SVMRegressor`. `svm_class` has the classifier.
//!
//! Parameters are `f32` and so are answers; between them it is `f64`, as sums over support vectors lose digits in which scikit-learn and LibSVM are right.

use ndarray::Array2;

use super::{Operator, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// How alike a row and a vector are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kernel {
    /// `a · b`
    Linear,
    /// `(gamma a · b + coef0) ^ degree`
    Poly { gamma: f64, coef0: f64, degree: f64 },
    /// `exp(-gamma |a - b|²)`
    Rbf { gamma: f64 },
    /// `tanh(gamma a · b + coef0)`
    Sigmoid { gamma: f64, coef0: f64 },
}

impl Kernel {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let name = node.string("kernel_type", "LINEAR")?;
        let [gamma, coef0, degree] = match *node.floats("kernel_params") {
            [gamma, coef0, degree] => [gamma, coef0, degree].map(f64::from),
            [] if name == "LINEAR" => [0.0; 3],
            ref other => {
                let count = other.len();
                return Err(format!("kernel_params has {count} numbers, expected gamma, coef0 and degree"));
            }
        };
        Ok(match name {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Poly { gamma, coef0, degree },
            "RBF" => Kernel::Rbf { gamma },
            "SIGMOID" => Kernel::Sigmoid { gamma, coef0 },
            other => return Err(format!("unknown kernel_type {other}")),
        })
    }

    pub(super) fn of(self, a: &[f64], b: &[f64]) -> f64 {
        let dot = || a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        match self {
            Kernel::Linear => dot(),
            Kernel::Poly { gamma, coef0, degree } => (gamma * dot() + coef0).powf(degree),
            Kernel::Rbf { gamma } => {
                let square = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                (-gamma * square).exp()
            }
            Kernel::Sigmoid { gamma, coef0 } => (gamma * dot() + coef0).tanh(),
        }
    }
}

/// Vectors of one length, one after the other.
pub(super) struct Vectors {
    flat: Vec<f64>,
    pub features: usize,
}

impl Vectors {
    /// So many vectors of an attribute.
    pub(super) fn build(node: &Node<'_>, name: &str, count: usize) -> Result<Self, Reason> {
        let flat = node.floats(name);
        if count == 0 || flat.is_empty() || !flat.len().is_multiple_of(count) {
            return Err(format!("{name} has {} numbers, which are not {count} vectors", flat.len()));
        }
        Ok(Vectors { flat: wide(flat), features: flat.len() / count })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.flat.chunks_exact(self.features)
    }

    /// Rows of as many features.
    pub(super) fn rows(&self, x: &Value) -> Result<Rows, Reason> {
        let (rows, columns) = matrix(x.shape())?;
        if columns != self.features {
            return Err(format!("expected {} features, got {columns}", self.features));
        }
        let flat = x.to_f32()?.iter().map(|&x| f64::from(x)).collect();
        Ok(Rows { flat, count: rows, columns })
    }
}

/// Rows of features.
pub(super) struct Rows {
    flat: Vec<f64>,
    count: usize,
    columns: usize,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.count).map(|row| &self.flat[row * self.columns..(row + 1) * self.columns])
    }
}

pub(super) fn wide(list: &[f32]) -> Vec<f64> {
    list.iter().map(|&x| f64::from(x)).collect()
}

/// Values, so many to a row.
pub(super) fn table(flat: Vec<f32>, columns: usize) -> Result<Value, Reason> {
    let rows = flat.len() / columns.max(1);
    let table = Array2::from_shape_vec((rows, columns), flat).map_err(|error| error.to_string())?;
    Ok(Value::F32(table.into_dyn()))
}

/// `SVMRegressor`: one number a row, or which side of one class it is on.
pub(crate) struct Regressor {
    kernel: Kernel,
    vectors: Vectors,
    /// Of each vector.
    coefficients: Vec<f64>,
    rho: f64,
    one_class: bool,
}

impl Regressor {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        match node.string("post_transform", "NONE")? {
            "NONE" => {}
            other => return Err(format!("the post_transform {other} is not supported")),
        }
        let &[rho] = node.floats("rho") else {
            return Err(format!("rho has {} numbers, expected one", node.floats("rho").len()));
        };
        let rho = f64::from(rho);
        let one_class = node.int("one_class", 0) != 0;
        let supports = node.int("n_supports", 0);
        let supports = usize::try_from(supports).map_err(|_| format!("n_supports is {supports}"))?;
        if supports == 0 {
            // The coefficients are those of the features.
            let vectors = Vectors::build(node, "coefficients", 1)?;
            return Ok(Regressor {
                kernel: Kernel::Linear,
                vectors,
                coefficients: vec![1.0],
                rho,
                one_class,
            });
        }
        let coefficients = wide(node.floats("coefficients"));
        if coefficients.len() != supports {
            return Err(format!("{} coefficients for {supports} support vectors", coefficients.len()));
        }
        let vectors = Vectors::build(node, "support_vectors", supports)?;
        Ok(Regressor { kernel: Kernel::build(node)?, vectors, coefficients, rho, one_class })
    }
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let rows = self.vectors.rows(need(inputs, 0)?)?;
        let number = |row: &[f64]| {
            let vectors = self.vectors.iter().zip(&self.coefficients);
            let sum = vectors.map(|(vector, weight)| weight * self.kernel.of(row, vector)).sum::<f64>();
            match (self.one_class, sum + self.rho) {
                (false, number) => number as f32,
                (true, number) if number > 0.0 => 1.0,
                (true, _) => -1.0,
            }
        };
        Ok(vec![table(rows.iter().map(number).collect(), 1)?])
    }
}
