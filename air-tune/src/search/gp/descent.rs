//! Minimisation of a smooth function within a box: limited-memory BFGS with projected steps.
//!
//! Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4 and 7.5; a step that leaves the box ends on its side, and a coordinate that would leave it stands still
//! (Bertsekas, "Projected Newton methods", 1982).

/// Pairs of steps and changes of gradient that are kept.
const MEMORY: usize = 8;
/// Halvings of a step before the descent ends.
const HALVINGS: usize = 20;
/// Share of the decrease that the slope promises (Armijo).
const DECREASE: f64 = 1e-4;

/// Goes down from `x` with at most `evaluations` of `f`, which gives the value and writes the gradient. Returns where it got, and the value there.
///
/// A value that is not a number counts as infinitely large.
pub(super) fn minimize(
    mut x: Vec<f64>,
    (low, high): (f64, f64),
    evaluations: usize,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> (Vec<f64>, f64) {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(&x, &mut gradient);
    let mut left = evaluations.saturating_sub(1);
    let mut pairs: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    while left > 0 && value.is_finite() {
        let free: Vec<bool> = (0..n)
            .map(|at| !((x[at] <= low && gradient[at] > 0.0) || (x[at] >= high && gradient[at] < 0.0)))
            .collect();
        let mut direction = step_of(&gradient, &pairs, &free);
        if dot(&direction, &gradient) >= 0.0 {
            pairs.clear();
            direction = step_of(&gradient, &pairs, &free);
        }
        let length = dot(&direction, &direction).sqrt();
        if length.is_nan() || length < 1e-10 {
            break;
        }
        // Without any curvature the first step has the length one, or what the box has.
        let mut scale = if pairs.is_empty() { (0.1 * (high - low)).min(1.0) / length } else { 1.0 };
        let mut moved = None;
        for _ in 0..HALVINGS.min(left) {
            let next: Vec<f64> =
                x.iter().zip(&direction).map(|(x, d)| (x + scale * d).clamp(low, high)).collect();
            let step: Vec<f64> = next.iter().zip(&x).map(|(a, b)| a - b).collect();
            let mut at_next = vec![0.0; n];
            let there = f(&next, &mut at_next);
            left -= 1;
            if there <= value + DECREASE * dot(&gradient, &step) {
                moved = Some((next, step, at_next, there));
                break;
            }
            scale *= 0.5;
        }
        let Some((next, step, at_next, there)) = moved else { break };
        let change: Vec<f64> = at_next.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-10 * dot(&change, &change) {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push((step, change, 1.0 / curvature));
        }
        let gained = value - there;
        (x, gradient, value) = (next, at_next, there);
        if gained <= 1e-9 * value.abs().max(1.0) {
            break;
        }
    }
    (x, value)
}

/// The two-loop recursion, on the free coordinates.
fn step_of(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>, f64)], free: &[bool]) -> Vec<f64> {
    let mask = |v: &mut [f64]| v.iter_mut().zip(free).filter(|(_, free)| !**free).for_each(|(x, _)| *x = 0.0);
    let mut q = gradient.to_vec();
    mask(&mut q);
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y, rho) in pairs.iter().rev() {
        let alpha = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((_, y, rho)) = pairs.last() {
        let scale = 1.0 / (rho * dot(y, y));
        for q in &mut q {
            *q *= scale;
        }
    }
    for ((s, y, rho), alpha) in pairs.iter().zip(alphas.iter().rev()) {
        let beta = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += s * (alpha - beta));
    }
    mask(&mut q);
    q.into_iter().map(|q| -q).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        let slope = x[1] - x[0] * x[0];
        gradient[0] = -400.0 * x[0] * slope - 2.0 * (1.0 - x[0]);
        gradient[1] = 200.0 * slope;
        100.0 * slope * slope + (1.0 - x[0]).powi(2)
    }

    #[test]
    fn it_reaches_the_minimum_within_the_box_or_on_its_side() {
        let (x, value) = minimize(vec![-1.2, 1.0], (-5.0, 5.0), 200, rosenbrock);
        assert!(value < 1e-8 && (x[0] - 1.0).abs() < 1e-3, "{x:?} {value}");
        // Within [-5, 0.5]² the best is on the side x₀ = 0.5, where x₁ = 0.25.
        let (x, value) = minimize(vec![-1.2, 0.5], (-5.0, 0.5), 200, rosenbrock);
        assert!(
            (x[0] - 0.5).abs() < 1e-6 && (x[1] - 0.25).abs() < 1e-3 && (value - 0.25).abs() < 1e-5,
            "{x:?} {value}"
        );
    }

    #[test]
    fn it_evaluates_no_more_than_it_may_and_never_gets_worse() {
        for most in 1..30 {
            let mut count = 0;
            let (_, value) = minimize(vec![-1.2, 1.0], (-5.0, 5.0), most, |x, gradient| {
                count += 1;
                rosenbrock(x, gradient)
            });
            assert!(count <= most && value <= 24.2 + 1e-9, "{count} of {most}: {value}");
        }
        let (x, value) = minimize(vec![0.3], (0.0, 1.0), 10, |_, _| f64::NAN);
        assert!(x == [0.3] && value.is_nan());
    }
}
