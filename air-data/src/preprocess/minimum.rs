//! The minimum of a function of one number between two bounds.

/// Evaluations after which the best so far is taken.
const STEPS: usize = 500;

/// Where `f` is smallest between `low` and `high`, to about `tolerance`: Brent's method, golden sections with parabolas where they fit ("Algorithms for
/// Minimization without Derivatives", 1973, chapter 5). Of several minima it finds one.
pub(super) fn minimum(mut f: impl FnMut(f64) -> f64, low: f64, high: f64, tolerance: f64) -> f64 {
    let golden = 0.5 * (3.0 - 5.0_f64.sqrt());
    let (mut low, mut high) = (low, high);
    let mut best = low + golden * (high - low);
    let mut at_best = f(best);
    // The second best, and the one before that.
    let (mut second, mut at_second, mut third, mut at_third) = (best, at_best, best, at_best);
    let (mut step, mut before) = (0.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        let near = f64::EPSILON.sqrt() * best.abs() + tolerance / 3.0;
        if (best - middle).abs() <= 2.0 * near - 0.5 * (high - low) {
            break;
        }
        let mut parabola = None;
        if before.abs() > near {
            let r = (best - second) * (at_best - at_third);
            let q = (best - third) * (at_best - at_second);
            let p = (best - third) * q - (best - second) * r;
            let q = 2.0 * (q - r);
            let (p, q) = if q > 0.0 { (-p, q) } else { (p, -q) };
            let fits = p.abs() < (0.5 * q * before).abs() && p > q * (low - best) && p < q * (high - best);
            parabola = fits.then(|| p / q);
        }
        before = step;
        step = match parabola {
            Some(step) if (best + step - low).min(high - best - step) >= 2.0 * near => step,
            // Not too near to a bound.
            Some(_) => near.copysign(middle - best),
            None => {
                before = if best >= middle { low - best } else { high - best };
                golden * before
            }
        };
        let next = best + if step.abs() >= near { step } else { near.copysign(step) };
        let at_next = f(next);
        if at_next <= at_best {
            if next >= best {
                low = best;
            } else {
                high = best;
            }
            (third, at_third) = (second, at_second);
            (second, at_second) = (best, at_best);
            (best, at_best) = (next, at_next);
        } else {
            if next < best {
                low = next;
            } else {
                high = next;
            }
            if at_next <= at_second || second == best {
                (third, at_third) = (second, at_second);
                (second, at_second) = (next, at_next);
            } else if at_next <= at_third || third == best || third == second {
                (third, at_third) = (next, at_next);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minima_inside_and_at_a_bound() {
        for at in [-3.0, 0.0, 0.7, 12.5] {
            let found = minimum(|x: f64| (x - at).powi(2) + 1.0, -20.0, 30.0, 1e-9);
            assert!((found - at).abs() < 1e-7, "{found} {at}");
            let steep = minimum(|x: f64| (x - at).abs().sqrt(), -20.0, 30.0, 1e-9);
            assert!((steep - at).abs() < 1e-7, "{steep} {at}");
        }
        assert!((minimum(|x| x, 2.0, 5.0, 1e-9) - 2.0).abs() < 1e-7);
        let mut calls = 0;
        let cosine = minimum(
            |x: f64| {
                calls += 1;
                x.cos()
            },
            0.0,
            6.0,
            1e-9,
        );
        assert!((cosine - std::f64::consts::PI).abs() < 1e-7 && calls < 30, "{cosine} {calls}");
    }
}
