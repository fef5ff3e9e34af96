//! [`Model`]: a Gaussian process with a Matérn-5/2 kernel, its parameters fitted to the largest posterior density.
//!
//! Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4 and 5. Each axis has a length scale of its own; two values of a list are one unit apart,
//! and so are a parameter that exists and one that does not.

use nalgebra::{Cholesky, DMatrix, DVector};

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
    columns: Columns,
    listed: &'a [bool],
    kernel: Kernel,
    /// The inverse of the covariance's Cholesky factor.
    inverse_root: DMatrix<f64>,
    alpha: DVector<f64>,
}

/// Rows by their axes, so that what is done along an axis is done to numbers that lie side by side.
struct Columns {
    rows: usize,
    /// Of each axis the numbers, and whether each is one.
    axes: Vec<(Vec<f64>, bool)>,
}

impl Columns {
    fn new(rows: &[Vec<f64>], axes: usize) -> Self {
        let column = |at: usize| {
            let numbers: Vec<f64> = rows.iter().map(|row| row[at]).collect();
            let whole = !numbers.iter().any(|number| number.is_nan());
            (numbers, whole)
        };
        Self { rows: rows.len(), axes: (0..axes).map(column).collect() }
    }

    /// Writes each row's squared distance from a point, weighted by axis.
    fn squared(&self, point: &[f64], listed: &[bool], closeness: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        for (at, (numbers, whole)) in self.axes.iter().enumerate() {
            let (x, weight) = (point[at], closeness[at]);
            if *whole && !listed[at] && !x.is_nan() {
                for (out, number) in out.iter_mut().zip(numbers) {
                    *out += weight * (x - number) * (x - number);
                }
            } else {
                for (out, number) in out.iter_mut().zip(numbers) {
                    *out += weight * apart(x, *number, listed[at]);
                }
            }
        }
    }
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

/// The inverse of a lower triangular matrix.
fn inverse_of_lower(lower: &DMatrix<f64>) -> DMatrix<f64> {
    let n = lower.nrows();
    let mut inverse = DMatrix::identity(n, n);
    for at in 0..n {
        // Above the diagonal there is nothing.
        let mut column = inverse.view_mut((at, at), (n - at, 1));
        lower.view((at, at), (n - at, n - at)).solve_lower_triangular_unchecked_mut(&mut column);
    }
    inverse
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
        let pairs = pairs(rows, listed);
        let y = DVector::from_column_slice(values);
        let (logs, value) = minimize(self.logs(), (-12.0, 8.0), evaluations, |logs, gradient| {
            surprise(logs, &pairs, &y, gradient)
        });
        if value.is_finite() { Self::from_logs(&logs) } else { self.clone() }
    }
}

/// Along each axis the squared distances of all pairs of rows, (1, 0), (2, 0), (2, 1), ….
fn pairs(rows: &[Vec<f64>], listed: &[bool]) -> Vec<Vec<f64>> {
    let along = |(at, listed): (usize, &bool)| {
        let earlier = |i: usize| (0..i).map(move |j| (i, j));
        (0..rows.len()).flat_map(earlier).map(|(i, j)| apart(rows[i][at], rows[j][at], *listed)).collect()
    };
    listed.iter().enumerate().map(along).collect()
}

