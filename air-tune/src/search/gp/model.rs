//! [`Model`]: a Gaussian process with a Matérn-5/2 kernel, its parameters fitted to the largest posterior density.
//!
//! Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4 and 5. Each axis has a length scale of its own; two values of a list are one unit apart,
//! and so are a parameter that exists and one that does not.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::descent::minimize;

/// Least variance of the noise, where the observations have a variance of about one: what keeps the matrix invertible.
const LEAST_NOISE: f64 = 1e-6;

/// What the kernel depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kernel {
    /// One over the square of each axis' length scale.
    pub closeness: Vec<f64>,
    /// Variance of the function.
    pub scale: f64,
    /// Variance of the noise.
    pub noise: f64,
}

/// See the module.
pub(super) struct Model<'a> {
    rows: &'a [Vec<f64>],
    listed: &'a [bool],
    kernel: Kernel,
    factor: Cholesky<f64, Dyn>,
    alpha: DVector<f64>,
}

/// The squared distance along one axis, in units of the axis.
fn apart(a: f64, b: f64, listed: bool) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if listed => f64::from(u8::from(a.to_bits() != b.to_bits())),
        (false, false) => (a - b) * (a - b),
        _ => 1.0,
    }
}

/// Matérn 5/2 of a squared distance, and its derivative by that.
fn matern(squared: f64) -> (f64, f64) {
    let root = (5.0 * squared).sqrt();
    let decay = (-root).exp();
    ((1.0 + root + 5.0 / 3.0 * squared) * decay, -5.0 / 6.0 * (1.0 + root) * decay)
}

impl Kernel {
    /// Where fitting begins when nothing is known.
    pub fn new(axes: usize) -> Self {
        Self { closeness: vec![1.0; axes], scale: 1.0, noise: 1e-2 }
    }

    fn logs(&self) -> Vec<f64> {
        self.closeness.iter().chain([&self.scale, &self.noise]).map(|x| x.ln()).collect()
    }

    fn from_logs(logs: &[f64]) -> Self {
        let axes = logs.len() - 2;
        Self {
            closeness: logs[..axes].iter().map(|x| x.exp()).collect(),
            scale: logs[axes].exp(),
            noise: logs[axes + 1].exp() + LEAST_NOISE,
        }
    }

    /// Goes on from this kernel to the most probable one given the observations, with so many evaluations.
    pub fn fitted(&self, rows: &[Vec<f64>], listed: &[bool], values: &[f64], evaluations: usize) -> Self {
        let pairs: Vec<Vec<f64>> = (0..rows.len())
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| {
                listed
                    .iter()
                    .enumerate()
                    .map(|(at, listed)| apart(rows[i][at], rows[j][at], *listed))
                    .collect()
            })
            .collect();
        let y = DVector::from_column_slice(values);
        let (logs, value) = minimize(self.logs(), (-12.0, 8.0), evaluations, |logs, gradient| {
            surprise(logs, &pairs, &y, gradient)
        });
        if value.is_finite() { Self::from_logs(&logs) } else { self.clone() }
    }
}

