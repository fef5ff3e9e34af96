//! [`Strategy`]: the distribution that CMA-ES samples from, and how a generation changes it.
//!
//! Hansen, "The CMA Evolution Strategy: A Tutorial", 2016 (arXiv:1604.00772), with its default parameters; names of fields are the tutorial's symbols.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// A condition number of the covariance above this ends a run: steps no longer mean anything.
const ILL_CONDITIONED: f64 = 1e14;
/// Standard deviations below this, of the unit interval, end a run: it has converged.
const CONVERGED: f64 = 1e-9;

/// See the module.
#[derive(Debug)]
pub(super) struct Strategy {
    mean: DVector<f64>,
    sigma: f64,
    covariance: DMatrix<f64>,
    /// Square root of the covariance: eigenvectors times the roots of the eigenvalues.
    root: DMatrix<f64>,
    /// Its inverse, symmetric.
    whitening: DMatrix<f64>,
    path_sigma: DVector<f64>,
    path_c: DVector<f64>,
    generation: u64,
    conditioned: bool,
    rates: Rates,
}

#[derive(Debug)]
struct Rates {
    /// Of a whole generation, best first: those of the better half sum to one, the others are below zero.
    weights: Vec<f64>,
    mu_eff: f64,
    c_sigma: f64,
    d_sigma: f64,
    c_c: f64,
    c_1: f64,
    c_mu: f64,
    /// The expected length of a standard normal vector.
    chi: f64,
}

/// The sum of weights, squared, over the sum of their squares.
fn effective(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    sum * sum / weights.iter().map(|w| w * w).sum::<f64>()
}

impl Rates {
    /// The tutorial's table 1.
    fn new(dims: usize, population: usize) -> Self {
        let (n, mu) = (dims as f64, population / 2);
        let raw: Vec<f64> = (1..=population)
            .map(|rank| f64::midpoint(population as f64, 1.0).ln() - (rank as f64).ln())
            .collect();
        let (mu_eff, mu_eff_worse) = (effective(&raw[..mu]), effective(&raw[mu..]));
        let c_1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let c_mu = (1.0 - c_1).min(2.0 * (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / ((n + 2.0).powi(2) + mu_eff));
        // What is bad may shrink the covariance as much as it can without taking its definiteness.
        let worse = (1.0 + c_1 / c_mu)
            .min(1.0 + 2.0 * mu_eff_worse / (mu_eff + 2.0))
            .min((1.0 - c_1 - c_mu) / (n * c_mu));
        let sum = |sign: f64| raw.iter().map(|w| (sign * w).max(0.0)).sum::<f64>();
        let (better_sum, worse_sum) = (sum(1.0), sum(-1.0));
        let weights =
            raw.iter().map(|w| if *w >= 0.0 { w / better_sum } else { worse.max(0.0) * w / worse_sum });
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        Self {
            weights: weights.collect(),
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            c_1,
            c_mu,
            chi: n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)),
        }
    }
}

/// The tutorial's population for so many dimensions.
pub(super) fn default_population(dims: usize) -> usize {
    4 + (3.0 * (dims as f64).ln()) as usize
}

impl Strategy {
    /// A round distribution about `mean`.
    pub fn new(mean: Vec<f64>, sigma: f64, population: usize) -> Self {
        let n = mean.len();
        Self {
            mean: DVector::from_vec(mean),
            sigma,
            covariance: DMatrix::identity(n, n),
            root: DMatrix::identity(n, n),
            whitening: DMatrix::identity(n, n),
            path_sigma: DVector::zeros(n),
            path_c: DVector::zeros(n),
            generation: 0,
            conditioned: true,
            rates: Rates::new(n, population),
        }
    }

    pub fn population(&self) -> usize {
        self.rates.weights.len()
    }

    /// The point that a standard normal vector becomes.
    pub fn point(&self, normal: &[f64]) -> Vec<f64> {
        let step = &self.root * DVector::from_column_slice(normal) * self.sigma;
        (&self.mean + step).as_slice().to_vec()
    }

    pub fn mean(&self) -> &[f64] {
        self.mean.as_slice()
    }

    /// The standard deviation along an axis.
    pub fn deviation(&self, at: usize) -> f64 {
        self.sigma * self.covariance[(at, at)].max(0.0).sqrt()
    }

    /// Whether it has converged or degenerated: what it samples teaches nothing more.
    pub fn is_over(&self) -> bool {
        !self.conditioned || (0..self.mean.len()).all(|at| self.deviation(at) < CONVERGED)
    }

    /// Moves towards the better half of a generation, and away from where the worse half is; `points` are ordered, best first.
    pub fn update(&mut self, points: &[&[f64]]) {
        let Rates { weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, chi } = &self.rates;
        let dims = self.mean.len();
        self.generation += 1;
        let steps: Vec<DVector<f64>> = points
            .iter()
            .map(|point| (DVector::from_column_slice(point) - &self.mean) / self.sigma)
            .collect();
        let mut step = DVector::zeros(dims);
        for (weight, y) in weights.iter().zip(&steps).filter(|(weight, _)| **weight > 0.0) {
            step.axpy(*weight, y, 1.0);
        }
        self.mean += &step * self.sigma;

        let gain = (c_sigma * (2.0 - c_sigma) * mu_eff).sqrt();
        self.path_sigma = &self.path_sigma * (1.0 - c_sigma) + &self.whitening * &step * gain;
        let length = self.path_sigma.norm();
        let settled = 1.0 - (1.0 - c_sigma).powf(2.0 * self.generation as f64);
        let stalled = length / settled.sqrt() >= (1.4 + 2.0 / (dims as f64 + 1.0)) * chi;
        self.path_c *= 1.0 - c_c;
        if !stalled {
            self.path_c += step * (c_c * (2.0 - c_c) * mu_eff).sqrt();
        }
        let lost = if stalled { c_1 * c_c * (2.0 - c_c) } else { 0.0 };
        self.covariance *= 1.0 - c_1 - c_mu * weights.iter().sum::<f64>() + lost;
        self.covariance.ger(*c_1, &self.path_c, &self.path_c, 1.0);
        for (weight, y) in weights.iter().zip(&steps) {
            // However far away something bad is, it takes no more than its share.
            let reach = if *weight < 0.0 {
                dims as f64 / (&self.whitening * y).norm_squared().max(1e-12)
            } else {
                1.0
            };
            self.covariance.ger(c_mu * weight * reach, y, y, 1.0);
        }
        self.sigma *= ((length / chi - 1.0) * c_sigma / d_sigma).exp();
        self.decompose();
    }

    fn decompose(&mut self) {
        let eigen = SymmetricEigen::new(self.covariance.clone());
        let (least, most) = (eigen.eigenvalues.min(), eigen.eigenvalues.max());
        self.conditioned =
            least > 0.0 && most / least < ILL_CONDITIONED && self.sigma.is_finite() && self.sigma > 0.0;
        if self.conditioned {
            let roots = eigen.eigenvalues.map(f64::sqrt);
            self.root = &eigen.eigenvectors * DMatrix::from_diagonal(&roots);
            self.whitening = &eigen.eigenvectors
                * DMatrix::from_diagonal(&roots.map(f64::recip))
                * eigen.eigenvectors.transpose();
        }
    }
}