/// Minus the logarithm of the posterior density of a kernel, up to a constant, and its gradient by the logarithms of the parameters.
fn surprise(logs: &[f64], pairs: &[Vec<f64>], y: &DVector<f64>, gradient: &mut [f64]) -> f64 {
    let kernel = Kernel::from_logs(logs);
    let (n, axes) = (y.len(), kernel.closeness.len());
    let mut squared = vec![0.0; n * n.saturating_sub(1) / 2];
    for (along, closeness) in pairs.iter().zip(&kernel.closeness) {
        for (sum, d) in squared.iter_mut().zip(along) {
            *sum += closeness * d;
        }
    }
    let (values, mut slopes): (Vec<f64>, Vec<f64>) = squared.into_iter().map(matern).unzip();
    let mut matrix = DMatrix::from_diagonal_element(n, n, kernel.scale + kernel.noise);
    let mut at = 0;
    for i in 0..n {
        for j in 0..i {
            // The lower half is all that is read.
            matrix[(i, j)] = kernel.scale * values[at];
            at += 1;
        }
    }
    let Some(factor) = Cholesky::new(matrix) else { return f64::INFINITY };
    let alpha = factor.solve(y);
    let lower = factor.l();
    let log_det: f64 = lower.diagonal().iter().map(|x| x.ln()).sum();
    let mut value = 0.5 * y.dot(&alpha) + log_det;

    // d/dθ = tr((K⁻¹ − αα') dK/dθ) / 2, each pair of observations twice.
    let root = inverse_of_lower(&lower);
    let inverse = root.tr_mul(&root);
    let (mut by_scale, mut by_noise) = (0.0, 0.0);
    let mut at = 0;
    for i in 0..n {
        for j in 0..i {
            let weight = kernel.scale * (inverse[(j, i)] - alpha[i] * alpha[j]);
            by_scale += weight * values[at];
            slopes[at] *= weight;
            at += 1;
        }
        let weight = inverse[(i, i)] - alpha[i] * alpha[i];
        by_scale += 0.5 * weight * kernel.scale;
        by_noise += 0.5 * weight;
    }
    for ((out, along), closeness) in gradient[..axes].iter_mut().zip(pairs).zip(&kernel.closeness) {
        *out = closeness * slopes.iter().zip(along).map(|(slope, d)| slope * d).sum::<f64>();
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
    pub fn new(rows: &[Vec<f64>], listed: &'a [bool], values: &[f64], kernel: Kernel) -> Option<Self> {
        let n = rows.len();
        let columns = Columns::new(rows, listed.len());
        let mut matrix = DMatrix::zeros(n, n);
        for (at, row) in rows.iter().enumerate() {
            let mut column = matrix.column_mut(at);
            columns.squared(row, listed, &kernel.closeness, column.as_mut_slice());
            column.apply(|squared| *squared = kernel.scale * matern(*squared).0);
            column[at] = kernel.scale + kernel.noise;
        }
        let factor = Cholesky::new(matrix)?;
        let alpha = factor.solve(&DVector::from_column_slice(values));
        Some(Self { columns, listed, kernel, inverse_root: inverse_of_lower(&factor.unpack()), alpha })
    }

    /// What is expected at a point.
    pub fn mean(&self, point: &[f64]) -> f64 {
        let mut k = DVector::zeros(self.columns.rows);
        self.covariances(point, k.as_mut_slice());
        k.dot(&self.alpha)
    }

    /// Writes a point's covariances with all observations.
    fn covariances(&self, point: &[f64], out: &mut [f64]) {
        self.columns.squared(point, self.listed, &self.kernel.closeness, out);
        for value in out {
            *value = self.kernel.scale * matern(*value).0;
        }
    }

    /// Mean and variance of the function at points, without noise.
    pub fn predict(&self, points: &[Vec<f64>]) -> Vec<(f64, f64)> {
        let mut k = DMatrix::zeros(self.columns.rows, points.len());
        for (point, mut column) in points.iter().zip(k.column_iter_mut()) {
            self.covariances(point, column.as_mut_slice());
        }
        let means = k.tr_mul(&self.alpha);
        let known = &self.inverse_root * k;
        let variance = |known: f64| (self.kernel.scale - known).max(1e-12);
        means.iter().zip(known.column_iter()).map(|(mean, k)| (*mean, variance(k.norm_squared()))).collect()
    }

    /// As [`predict`](Self::predict) at one point, with the gradients of both by the point's numbers; zero along lists and what does not exist.
    pub fn predict_with_slope(&self, point: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let mut slopes = vec![0.0; self.columns.rows];
        self.columns.squared(point, self.listed, &self.kernel.closeness, &mut slopes);
        let mut k = DVector::zeros(slopes.len());
        for (slope, k) in slopes.iter_mut().zip(k.iter_mut()) {
            let (value, by_squared) = matern(*slope);
            (*k, *slope) = (self.kernel.scale * value, self.kernel.scale * by_squared);
        }
        let known = &self.inverse_root * &k;
        let variance = (self.kernel.scale - known.norm_squared()).max(1e-12);
        let solved = self.inverse_root.tr_mul(&known);
        let (mut by_mean, mut by_variance) = (vec![0.0; point.len()], vec![0.0; point.len()]);
        for (at, (numbers, _)) in self.columns.axes.iter().enumerate() {
            if self.listed[at] || point[at].is_nan() {
                continue;
            }
            let (mut of_mean, mut of_variance) = (0.0, 0.0);
            for (i, number) in numbers.iter().enumerate().filter(|(_, number)| !number.is_nan()) {
                let change = slopes[i] * 2.0 * self.kernel.closeness[at] * (point[at] - number);
                of_mean += change * self.alpha[i];
                of_variance -= 2.0 * change * solved[i];
            }
            (by_mean[at], by_variance[at]) = (of_mean, of_variance);
        }
        (k.dot(&self.alpha), variance, by_mean, by_variance)
    }
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
        let pairs = pairs(&rows, &LISTED);
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
        let one = |point: &[f64]| model.predict(&[point.to_vec()])[0];
        let (same_mean, same_variance) = one(&point);
        assert!((mean - same_mean).abs() < 1e-12 && (variance - same_variance).abs() < 1e-12);
        for at in 0..2 {
            let shifted = |by: f64| {
                let mut point = point;
                point[at] += by;
                one(&point)
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
            let (mean, variance) = model.predict(&[vec![x, 0.5]])[0];
            assert!((mean - of(x)).abs() < 0.05 && variance < 0.01, "{x}: {mean} {variance}");
        }
    }
}