/// Minus the logarithm of the posterior density of a kernel, up to a constant, and its gradient by the logarithms of the parameters.
fn surprise(logs: &[f64], pairs: &[Vec<f64>], y: &DVector<f64>, gradient: &mut [f64]) -> f64 {
    let kernel = Kernel::from_logs(logs);
    let (n, axes) = (y.len(), kernel.closeness.len());
    let mut matrix = DMatrix::from_diagonal_element(n, n, kernel.scale + kernel.noise);
    let mut slopes = Vec::with_capacity(pairs.len());
    let mut at = 0;
    for i in 0..n {
        for j in 0..i {
            let squared: f64 = pairs[at].iter().zip(&kernel.closeness).map(|(d, c)| d * c).sum();
            let (value, slope) = matern(squared);
            matrix[(i, j)] = kernel.scale * value;
            matrix[(j, i)] = kernel.scale * value;
            slopes.push(kernel.scale * slope);
            at += 1;
        }
    }
    let Some(factor) = Cholesky::new(matrix.clone()) else { return f64::INFINITY };
    let alpha = factor.solve(y);
    let log_det: f64 = factor.l_dirty().diagonal().iter().map(|x| x.ln()).sum();
    let mut value = 0.5 * y.dot(&alpha) + log_det;

    // d/dθ = tr((K⁻¹ − αα') dK/dθ) / 2, each pair of observations twice.
    let inverse = factor.inverse();
    gradient.fill(0.0);
    let mut at = 0;
    let mut by_scale = 0.0;
    let mut by_noise = 0.0;
    for i in 0..n {
        for j in 0..i {
            let weight = inverse[(i, j)] - alpha[i] * alpha[j];
            for ((out, d), c) in gradient[..axes].iter_mut().zip(&pairs[at]).zip(&kernel.closeness) {
                *out += weight * slopes[at] * d * c;
            }
            by_scale += weight * matrix[(i, j)];
            at += 1;
        }
        let weight = inverse[(i, i)] - alpha[i] * alpha[i];
        by_scale += 0.5 * weight * kernel.scale;
        by_noise += 0.5 * weight;
    }
    gradient[axes] = by_scale;
    gradient[axes + 1] = by_noise * (kernel.noise - LEAST_NOISE);

    // Priors: length scales about the size of the range, neither tiny nor endless; the function's variance about one; little noise.
    for (out, c) in gradient[..axes].iter_mut().zip(&kernel.closeness) {
        value += 0.1 / c + 0.1 * c;
        *out += -0.1 / c + 0.1 * c;
    }
    value += kernel.scale - kernel.scale.ln();
    gradient[axes] += kernel.scale - 1.0;
    let noise = kernel.noise - LEAST_NOISE;
    value += 30.0 * kernel.noise - 0.1 * kernel.noise.ln();
    gradient[axes + 1] += (30.0 - 0.1 / kernel.noise) * noise;
    value
}

impl<'a> Model<'a> {
    /// Conditions the process on observations; nothing where the matrix cannot be inverted.
    pub fn new(rows: &'a [Vec<f64>], listed: &'a [bool], values: &[f64], kernel: Kernel) -> Option<Self> {
        let n = rows.len();
        let mut matrix = DMatrix::from_diagonal_element(n, n, kernel.scale + kernel.noise);
        for i in 0..n {
            for j in 0..i {
                let value = kernel.scale * matern(squared(&rows[i], &rows[j], listed, &kernel)).0;
                matrix[(i, j)] = value;
                matrix[(j, i)] = value;
            }
        }
        let factor = Cholesky::new(matrix)?;
        let alpha = factor.solve(&DVector::from_column_slice(values));
        Some(Self { rows, listed, kernel, factor, alpha })
    }

    fn covariances(&self, point: &[f64]) -> DVector<f64> {
        let one =
            |row: &Vec<f64>| self.kernel.scale * matern(squared(point, row, self.listed, &self.kernel)).0;
        DVector::from_iterator(self.rows.len(), self.rows.iter().map(one))
    }

    /// What is expected at a point.
    pub fn mean(&self, point: &[f64]) -> f64 {
        self.covariances(point).dot(&self.alpha)
    }

    /// Mean and variance of the function at a point, without noise.
    pub fn predict(&self, point: &[f64]) -> (f64, f64) {
        let k = self.covariances(point);
        let variance = self.kernel.scale - k.dot(&self.factor.solve(&k));
        (k.dot(&self.alpha), variance.max(1e-12))
    }

    /// As [`predict`](Self::predict), with the gradients of both by the point's numbers; zero along lists and what does not exist.
    pub fn predict_with_slope(&self, point: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let k = self.covariances(point);
        let solved = self.factor.solve(&k);
        let (mut by_mean, mut by_variance) = (vec![0.0; point.len()], vec![0.0; point.len()]);
        for (i, row) in self.rows.iter().enumerate() {
            let slope = self.kernel.scale * matern(squared(point, row, self.listed, &self.kernel)).1;
            for at in 0..point.len() {
                let step = point[at] - row[at];
                if self.listed[at] || step.is_nan() {
                    continue;
                }
                let change = slope * 2.0 * self.kernel.closeness[at] * step;
                by_mean[at] += change * self.alpha[i];
                by_variance[at] -= 2.0 * change * solved[i];
            }
        }
        (k.dot(&self.alpha), (self.kernel.scale - k.dot(&solved)).max(1e-12), by_mean, by_variance)
    }
}

