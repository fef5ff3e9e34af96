//! Normal distributions over continuous actions, one for each item, independent of each other.

use rand::RngExt as _;
use rand_pcg::Pcg64;

/// ½ log 2π.
pub(crate) const HALF_LOG_TAU: f32 = 0.918_938_5;

/// Fills `out` with standard normal values (Box–Muller, both values of a pair; `1 − u` keeps the logarithm off zero).
#[inline]
pub fn fill(rng: &mut Pcg64, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        let (u, v): (f32, f32) = (rng.random(), rng.random());
        let radius = (-2.0 * (1.0 - u).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * v).sin_cos();
        pair[0] = radius * cos;
        if let Some(second) = pair.get_mut(1) {
            *second = radius * sin;
        }
    }
}

/// Log-density of `x` under means `mean` and log standard deviations `log_std`, summed over the items.
#[inline]
pub fn log_prob(x: &[f32], mean: &[f32], log_std: &[f32]) -> f32 {
    x.iter()
        .zip(mean)
        .zip(log_std)
        .map(|((x, mean), log_std)| {
            let z = (x - mean) * (-log_std).exp();
            -0.5 * z * z - log_std - HALF_LOG_TAU
        })
        .sum()
}

/// Entropy in nats: Σ (log σ + ½ log 2πe).
#[inline]
pub fn entropy(log_std: &[f32]) -> f32 {
    log_std.iter().map(|log_std| log_std + HALF_LOG_TAU + 0.5).sum()
}

#[cfg(test)]
mod tests {
    use air_core::seed::Seed;

    use super::*;

    #[test]
    fn draws_have_the_moments_of_a_standard_normal() {
        let mut draws = vec![0.0; 100_001];
        fill(&mut Seed::new(1).rng(), &mut draws);
        let n = draws.len() as f64;
        let moment = |k: i32| draws.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
    }

    #[test]
    fn the_density_integrates_to_one_and_gives_the_entropy() {
        let (mean, log_std) = ([0.3], [-0.4]);
        let (mut mass, mut h) = (0.0, 0.0);
        let dx = 1e-3;
        for i in -8000..8000 {
            let log_p = log_prob(&[i as f32 * dx], &mean, &log_std);
            mass += log_p.exp() * dx;
            h -= log_p.exp() * log_p * dx;
        }
        assert!((mass - 1.0).abs() < 1e-3 && (h - entropy(&log_std)).abs() < 1e-3, "{mass} {h}");
    }
}