fn squared(a: &[f64], b: &[f64], listed: &[bool], kernel: &Kernel) -> f64 {
    (0..a.len()).map(|at| kernel.closeness[at] * apart(a[at], b[at], listed[at])).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use air_core::seed::Seed;
    use rand::RngExt;

    use super::*;

    const LISTED: [bool; 3] = [false, false, true];

    fn observations(n: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut rng = Seed::new(9).rng();
        let rows: Vec<Vec<f64>> = (0..n)
            .map(|at| {
                vec![
                    rng.random(),
                    if at % 4 == 0 { f64::NAN } else { rng.random() },
                    f64::from(rng.random_range(0..3)),
                ]
            })
            .collect();
        let values = rows
            .iter()
            .map(|row| (6.0 * row[0]).sin() + row[2] * 0.5 + if row[1].is_nan() { 0.0 } else { row[1] } - 1.0)
            .collect();
        (rows, values)
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (rows, values) = observations(12);
        let pairs: Vec<Vec<f64>> = (0..12)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| (0..3).map(|at| apart(rows[i][at], rows[j][at], LISTED[at])).collect())
            .collect();
        let (y, logs) = (DVector::from_column_slice(&values), vec![0.7, -0.4, 0.2, 0.3, -3.0]);
        let mut gradient = vec![0.0; 5];
        surprise(&logs, &pairs, &y, &mut gradient);
        for at in 0..5 {
            let shifted = |by: f64| {
                let mut logs = logs.clone();
                logs[at] += by;
                surprise(&logs, &pairs, &y, &mut [0.0; 5])
            };
            let slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!(
                (slope - gradient[at]).abs() < 1e-5 * slope.abs().max(1.0),
                "{at}: {slope} {}",
                gradient[at]
            );
        }

        let model = Model::new(&rows, &LISTED, &values, Kernel::from_logs(&logs)).unwrap();
        let point = [0.4, 0.6, 1.0];
        let (mean, variance, by_mean, by_variance) = model.predict_with_slope(&point);
        assert_eq!((mean, variance), model.predict(&point));
        for at in 0..2 {
            let shifted = |by: f64| {
                let mut point = point;
                point[at] += by;
                model.predict(&point)
            };
            let (up, down) = (shifted(1e-5), shifted(-1e-5));
            assert!(((up.0 - down.0) / 2e-5 - by_mean[at]).abs() < 1e-6);
            assert!(((up.1 - down.1) / 2e-5 - by_variance[at]).abs() < 1e-6);
        }
        assert_eq!((by_mean[2], by_variance[2]), (0.0, 0.0));
    }

    #[test]
    fn it_learns_a_function_and_which_axes_matter() {
        let mut rng = Seed::new(2).rng();
        let rows: Vec<Vec<f64>> = (0..40).map(|_| vec![rng.random(), rng.random()]).collect();
        let of = |x: f64| (6.0 * x).sin();
        let values: Vec<f64> = rows.iter().map(|row| of(row[0])).collect();
        let listed = [false, false];
        let kernel = Kernel::new(2).fitted(&rows, &listed, &values, 100);
        assert!(kernel.closeness[0] > 10.0 * kernel.closeness[1], "{kernel:?}");
        let model = Model::new(&rows, &listed, &values, kernel).unwrap();
        for at in 1..10 {
            let x = f64::from(at) / 10.0;
            let (mean, variance) = model.predict(&[x, 0.5]);
            assert!((mean - of(x)).abs() < 0.05 && variance < 0.01, "{x}: {mean} {variance}");
        }
    }
}
